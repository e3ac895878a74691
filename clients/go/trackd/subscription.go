package trackd

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	trackdv1 "trackd.dev/clients/go/trackd/v1"
)

// SubscribeOptions say what is followed, and from where on. The zero value follows everything from now on.
type SubscribeOptions struct {
	// Filter says which events; nil: all. Behind its UpToPosition the subscription ends.
	Filter *EventFilter
	// AfterPosition begins behind a position: From(0) is the first event there is. See Subscription.Position.
	AfterPosition *int64
	// ReceivedFrom begins with the first event that was received at or after this moment. Not beside AfterPosition.
	ReceivedFrom time.Time
	// OnInterruption hears of each error that is waited out, on the goroutine that calls Next.
	OnInterruption func(error)
	// GiveUpAfter is how long Next waits for a daemon of which nothing is heard: 60 s.
	GiveUpAfter time.Duration
	// Backoff says how long it waits after a failure.
	Backoff Backoff
}

// From is a position as AfterPosition wants it.
func From(position int64) *int64 { return &position }

// A Subscription gives matching events as they are stored, each once and in the order of positions:
//
//	following := client.Subscribe(ctx, trackd.SubscribeOptions{AfterPosition: trackd.From(0)})
//	defer following.Close()
//	for following.Next() {
//		handle(following.Event())
//	}
//	if err := following.Err(); err != nil {
//
// A stream that breaks, a daemon that restarts, a refusal "for now": all are waited out with backoff, and the next stream
// goes on behind Position, so that no event is left out and none comes twice. One goroutine calls Next; any may Close.
type Subscription struct {
	client   *Client
	options  SubscribeOptions
	delays   *delays
	patience patience
	call     trackdv1.SubscribeService_SubscribeClient
	endCall  context.CancelFunc
	buffered []*StoredEvent
	current  *StoredEvent
	position *int64
	head     int64
	gaps     []*Gap
	err      error
	ended    bool

	parent  context.Context
	context context.Context
	cancel  context.CancelFunc
	once    sync.Once
	closed  chan struct{}
}

// Subscribe follows the daemon until the context ends. Nothing is asked before the first Next.
func (c *Client) Subscribe(ctx context.Context, options SubscribeOptions) *Subscription {
	if options.GiveUpAfter <= 0 {
		options.GiveUpAfter = time.Minute
	}
	s := &Subscription{
		client:   c,
		options:  options,
		delays:   newDelays(options.Backoff),
		patience: patience{limit: options.GiveUpAfter},
		position: options.AfterPosition,
		parent:   ctx,
		closed:   make(chan struct{}),
	}
	s.context, s.cancel = context.WithCancel(ctx)
	return s
}

// Next goes to the next event, waiting for it. False: it was closed, the filter's UpToPosition is reached, or Err says
// what could not be waited out.
func (s *Subscription) Next() bool {
	for {
		if s.isClosed() || s.ended {
			return s.end(nil)
		}
		if len(s.buffered) > 0 {
			return s.take()
		}
		err := s.receive()
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) || s.isClosed():
			return s.end(nil)
		case s.parent.Err() != nil:
			return s.end(s.parent.Err())
		default:
			if !s.waitOut(err) {
				return s.end(err)
			}
		}
	}
}

// Event is the event that Next went to.
func (s *Subscription) Event() *StoredEvent { return s.current }

// Position is where to resume (From(position)) once the event of the last Next is handled: everything up to here was
// given. The first result is false before the daemon has said where it began.
func (s *Subscription) Position() (position int64, known bool) {
	if s.position == nil {
		return 0, false
	}
	return *s.position, true
}

// Head is the daemon's head, as far as it has told.
func (s *Subscription) Head() int64 { return s.head }

// Gaps are the months of which events may be missing among those that were given.
func (s *Subscription) Gaps() []*Gap { return s.gaps }

// Err is what ended the subscription; nil after Close and behind UpToPosition.
func (s *Subscription) Err() error { return s.err }

// Close ends it, also while another goroutine is in Next. Closing twice is fine.
func (s *Subscription) Close() {
	s.once.Do(func() {
		close(s.closed)
		s.cancel()
	})
}

func (s *Subscription) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

func (s *Subscription) end(err error) bool {
	if !s.ended {
		s.ended, s.err = true, err
	}
	s.current = nil
	s.Close()
	return false
}

func (s *Subscription) take() bool {
	stored := s.buffered[0]
	s.buffered = s.buffered[1:]
	if s.position != nil && stored.GetPosition() <= *s.position {
		return s.end(violation("event %d came behind %d", stored.GetPosition(), *s.position))
	}
	s.current, s.position = stored, From(stored.GetPosition())
	return true
}

// receive takes one frame, over a new stream if there is none. io.EOF: the stream ended in order.
func (s *Subscription) receive() error {
	if s.call == nil {
		ctx, cancel := context.WithCancel(s.context)
		call, err := s.client.subscribe.Subscribe(ctx, s.request())
		if err != nil {
			cancel()
			return errorOfCall(err, nil)
		}
		s.call, s.endCall = call, cancel
	}
	frame, err := s.call.Recv()
	if err != nil {
		trailer := s.call.Trailer()
		s.endCall()
		s.call = nil
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		return errorOfCall(err, trailer)
	}
	s.heed(frame)
	return nil
}

func (s *Subscription) request() *trackdv1.SubscribeRequest {
	request := &trackdv1.SubscribeRequest{Filter: s.options.Filter}
	switch {
	case s.position != nil:
		request.From = &trackdv1.SubscribeRequest_AfterPosition{AfterPosition: *s.position}
	case !s.options.ReceivedFrom.IsZero():
		request.From = &trackdv1.SubscribeRequest_ReceivedFromMs{ReceivedFromMs: s.options.ReceivedFrom.UnixMilli()}
	}
	return request
}

func (s *Subscription) heed(frame *trackdv1.SubscribeResponse) {
	switch kind := frame.GetFrame().(type) {
	case *trackdv1.SubscribeResponse_Confirmed:
		s.position, s.head = From(kind.Confirmed.GetAfterPosition()), kind.Confirmed.GetHead()
		return // only what comes behind it shows that the daemon is well
	case *trackdv1.SubscribeResponse_Events:
		s.buffered, s.head = kind.Events.GetEvents(), kind.Events.GetHead()
	case *trackdv1.SubscribeResponse_Checkpoint:
		s.position = From(kind.Checkpoint.GetPosition())
	case *trackdv1.SubscribeResponse_Heartbeat:
		s.position, s.head = From(kind.Heartbeat.GetHead()), kind.Heartbeat.GetHead()
	case *trackdv1.SubscribeResponse_CaughtUp:
		s.head = kind.CaughtUp.GetHead()
	case *trackdv1.SubscribeResponse_Gap:
		s.gap(kind.Gap)
	}
	s.delays.reset()
	s.patience.watch(time.Time{}, false)
}

func (s *Subscription) gap(found *Gap) {
	for _, known := range s.gaps {
		if proto.Equal(known, found) {
			return
		}
	}
	s.gaps = append(s.gaps, found)
}

// waitOut waits after a stream has broken, as long as it is wise before the next one; false: it is no use.
func (s *Subscription) waitOut(err error) bool {
	now := time.Now()
	s.patience.watch(now, true)
	delay := s.delays.next(retryAfter(err))
	if breaksForGood(err) || s.patience.left(now) <= delay {
		return false
	}
	if s.options.OnInterruption != nil {
		s.options.OnInterruption(err)
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.context.Done():
	}
	return true
}
