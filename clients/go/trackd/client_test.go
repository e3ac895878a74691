package trackd

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	trackdv1 "trackd.dev/clients/go/trackd/v1"
)

func TestAppendGivesIDsSoThatTheSameEventsCanBeSentAgain(t *testing.T) {
	fake := newFake(t)
	client := fake.client(t)
	sent := events(0, 2)
	for attempt, wanted := range [][]int64{{2, 0}, {0, 2}} {
		got, err := client.Append(soon(t), "tests", sent)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "accepted and duplicate", []int64{got.Accepted, got.Duplicate}, wanted)
		equal(t, "attempt", attempt, len(fake.requests)-1)
	}
	_, err := client.Append(soon(t), "tests", sent, Atomic(), WithDurability(DurabilityAccepted))
	if err != nil {
		t.Fatal(err)
	}
	last := fake.requests[2]
	equal(t, "options", []any{last.Atomic, last.Durability}, []any{true, DurabilityAccepted})
}

func TestAFailedCallIsATypedError(t *testing.T) {
	fake := newFake(t)
	_, err := fake.client(t).Append(soon(t), "full", events(0, 1))
	var known *Error
	if !errors.As(err, &known) {
		t.Fatalf("%T", err)
	}
	equal(t, "error", known.Error(), "trackd: QUEUE_FULL: refused (wait)")
	equal(t, "code", known.Code, codes.Unavailable)
	equal(t, "retryable", []any{known.Retryable, known.RetryAfter}, []any{true, 250 * time.Millisecond})
}

func TestTheErrorOfTheContextIsFound(t *testing.T) {
	fake := newFake(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := fake.client(t).Append(ctx, "tests", events(0, 1))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestStatusesBecomeErrorsAsTheContractSays(t *testing.T) {
	cases := []struct {
		code            codes.Code
		retry           time.Duration
		retryable, ends bool
	}{
		{codes.Unavailable, -1, true, false},
		{codes.Aborted, -1, true, false},
		{codes.DeadlineExceeded, -1, true, false},
		{codes.Canceled, -1, true, false},
		{codes.ResourceExhausted, -1, false, true},
		{codes.ResourceExhausted, 0, true, false},
		{codes.FailedPrecondition, time.Second, true, false},
		{codes.InvalidArgument, -1, false, true},
		{codes.Internal, -1, false, false},
		{codes.Unknown, -1, false, false},
		{codes.Unimplemented, -1, false, true},
		{codes.OutOfRange, -1, false, true},
	}
	for _, one := range cases {
		made := errorOf(refusal(one.code, "REASON", one.retry))
		equal(t, one.code.String()+" retryable", made.Retryable, one.retryable)
		equal(t, one.code.String()+" ends a stream for good", breaksForGood(made), one.ends)
	}
}

func TestIDsAreVersion7OfTheirMoment(t *testing.T) {
	moment := time.UnixMilli(1_700_000_000_123)
	id := NewIDAt(moment)
	equal(t, "milliseconds", hex.EncodeToString(id[:6]), "018bcfe5687b")
	equal(t, "version and variant", []byte{id[6] >> 4, id[8] >> 6}, []byte{7, 2})
	if again := NewIDAt(moment); bytes.Equal(id, again) {
		t.Error("two ids are the same")
	}
	event := &Event{TimestampMs: Millis(moment)}
	identify(event)
	equal(t, "the id of an event with a time", hex.EncodeToString(event.Id[:6]), "018bcfe5687b")
	identify(event)
	event.Id = []byte{1}
	identify(event)
	equal(t, "an id that is there", event.Id, []byte{1})
	equal(t, "before 1970", NewIDAt(time.UnixMilli(-5))[:6], make([]byte, 6))
}

func TestAClockThatWasAheadAndIsSetRightLeavesNoTrace(t *testing.T) {
	defer func() { clock = time.Now }()
	for _, jumped := range []time.Duration{0, 24 * time.Hour, 0, -24 * time.Hour, 0} {
		moment := time.Now().Add(jumped)
		clock = func() time.Time { return moment }
		equal(t, "time", hex.EncodeToString(NewID()[:6]), fmt.Sprintf("%012x", moment.UnixMilli()))
	}
}

func TestAListIsFetchedPageByPage(t *testing.T) {
	fake := newFake(t)
	fake.list = func(request *trackdv1.ListEventsRequest) (*trackdv1.ListEventsResponse, error) {
		equal(t, "asked for", []any{request.Order, request.PageSize}, []any{PositionAscending, 1000})
		page := func(token string, positions ...int64) *trackdv1.ListEventsResponse {
			response := &trackdv1.ListEventsResponse{NextPageToken: token, AsOfPosition: 9}
			for _, position := range positions {
				response.Events = append(response.Events, &StoredEvent{Position: position})
			}
			return response
		}
		switch request.PageToken {
		case "":
			return page("empty", 1, 2), nil
		case "empty":
			return page("last"), nil
		default:
			return page("", 3), nil
		}
	}
	listed := fake.client(t).ListEvents(soon(t), ListOptions{Order: PositionAscending})
	positions := []int64{}
	for listed.Next() {
		positions = append(positions, listed.Event().GetPosition())
	}
	equal(t, "positions", positions, []int64{1, 2, 3})
	equal(t, "as of and error", []any{listed.AsOfPosition(), listed.Err()}, []any{9, nil})

	fake.list = func(*trackdv1.ListEventsRequest) (*trackdv1.ListEventsResponse, error) {
		return nil, status.ErrorProto(refusal(codes.OutOfRange, "POSITION_AHEAD", -1))
	}
	listed = fake.client(t).ListEvents(soon(t), ListOptions{AtLeastPosition: 10})
	var known *Error
	if listed.Next() || !errors.As(listed.Err(), &known) || known.Reason != "POSITION_AHEAD" {
		t.Errorf("a refused list: %v", listed.Err())
	}
}

func TestRowsOfATableHaveTheNamesOfItsColumns(t *testing.T) {
	answer := &Answer{Rows: 2, Columns: []*trackdv1.Column{
		{Name: "type", Texts: []string{"a", "b"}},
		{Name: "events", Integers: []int64{1, 2}},
		{Name: "avg(n)", Reals: []float64{1.5, 0}, AbsentRows: []int32{1}},
	}}
	equal(t, "rows", Rows(answer), []map[string]any{
		{"type": "a", "events": int64(1), "avg(n)": 1.5}, {"type": "b", "events": int64(2), "avg(n)": nil},
	})
}
