package trackd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	trackdv1 "trackd.dev/clients/go/trackd/v1"
)

// stream is one open call of an Appender. The Appender's mutex guards it.
type stream struct {
	ended bool
	cut   bool      // we end it: what gRPC says of that is no news
	err   error     // why it ended; nil for a regular end
	since time.Time // since when it owes us something
}

// supervise opens streams, one after the other, and decides when to give up. It runs on a goroutine of its own.
func (a *Appender) supervise() {
	defer close(a.stopped)
	for a.waitForWork() {
		a.waitOut(a.runStream())
	}
}

// waitForWork tells whether there is something to send; false once the Appender is closed or has failed.
func (a *Appender) waitForWork() bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	_ = a.wait(a.context, func() bool { return a.done() || !a.window.empty() })
	return !a.done()
}

// runStream opens one stream, stays until it has ended, by itself or because it must, and returns why.
func (a *Appender) runStream() error {
	ctx, cancel := context.WithCancel(a.context)
	defer cancel()
	current := &stream{since: time.Now()}
	over := make(chan struct{})
	go func() {
		defer close(over)
		a.converse(ctx, cancel, current)
	}()
	a.watch(current)
	a.mutex.Lock()
	current.cut = !current.ended
	a.mutex.Unlock()
	cancel()
	<-over
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.window.lost()
	a.broadcast()
	return current.err
}

// watch returns when the stream has ended or must end.
func (a *Appender) watch(current *stream) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	for !current.ended && a.failure == nil && a.context.Err() == nil {
		left := a.untilOverdue(current)
		if left <= 0 {
			return
		}
		changed := a.changed
		a.waitFor(left, func() bool { return current.ended || a.failure != nil || changed != a.changed })
	}
}

// untilOverdue is how long this stream may go on without anything happening; at most 0: it must end.
func (a *Appender) untilOverdue(current *stream) time.Duration {
	now := time.Now()
	left := a.patience.left(now)
	if len(a.window.inFlight) == 0 && a.window.limits != nil && !a.closing {
		return left
	}
	since := current.since
	if a.closed.After(since) {
		since = a.closed
	}
	overdue := since.Add(a.config.AnswerTimeout).Sub(now)
	if overdue <= 0 && current.err == nil {
		current.err = &Error{
			Code:      codes.DeadlineExceeded,
			Message:   fmt.Sprintf("no answer within %v", a.config.AnswerTimeout),
			Retryable: true,
		}
	}
	if overdue < left {
		return overdue
	}
	return left
}

// waitOut comes after a stream has ended: it gives up, or waits as long as it is wise before the next one.
func (a *Appender) waitOut(err error) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.done() || a.window.empty() {
		return
	}
	if breaksForGood(err) {
		a.fail("the daemon refuses the stream")
		return
	}
	delay := a.delays.next(retryAfter(err))
	left := a.patience.left(time.Now())
	if left > delay {
		a.waitFor(delay, a.done)
		return
	}
	a.waitFor(left, a.done)
	if !a.done() {
		a.fail(fmt.Sprintf("no event was answered for %v", a.config.GiveUpAfter))
	}
}

func (a *Appender) fail(why string) {
	if a.failure == nil {
		a.failure = a.gaveUp(why, a.last)
	}
	a.broadcast()
}

// converse is one stream from beginning to end: it reads answers while another goroutine writes batches.
func (a *Appender) converse(ctx context.Context, cancel context.CancelFunc, current *stream) {
	var writer sync.WaitGroup
	call, err := a.stub.AppendStream(ctx)
	if err == nil {
		writer.Add(1)
		go func() {
			defer writer.Done()
			a.write(call, current)
		}()
		err = a.read(call, current)
	}
	var known *Error
	if err != nil && !errors.As(err, &known) {
		err = errorOfCall(err, nil)
	}
	a.mutex.Lock()
	if !current.cut {
		current.err = err
	}
	if current.err != nil {
		a.last = current.err
	}
	current.ended = true
	a.broadcast()
	a.mutex.Unlock()
	cancel()
	writer.Wait()
}

// write sends the opening and then batches as the window gives them. What goes wrong is told to the reader.
func (a *Appender) write(call trackdv1.IngestService_AppendStreamClient, current *stream) {
	opening := &trackdv1.AppendStreamOpen{Source: a.config.Source, Durability: a.config.Durability}
	err := call.Send(&trackdv1.AppendStreamRequest{Message: &trackdv1.AppendStreamRequest_Open{Open: opening}})
	for err == nil {
		next := a.nextBatch(current)
		if next == nil {
			_ = call.CloseSend() // it always returns nil
			return
		}
		err = call.Send(next.request())
	}
}

// nextBatch waits for the next batch that may be sent; nil: there will be none on this stream.
func (a *Appender) nextBatch(current *stream) *batch {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	for !current.ended && !a.done() {
		changed := a.changed
		again := func() bool { return changed != a.changed }
		if pause := time.Until(a.paused); pause > 0 {
			a.waitFor(pause, again)
			continue
		}
		nothingSent := len(a.window.inFlight) == 0
		if next := a.window.take(); next != nil {
			if nothingSent {
				current.since = time.Now()
				a.broadcast()
			}
			return next
		}
		_ = a.wait(a.context, again)
	}
	return nil
}

// read takes what the daemon says until the stream ends; nil for a regular end.
func (a *Appender) read(call trackdv1.IngestService_AppendStreamClient, current *stream) error {
	for {
		response, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return errorOfCall(err, call.Trailer())
		}
		switch message := response.GetMessage().(type) {
		case *trackdv1.AppendStreamResponse_Opened:
			if err := a.opened(current, message.Opened); err != nil {
				return err
			}
		case *trackdv1.AppendStreamResponse_Answer:
			if err := a.answered(current, message.Answer); err != nil {
				return err
			}
		default:
			return violation("a message that is neither opened nor an answer")
		}
	}
}

func (a *Appender) opened(current *stream, told *trackdv1.AppendStreamOpened) error {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.window.limits != nil {
		return violation("the stream was opened twice")
	}
	a.window.opened(limitsTold(told.GetLimits()))
	current.since = time.Now()
	a.broadcast()
	return nil
}

// answered takes one answer. It does not hold the mutex while the user's function runs.
func (a *Appender) answered(current *stream, answer *trackdv1.AppendBatchAnswer) error {
	a.mutex.Lock()
	sent, err := a.window.expect(answer.GetBatchId())
	var judged verdict
	if err == nil {
		judged, err = judge(sent, answer, a.window.batchOf)
	}
	a.mutex.Unlock()
	if err != nil {
		return err
	}
	if judged.result != nil && a.config.OnResult != nil {
		a.config.OnResult(*judged.result)
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	now := time.Now()
	current.since = now
	a.window.settle(judged.again)
	if judged.result != nil {
		a.totals = a.totals.plus(judged.result)
		a.delays.reset()
		a.patience.progress(now)
	}
	if judged.again != nil {
		a.last = judged.why
		a.paused = now.Add(a.delays.next(judged.why.RetryAfter))
	}
	a.promote()
	a.patience.watch(now, !a.window.empty())
	a.broadcast()
	return nil
}
