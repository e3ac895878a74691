package trackd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	trackdv1 "trackd.dev/clients/go/trackd/v1"
)

const (
	mebibyte = 1 << 20
	// The transport takes messages of 8 MiB; a larger one would end the stream instead of being refused.
	eventBytesMax = 7 * mebibyte
)

// ErrClosed is what Send returns once the Appender is closed.
var ErrClosed = errors.New("trackd: the Appender is closed")

// AppenderConfig says how an Appender sends. Zero values stand for what is named here.
type AppenderConfig struct {
	// Source names the service that sends. Required: 1 to 128 letters, digits and "_.:/-".
	Source string
	// Durability is what the answers shall promise: on disk.
	Durability Durability
	// OnResult is called for each answer, in order of answers, on a goroutine of the Appender. It must not call Send,
	// Flush or Close.
	OnResult func(BatchResult)
	// BatchEvents and BatchBytes bound one batch: 1,000 and 1 MiB. What the daemon takes bounds it as well.
	BatchEvents, BatchBytes int
	// Linger is how long a batch may wait to be filled: 100 ms. Negative: until it is full, or until Flush or Close.
	Linger time.Duration
	// WindowBatches and WindowBytes bound what is handed over and not answered: 32 and 16 MiB. Send blocks above them.
	WindowBatches, WindowBytes int
	// GiveUpAfter is how long it goes on without an answer for any event: 60 s.
	GiveUpAfter time.Duration
	// AnswerTimeout is how long the oldest batch on a stream may wait for its answer before the stream is replaced: 20 s.
	AnswerTimeout time.Duration
	// Backoff says how long it waits after a failure.
	Backoff Backoff
}

func (c AppenderConfig) withDefaults() AppenderConfig {
	number := func(value *int, standard int) {
		if *value <= 0 {
			*value = standard
		}
	}
	duration := func(value *time.Duration, standard time.Duration) {
		if *value <= 0 {
			*value = standard
		}
	}
	number(&c.BatchEvents, 1_000)
	number(&c.BatchBytes, mebibyte)
	number(&c.WindowBatches, 32)
	number(&c.WindowBytes, 16*mebibyte)
	duration(&c.GiveUpAfter, time.Minute)
	duration(&c.AnswerTimeout, 20*time.Second)
	if c.Linger == 0 {
		c.Linger = 100 * time.Millisecond
	}
	if c.BatchBytes > eventBytesMax {
		c.BatchBytes = eventBytesMax
	}
	return c
}

// An Appender sends events over AppendStream and sends again what was not answered. Goroutines may share it.
//
// The daemon must know each event when it comes again, so an event without an id is given one, in place. A broken
// stream, a killed daemon, a refusal "for now": all are waited out with backoff, up to GiveUpAfter without an answer;
// then every call returns a *GaveUpError. Memory is bounded by the window.
type Appender struct {
	config  AppenderConfig
	stub    trackdv1.IngestServiceClient
	context context.Context
	cancel  context.CancelFunc
	stopped chan struct{} // closed when the supervisor has ended

	mutex    sync.Mutex
	changed  chan struct{} // closed and replaced whenever something below changes
	window   window
	part     []entry // the batch that is being filled
	bytes    int     // of part
	due      bool    // part goes as it is, as soon as there is room
	linger   *time.Timer
	next     int64 // the sequence of the next event
	totals   Totals
	closing  bool
	closed   time.Time // when closing began
	paused   time.Time // nothing is sent before
	delays   *delays
	patience patience
	last     error // the last one met
	failure  error // the one that ended it
}

// NewAppender begins to send through the client's connection; close it before the client. Nothing is checked with the
// daemon yet: what it refuses comes out of Send, Flush or Close as a *GaveUpError whose cause is an *Error.
func (c *Client) NewAppender(config AppenderConfig) *Appender {
	config = config.withDefaults()
	a := &Appender{
		config:   config,
		stub:     c.ingest,
		stopped:  make(chan struct{}),
		changed:  make(chan struct{}),
		window:   window{batchesMax: config.WindowBatches, bytesMax: config.WindowBytes},
		bytes:    batchOverheadBytes,
		delays:   newDelays(config.Backoff),
		patience: patience{limit: config.GiveUpAfter},
	}
	a.context, a.cancel = context.WithCancel(context.Background())
	a.linger = time.AfterFunc(time.Hour, a.lingered)
	a.linger.Stop()
	go a.supervise()
	return a
}

// Send takes over the events, in order; it blocks while the window is full. Do not change them afterwards.
//
// When it returns an error, some of the events may have been taken over. Sending them all again is safe: the same ids
// are stored once. An event of more than 7 MiB is an *Error; those before it are taken over.
func (a *Appender) Send(ctx context.Context, events ...*Event) error {
	for _, event := range events {
		identify(event)
		size := encodedBytes(event)
		if size > eventBytesMax {
			return &Error{
				Code:    codes.InvalidArgument,
				Reason:  ReasonEventTooLarge,
				Message: fmt.Sprintf("one event of %d bytes; no daemon takes more than %d", size, eventBytesMax),
			}
		}
		if err := a.put(ctx, event, size); err != nil {
			return err
		}
	}
	return nil
}

// Flush waits until everything that was handed over before has its answer, and returns the totals so far. It returns
// the error of the context if that ends earlier; the events stay with the Appender.
func (a *Appender) Flush(ctx context.Context) (Totals, error) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	target := a.next
	a.due = len(a.part) > 0
	a.promote()
	err := a.wait(ctx, func() bool { return a.failure != nil || a.oldestOpen() >= target })
	if a.failure != nil {
		err = a.failure
	}
	return a.totals, err
}

// Close flushes, ends the stream in order and returns the totals. It is closed even if that fails; if the context ends
// before everything is answered it returns a *GaveUpError. Closing twice is fine.
func (a *Appender) Close(ctx context.Context) (Totals, error) {
	_, err := a.Flush(ctx)
	a.mutex.Lock()
	if err != nil && a.failure == nil {
		a.failure = a.gaveUp("it was closed before", err)
	}
	if !a.closing {
		a.closing, a.closed = true, time.Now()
		a.due = len(a.part) > 0 // what another goroutine has sent meanwhile
		a.promote()
	}
	a.broadcast()
	a.mutex.Unlock()
	select {
	case <-a.stopped:
	case <-ctx.Done():
	}
	a.cancel()
	<-a.stopped
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.linger.Stop()
	return a.totals, a.failure
}

// Totals are the sums over all answers so far.
func (a *Appender) Totals() Totals {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.totals
}

// Unacknowledged counts the events that were handed over and are not finally answered.
func (a *Appender) Unacknowledged() int64 {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.unacknowledged()
}

func (a *Appender) put(ctx context.Context, event *Event, size int) error {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	full := func() bool {
		return len(a.part) >= a.config.BatchEvents || (len(a.part) > 0 && a.bytes+size > a.config.BatchBytes)
	}
	for full() && a.failure == nil && !a.closing {
		if a.window.hasRoom() {
			a.handOver()
		} else if err := a.wait(ctx, func() bool { return a.failure != nil || a.closing || a.window.hasRoom() }); err != nil {
			return err
		}
	}
	if a.failure != nil {
		return a.failure
	}
	if a.closing {
		return ErrClosed
	}
	if len(a.part) == 0 && a.config.Linger > 0 {
		a.linger.Reset(a.config.Linger)
	}
	a.part = append(a.part, entry{event, a.next, size})
	a.bytes += size
	a.next++
	a.promote()
	return nil
}

// Below, the caller holds the mutex unless it says otherwise.

// promote makes a batch of what is being filled, if it is time and there is room.
func (a *Appender) promote() {
	if len(a.part) > 0 && (a.due || len(a.part) >= a.config.BatchEvents) && a.window.hasRoom() {
		a.handOver()
	}
}

func (a *Appender) handOver() {
	a.window.add(a.part)
	a.part, a.bytes, a.due = nil, batchOverheadBytes, false
	a.patience.watch(time.Now(), true)
	a.broadcast()
}

// lingered is called by the timer, without the mutex. It may come late, for a younger batch: that one goes early.
func (a *Appender) lingered() {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.due = len(a.part) > 0
	a.promote()
}

func (a *Appender) broadcast() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// wait returns when the condition holds, or with the error of the context. It lets go of the mutex meanwhile.
func (a *Appender) wait(ctx context.Context, condition func() bool) error {
	for !condition() {
		changed := a.changed
		a.mutex.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		}
		a.mutex.Lock()
		if err != nil && !condition() {
			return err
		}
	}
	return nil
}

// waitFor is wait for so long at most.
func (a *Appender) waitFor(limit time.Duration, condition func() bool) {
	ctx, cancel := context.WithTimeout(a.context, limit)
	defer cancel()
	_ = a.wait(ctx, condition) // that the time is over is no error here
}

// oldestOpen is the sequence of the oldest event without an answer; that of the next event if there is none.
func (a *Appender) oldestOpen() int64 {
	oldest := a.next
	if len(a.part) > 0 {
		oldest = a.part[0].sequence
	}
	for _, batches := range [][]*batch{a.window.waiting, a.window.inFlight} {
		for _, one := range batches {
			if one.first() < oldest {
				oldest = one.first()
			}
		}
	}
	return oldest
}

func (a *Appender) idle() bool { return a.window.empty() && len(a.part) == 0 }

func (a *Appender) unacknowledged() int64 { return a.next - a.totals.answered() }

func (a *Appender) done() bool {
	return a.failure != nil || (a.closing && a.idle()) || a.context.Err() != nil
}

func (a *Appender) gaveUp(why string, cause error) error {
	return &GaveUpError{Unacknowledged: a.unacknowledged(), Why: why, Cause: cause}
}
