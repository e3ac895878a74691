package trackd

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	trackdv1 "trackd.dev/clients/go/trackd/v1"
)

type following = trackdv1.SubscribeService_SubscribeServer

func confirmed(after int64) *trackdv1.SubscribeResponse {
	frame := &trackdv1.SubscribeConfirmed{AfterPosition: after, Head: 100}
	return &trackdv1.SubscribeResponse{Frame: &trackdv1.SubscribeResponse_Confirmed{Confirmed: frame}}
}

func eventsAt(positions ...int64) *trackdv1.SubscribeResponse {
	frame := &trackdv1.SubscribeEvents{Head: 100}
	for _, position := range positions {
		frame.Events = append(frame.Events, &StoredEvent{Position: position})
	}
	return &trackdv1.SubscribeResponse{Frame: &trackdv1.SubscribeResponse_Events{Events: frame}}
}

func heartbeat(head int64) *trackdv1.SubscribeResponse {
	frame := &trackdv1.SubscribeHeartbeat{Head: head}
	return &trackdv1.SubscribeResponse{Frame: &trackdv1.SubscribeResponse_Heartbeat{Heartbeat: frame}}
}

func say(t *testing.T, stream following, frames ...*trackdv1.SubscribeResponse) {
	t.Helper()
	for _, frame := range frames {
		if err := stream.Send(frame); err != nil {
			t.Error(err)
		}
	}
}

func quick(options SubscribeOptions) SubscribeOptions {
	options.Backoff = Backoff{First: 5 * time.Millisecond, Max: 20 * time.Millisecond}
	return options
}

func positions(s *Subscription) []int64 {
	found := []int64{}
	for s.Next() {
		found = append(found, s.Event().GetPosition())
	}
	return found
}

func TestASubscriptionGoesOnBehindWhatItGave(t *testing.T) {
	fake := newFake(t)
	var asked []int64
	fake.follow = func(call int, request *trackdv1.SubscribeRequest, stream following) error {
		asked = append(asked, request.GetAfterPosition())
		switch call {
		case 1:
			say(t, stream, confirmed(0), eventsAt(3, 5))
			return status.Error(codes.Unavailable, "gone")
		case 2:
			say(t, stream, confirmed(5), heartbeat(9))
			return status.ErrorProto(refusal(codes.ResourceExhausted, "SUBSCRIBERS_FULL", 10*time.Millisecond))
		default:
			say(t, stream, confirmed(9), eventsAt(12))
			return nil
		}
	}
	interruptions := 0
	s := fake.client(t).Subscribe(soon(t), quick(SubscribeOptions{
		AfterPosition:  From(0),
		OnInterruption: func(error) { interruptions++ },
	}))
	equal(t, "positions", positions(s), []int64{3, 5, 12})
	equal(t, "error", s.Err(), nil)
	equal(t, "asked for", asked, []int64{0, 5, 9})
	equal(t, "interruptions", interruptions, 2)
	position, known := s.Position()
	equal(t, "position", []any{position, known, s.Head()}, []any{12, true, 100})
}

func TestASubscriptionWithoutABeginningResumesWhereItWasConfirmed(t *testing.T) {
	fake := newFake(t)
	var froms []any
	fake.follow = func(call int, request *trackdv1.SubscribeRequest, stream following) error {
		froms = append(froms, request.GetFrom())
		if call == 1 {
			say(t, stream, confirmed(7))
			return status.Error(codes.Unavailable, "gone")
		}
		return nil
	}
	s := fake.client(t).Subscribe(soon(t), quick(SubscribeOptions{}))
	if _, known := s.Position(); known {
		t.Error("a position is known before anything was said")
	}
	equal(t, "positions", positions(s), []int64{})
	if froms[0] != nil {
		t.Errorf("it began at %v", froms[0])
	}
	equal(t, "it resumed", froms[1].(*trackdv1.SubscribeRequest_AfterPosition).AfterPosition, 7)
}

func TestASubscriptionBeginsAtATimeOfReceipt(t *testing.T) {
	fake := newFake(t)
	fake.follow = func(_ int, request *trackdv1.SubscribeRequest, _ following) error {
		equal(t, "from", request.GetReceivedFromMs(), 1_700_000_000_123)
		return nil
	}
	s := fake.client(t).Subscribe(soon(t), SubscribeOptions{ReceivedFrom: time.UnixMilli(1_700_000_000_123)})
	equal(t, "positions", positions(s), []int64{})
}

func TestWhatCannotBeWaitedOutEndsASubscription(t *testing.T) {
	cases := map[string]struct {
		follow func(stream following) error
		reason string
	}{
		"refused": {func(following) error {
			return status.ErrorProto(refusal(codes.OutOfRange, "POSITION_AHEAD", -1))
		}, "POSITION_AHEAD"},
		"positions that fall": {func(stream following) error {
			say(t, stream, confirmed(0), eventsAt(5, 4))
			return nil
		}, ReasonProtocolViolation},
		"never well": {func(following) error {
			return status.ErrorProto(refusal(codes.Unavailable, "DRAINING", 0))
		}, "DRAINING"},
	}
	for name, one := range cases {
		t.Run(name, func(t *testing.T) {
			fake := newFake(t)
			fake.follow = func(_ int, _ *trackdv1.SubscribeRequest, stream following) error { return one.follow(stream) }
			options := quick(SubscribeOptions{AfterPosition: From(0), GiveUpAfter: 100 * time.Millisecond})
			s := fake.client(t).Subscribe(soon(t), options)
			positions(s)
			var known *Error
			if !errors.As(s.Err(), &known) || known.Reason != one.reason {
				t.Errorf("%v", s.Err())
			}
		})
	}
}

func TestGapsAreKeptOnce(t *testing.T) {
	fake := newFake(t)
	fake.follow = func(_ int, _ *trackdv1.SubscribeRequest, stream following) error {
		gap := &Gap{Month: "2025-11", Reason: trackdv1.GapReason_GAP_REASON_MONTH_DAMAGED}
		frame := &trackdv1.SubscribeResponse{Frame: &trackdv1.SubscribeResponse_Gap{Gap: gap}}
		say(t, stream, confirmed(0), frame, frame)
		return nil
	}
	s := fake.client(t).Subscribe(soon(t), SubscribeOptions{})
	positions(s)
	equal(t, "gaps", len(s.Gaps()), 1)
	equal(t, "month", s.Gaps()[0].GetMonth(), "2025-11")
}

func TestClosingEndsASubscriptionThatWaits(t *testing.T) {
	fake := newFake(t)
	waiting := make(chan struct{}, 2)
	fake.follow = func(_ int, _ *trackdv1.SubscribeRequest, stream following) error {
		say(t, stream, confirmed(0))
		waiting <- struct{}{}
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	client := fake.client(t)
	s := client.Subscribe(soon(t), SubscribeOptions{})
	go func() {
		<-waiting
		s.Close()
	}()
	equal(t, "positions", positions(s), []int64{})
	equal(t, "error after closing", s.Err(), nil)

	ctx, cancel := context.WithCancel(context.Background())
	s = client.Subscribe(ctx, SubscribeOptions{})
	go func() {
		<-waiting
		cancel()
	}()
	equal(t, "positions", positions(s), []int64{})
	equal(t, "error after its context", s.Err(), context.Canceled)
}
