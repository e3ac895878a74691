package trackd

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	trackdv1 "trackd.dev/clients/go/trackd/v1"
)

func TestEverythingIsAcknowledgedWhenCloseReturns(t *testing.T) {
	fake := newFake(t)
	appender := fake.appender(t, nil)
	send(t, appender, events(0, 5))
	equal(t, "totals", closed(t, appender), Totals{Accepted: 5})
	batches, _, streams := fake.seen()
	equal(t, "batches", batches, [][]string{{"0", "1"}, {"2", "3"}, {"4"}})
	equal(t, "streams", streams, 1)
	equal(t, "unacknowledged", appender.Unacknowledged(), 0)
	if err := appender.Send(soon(t), events(0, 1)...); !errors.Is(err, ErrClosed) {
		t.Errorf("sending to a closed Appender: %v", err)
	}
	equal(t, "totals, closed again", closed(t, appender), Totals{Accepted: 5})
}

func TestADaemonThatDiesAndReturnsGetsWhatItDidNotAnswer(t *testing.T) {
	fake := newFake(t)
	appender := fake.appender(t, func(config *AppenderConfig) { config.GiveUpAfter = testTimeout })
	for round := 0; round < 4; round++ {
		send(t, appender, events(round*50, 50))
		if round < 3 {
			fake.stop()
			fake.start()
		}
	}
	totals := closed(t, appender)
	equal(t, "stored", len(fake.stored), 200)
	equal(t, "answered", totals.Accepted+totals.Duplicate, 200)
	if _, _, streams := fake.seen(); streams < 2 {
		t.Errorf("%d streams", streams)
	}
}

func TestABrokenStreamIsReplacedAndItsBatchesComeAgainInOrder(t *testing.T) {
	for _, code := range []codes.Code{codes.Unavailable, codes.Internal, codes.Unknown} {
		t.Run(code.String(), func(t *testing.T) {
			fake := newFake(t)
			fake.script = func(call int, batch *trackdv1.AppendBatch) reply {
				stored := fake.store(batch)
				if call == 2 {
					return reply{err: status.Error(code, "the script says so")}
				}
				return stored
			}
			appender := fake.appender(t, nil)
			send(t, appender, events(0, 6))
			equal(t, "totals", closed(t, appender), Totals{Accepted: 4, Duplicate: 2})
			batches, ids, streams := fake.seen()
			equal(t, "streams", streams, 2)
			equal(t, "batches", batches, [][]string{{"0", "1"}, {"2", "3"}, {"2", "3"}, {"4", "5"}})
			equal(t, "ids of the batch that came twice", ids[1], ids[2])
		})
	}
}

func TestABatchRefusedForNowComesAgainAfterTheTimeAskedFor(t *testing.T) {
	cases := map[string]reply{
		"UNAVAILABLE":        refused(codes.Unavailable, "QUEUE_FULL", 80*time.Millisecond),
		"RESOURCE_EXHAUSTED": refused(codes.ResourceExhausted, "", 80*time.Millisecond),
		"with RetryInfo":     refused(codes.FailedPrecondition, "", 80*time.Millisecond),
	}
	for name, refusal := range cases {
		t.Run(name, func(t *testing.T) {
			fake := newFake(t)
			var refusedAt, cameAgain time.Time
			fake.script = func(call int, batch *trackdv1.AppendBatch) reply {
				if call == 1 {
					refusedAt = time.Now()
					return refusal
				}
				if batch.GetEvents()[0].GetUserId() == "0" {
					cameAgain = time.Now()
				}
				return fake.store(batch)
			}
			appender := fake.appender(t, nil)
			send(t, appender, events(0, 2))
			equal(t, "totals", closed(t, appender), Totals{Accepted: 2})
			_, _, streams := fake.seen()
			equal(t, "streams", streams, 1)
			if waited := cameAgain.Sub(refusedAt); waited < 80*time.Millisecond {
				t.Errorf("it came again after %v", waited)
			}
		})
	}
}

func TestAnExhaustedLimitWithoutRetryInfoIsFinal(t *testing.T) {
	fake := newFake(t)
	fake.script = func(int, *trackdv1.AppendBatch) reply { return refused(codes.ResourceExhausted, "", -1) }
	appender := fake.appender(t, nil)
	send(t, appender, events(0, 2))
	equal(t, "totals", closed(t, appender), Totals{Rejected: 2})
}

func TestABatchRefusedForGoodIsReportedWithItsEvents(t *testing.T) {
	fake := newFake(t)
	fake.script = func(call int, batch *trackdv1.AppendBatch) reply {
		if call == 1 {
			return refused(codes.InvalidArgument, "BATCH_TOO_LARGE", -1)
		}
		return fake.store(batch)
	}
	var results []BatchResult
	appender := fake.appender(t, func(config *AppenderConfig) {
		config.OnResult = func(result BatchResult) { results = append(results, result) }
	})
	send(t, appender, events(0, 4))
	equal(t, "totals", closed(t, appender), Totals{Accepted: 2, Rejected: 2})
	var refusal *Error
	if !errors.As(results[0].Err, &refusal) || refusal.Hint != "wait" || refusal.Retryable {
		t.Errorf("the refusal: %#v", results[0].Err)
	}
	for at, rejection := range results[0].Rejections {
		equal(t, "sequence", rejection.Sequence, at)
		equal(t, "reason", rejection.Reason, "BATCH_TOO_LARGE")
	}
	equal(t, "rejections", len(results[0].Rejections), 2)
}

func TestABatchThatMakesTheDaemonFailEachTimeIsReportedInTheEnd(t *testing.T) {
	fake := newFake(t)
	fake.script = func(_ int, batch *trackdv1.AppendBatch) reply {
		if batch.GetEvents()[0].GetUserId() == "0" {
			return refused(codes.Internal, "INTERNAL", -1)
		}
		return fake.store(batch)
	}
	appender := fake.appender(t, nil)
	send(t, appender, events(0, 4))
	equal(t, "totals", closed(t, appender), Totals{Accepted: 2, Rejected: 2})
	batches, _, _ := fake.seen()
	equal(t, "how often it was sent", len(batches)-1, defectsMax+1)
}

func TestRejectedEventsThatMayBeTakenLaterComeAgain(t *testing.T) {
	fake := newFake(t)
	rejected := trackdv1.AppendOutcome_APPEND_OUTCOME_REJECTED
	fake.script = func(call int, batch *trackdv1.AppendBatch) reply {
		if call > 1 {
			return fake.store(batch)
		}
		fake.store(&trackdv1.AppendBatch{Events: batch.GetEvents()[:1]})
		return result(&AppendResult{Accepted: 1, Rejected: 2, Items: []*trackdv1.AppendItem{
			{Index: 1, Outcome: rejected, Reason: "LATER", Retryable: true},
			{Index: 2, Outcome: rejected, Reason: "TAG_INVALID", Field: "tags"},
		}})
	}
	var results []BatchResult
	appender := fake.appender(t, func(config *AppenderConfig) {
		config.BatchEvents = 3
		config.OnResult = func(result BatchResult) { results = append(results, result) }
	})
	send(t, appender, events(0, 3))
	equal(t, "totals", closed(t, appender), Totals{Accepted: 2, Rejected: 1})
	batches, _, _ := fake.seen()
	equal(t, "batches", batches, [][]string{{"0", "1", "2"}, {"1"}})
	equal(t, "results", len(results), 2)
	final := results[0].Rejections[0]
	equal(t, "rejection", []any{final.Sequence, final.Event.UserId, final.Reason, final.Field}, []any{2, "2", "TAG_INVALID", "tags"})
}

func TestAnswersOutOfOrderBreakTheStreamAndLoseNothing(t *testing.T) {
	cases := map[string]func(batch *trackdv1.AppendBatch) reply{
		"another batch": func(batch *trackdv1.AppendBatch) reply {
			wrong := result(&AppendResult{Accepted: 2})
			wrong.answer.BatchId = batch.GetBatchId() + 1
			return wrong
		},
		"another number of events": func(*trackdv1.AppendBatch) reply { return result(&AppendResult{Accepted: 3}) },
		"an item too many": func(*trackdv1.AppendBatch) reply {
			item := &trackdv1.AppendItem{Index: 2, Outcome: trackdv1.AppendOutcome_APPEND_OUTCOME_REJECTED}
			return result(&AppendResult{Accepted: 1, Rejected: 1, Items: []*trackdv1.AppendItem{item}})
		},
		"no outcome": func(*trackdv1.AppendBatch) reply { return reply{answer: &trackdv1.AppendBatchAnswer{}} },
	}
	for name, wrong := range cases {
		t.Run(name, func(t *testing.T) {
			fake := newFake(t)
			fake.script = func(call int, batch *trackdv1.AppendBatch) reply {
				if call == 1 {
					return wrong(batch)
				}
				return fake.store(batch)
			}
			appender := fake.appender(t, nil)
			send(t, appender, events(0, 4))
			totals := closed(t, appender) // what was stored before the stream broke comes again as a duplicate
			equal(t, "answered", totals.Accepted+totals.Duplicate, 4)
			equal(t, "stored", len(fake.stored), 4)
			_, _, streams := fake.seen()
			equal(t, "streams", streams, 2)
			var met *Error
			if !errors.As(appender.last, &met) || met.Reason != ReasonProtocolViolation {
				t.Errorf("the last error: %v", appender.last)
			}
		})
	}
}

func TestADaemonThatKeepsBreakingTheProtocolIsGivenUp(t *testing.T) {
	fake := newFake(t)
	fake.script = func(int, *trackdv1.AppendBatch) reply { return result(&AppendResult{}) }
	appender := fake.appender(t, func(config *AppenderConfig) { config.GiveUpAfter = 200 * time.Millisecond })
	send(t, appender, events(0, 2))
	_, err := appender.Close(soon(t))
	var gaveUp *GaveUpError
	if !errors.As(err, &gaveUp) || gaveUp.Unacknowledged != 2 {
		t.Fatalf("closing: %v", err)
	}
	var cause *Error
	if !errors.As(err, &cause) || cause.Reason != ReasonProtocolViolation {
		t.Errorf("the cause: %v", gaveUp.Cause)
	}
}

func TestADaemonThatRefusesTheSenderIsNotAskedTwice(t *testing.T) {
	fake := newFake(t)
	fake.opening = func(int) error { return status.ErrorProto(refusal(codes.InvalidArgument, "SOURCE_INVALID", -1)) }
	appender := fake.appender(t, func(config *AppenderConfig) { config.GiveUpAfter = time.Minute })
	send(t, appender, events(0, 2))
	_, err := appender.Flush(soon(t))
	var cause *Error
	if !errors.As(err, &cause) || cause.Reason != "SOURCE_INVALID" {
		t.Fatalf("flushing: %v", err)
	}
	if err := appender.Send(soon(t), events(2, 1)...); !errors.As(err, &cause) {
		t.Errorf("sending afterwards: %v", err)
	}
	_, _, streams := fake.seen()
	equal(t, "streams", streams, 1)
}

func TestADaemonThatIsFullWhenAStreamIsOpenedIsWaitedOutAsLongAsItAsks(t *testing.T) {
	fake := newFake(t)
	var times []time.Time
	fake.opening = func(stream int) error {
		times = append(times, time.Now())
		if stream == 1 {
			return status.ErrorProto(refusal(codes.Unavailable, "DRAINING", 100*time.Millisecond))
		}
		return nil
	}
	appender := fake.appender(t, nil)
	send(t, appender, events(0, 2))
	equal(t, "totals", closed(t, appender), Totals{Accepted: 2})
	if waited := times[1].Sub(times[0]); waited < 100*time.Millisecond {
		t.Errorf("it came again after %v", waited)
	}
}

func TestAnUnreachableDaemonEndsInAnErrorThatCountsWhatIsOpen(t *testing.T) {
	client, err := NewClient("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	appender := client.NewAppender(AppenderConfig{Source: "tests", GiveUpAfter: time.Second})
	send(t, appender, events(0, 3))
	_, err = appender.Close(soon(t))
	var gaveUp *GaveUpError
	if !errors.As(err, &gaveUp) || gaveUp.Unacknowledged != 3 {
		t.Fatalf("closing: %v", err)
	}
	var cause *Error
	if !errors.As(err, &cause) || cause.Code != codes.Unavailable || cause.Reason != "" {
		t.Errorf("the cause: %v", gaveUp.Cause)
	}
}

func TestWhatWasMetBeforeIsTheCauseAndNotThatTheLastStreamWasCutOff(t *testing.T) {
	fake := newFake(t)
	fake.opening = func(stream int) error {
		if stream == 1 {
			return status.ErrorProto(refusal(codes.Unavailable, "DRAINING", 0))
		}
		return nil
	}
	fake.script = func(int, *trackdv1.AppendBatch) reply { return reply{} }
	appender := fake.appender(t, func(config *AppenderConfig) { config.GiveUpAfter = 300 * time.Millisecond })
	send(t, appender, events(0, 2))
	_, err := appender.Close(soon(t))
	var cause *Error
	if !errors.As(err, &cause) || cause.Reason != "DRAINING" {
		t.Errorf("closing: %v", err)
	}
}

func TestAStreamWithoutAnswersIsReplaced(t *testing.T) {
	fake := newFake(t)
	fake.script = func(call int, batch *trackdv1.AppendBatch) reply {
		if call == 1 {
			return reply{}
		}
		return fake.store(batch)
	}
	appender := fake.appender(t, func(config *AppenderConfig) { config.AnswerTimeout = 200 * time.Millisecond })
	send(t, appender, events(0, 2))
	equal(t, "totals", closed(t, appender), Totals{Accepted: 2})
	_, _, streams := fake.seen()
	equal(t, "streams", streams, 2)
}

func TestADaemonThatNeverAnswersIsGivenUpForThatReason(t *testing.T) {
	fake := newFake(t)
	fake.script = func(int, *trackdv1.AppendBatch) reply { return reply{} }
	appender := fake.appender(t, func(config *AppenderConfig) {
		config.AnswerTimeout, config.GiveUpAfter = 50*time.Millisecond, 500*time.Millisecond
	})
	send(t, appender, events(0, 2))
	_, err := appender.Close(soon(t))
	var cause *Error
	if !errors.As(err, &cause) || cause.Code != codes.DeadlineExceeded {
		t.Errorf("closing: %v", err)
	}
}

func TestSendingBlocksWhileTheWindowIsFull(t *testing.T) {
	fake := newFake(t)
	letGo := make(chan struct{})
	fake.script = func(_ int, batch *trackdv1.AppendBatch) reply {
		<-letGo
		return fake.store(batch)
	}
	appender := fake.appender(t, func(config *AppenderConfig) { config.WindowBatches = 2 })
	ctx, cancel := context.WithCancel(context.Background())
	told := make(chan error)
	go func() { told <- appender.Send(ctx, events(0, 20)...) }()
	for appender.Unacknowledged() < 6 { // two batches in the window, and one that is filled
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-told:
		t.Fatalf("it did not block: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	equal(t, "taken over", appender.Unacknowledged(), 6)
	cancel()
	if err := <-told; !errors.Is(err, context.Canceled) {
		t.Errorf("when its context ended: %v", err)
	}
	close(letGo)
	send(t, appender, events(6, 14))
	equal(t, "totals", closed(t, appender), Totals{Accepted: 20})
}

func TestNoMoreIsInFlightThanTheDaemonTakes(t *testing.T) {
	fake := newFake(t)
	fake.limits = &trackdv1.IngestLimits{MaxBatchEvents: 3, MaxInFlightBatches: 1}
	appender := fake.appender(t, func(config *AppenderConfig) { config.BatchEvents = 10 })
	send(t, appender, events(0, 10))
	equal(t, "totals", closed(t, appender), Totals{Accepted: 10})
	batches, _, _ := fake.seen()
	equal(t, "batches", batches, [][]string{{"0", "1", "2"}, {"3", "4", "5"}, {"6", "7", "8"}, {"9"}})
}

func TestFlushEndsWithItsContextAndTheEventsStay(t *testing.T) {
	fake := newFake(t)
	letGo := make(chan struct{})
	fake.script = func(_ int, batch *trackdv1.AppendBatch) reply {
		<-letGo
		return fake.store(batch)
	}
	appender := fake.appender(t, nil)
	send(t, appender, events(0, 3))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := appender.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("flushing: %v", err)
	}
	close(letGo)
	equal(t, "totals", closed(t, appender), Totals{Accepted: 3})
}

func TestClosingWithAnEndedContextSaysWhatIsOpen(t *testing.T) {
	fake := newFake(t)
	fake.script = func(int, *trackdv1.AppendBatch) reply { return reply{} }
	appender := fake.appender(t, nil)
	send(t, appender, events(0, 3))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := appender.Close(ctx)
	var gaveUp *GaveUpError
	if !errors.As(err, &gaveUp) || gaveUp.Unacknowledged != 3 || !errors.Is(err, context.Canceled) {
		t.Errorf("closing: %v", err)
	}
}

func TestWhatLingersGoesByItself(t *testing.T) {
	fake := newFake(t)
	arrived := make(chan struct{}, 9)
	fake.script = func(_ int, batch *trackdv1.AppendBatch) reply {
		arrived <- struct{}{}
		return fake.store(batch)
	}
	appender := fake.appender(t, func(config *AppenderConfig) {
		config.BatchEvents, config.Linger = 100, 10*time.Millisecond
	})
	for round := 0; round < 2; round++ { // before there is a stream, and on an open one
		send(t, appender, events(round*3, 1))
		select {
		case <-arrived:
		case <-time.After(testTimeout):
			t.Fatal("nothing was sent")
		}
	}
	equal(t, "totals", closed(t, appender), Totals{Accepted: 2})
}

func TestAnIdleAppenderSurvivesARestartOfTheDaemon(t *testing.T) {
	fake := newFake(t)
	appender := fake.appender(t, nil)
	send(t, appender, events(0, 2))
	if _, err := appender.Flush(soon(t)); err != nil {
		t.Fatal(err)
	}
	fake.stop()
	fake.start()
	send(t, appender, events(2, 2))
	equal(t, "totals", closed(t, appender), Totals{Accepted: 4})
}

func TestGoroutinesMayShareAnAppender(t *testing.T) {
	fake := newFake(t)
	appender := fake.appender(t, func(config *AppenderConfig) { config.BatchEvents, config.WindowBatches = 7, 3 })
	var all sync.WaitGroup
	for worker := 0; worker < 8; worker++ {
		all.Add(1)
		go func(worker int) {
			defer all.Done()
			for n := 0; n < 50; n++ {
				if err := appender.Send(context.Background(), events(worker*50+n, 1)...); err != nil {
					t.Error(err)
				}
				if n%20 == 0 {
					if _, err := appender.Flush(context.Background()); err != nil {
						t.Error(err)
					}
				}
			}
		}(worker)
	}
	all.Wait()
	equal(t, "totals", closed(t, appender), Totals{Accepted: 400})
	equal(t, "stored", len(fake.stored), 400)
}

func TestAnEventThatNoDaemonTakesIsRefusedAtOnce(t *testing.T) {
	fake := newFake(t)
	appender := fake.appender(t, nil)
	err := appender.Send(soon(t), &Event{Type: "t", Description: string(make([]byte, 8*mebibyte))})
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Reason != ReasonEventTooLarge {
		t.Errorf("sending: %v", err)
	}
	equal(t, "totals", closed(t, appender), Totals{})
}
