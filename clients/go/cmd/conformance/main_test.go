package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"trackd.dev/clients/go/trackd"
)

func TestMadeEventsAreThoseOfTheSuite(t *testing.T) {
	event := made(0x1_0203, command{Type: "m", BaseMs: 1_700_000_000_000, Padding: 3})
	wanted := "018bcfe66a0370008000000000010203"
	if got := hex.EncodeToString(event.GetId()); got != wanted {
		t.Errorf("id %s, and it should be %s", got, wanted)
	}
	if got := event.GetMetadata(); got != `{"n":66051,"pad":"xxx"}` {
		t.Errorf("metadata %s", got)
	}
	if event.GetTimestampMs() != 1_700_000_066_051 || event.GetUserId() != "user-6" {
		t.Errorf("%v", event)
	}
}

func TestAnErrorIsToldAsTheSuiteHasIt(t *testing.T) {
	refusal := &trackd.Error{Code: codes.Unavailable, Reason: "QUEUE_FULL", Retryable: true, RetryAfter: 1500 * time.Millisecond}
	got := failure(fmt.Errorf("wrapped: %w", refusal))
	if got["code"] != "UNAVAILABLE" || got["reason"] != "QUEUE_FULL" || got["retry_after_ms"] != int64(1500) {
		t.Errorf("%v", got)
	}
	got = failure(&trackd.GaveUpError{Cause: errors.New("nothing")})
	if got["reason"] != "NO_PROGRESS" || got["retryable"] != true {
		t.Errorf("%v", got)
	}
}

func TestEveryCommandIsAnsweredInOneLine(t *testing.T) {
	client, err := trackd.NewClient("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	commands := `{"cmd":"open","source":"s"}
{"cmd":"close"}
{"cmd":"append","source":"s","events":[{"id":"zz"}]}
{"cmd":"dance"}
`
	var answers bytes.Buffer
	if err := (&driver{client: client}).serve(strings.NewReader(commands), &answers); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(answers.String()), "\n")
	wanted := []string{`{"opened":true}`, `"totals":`, `{"error":`, `{"error":`}
	if len(lines) != len(wanted) {
		t.Fatalf("%q", lines)
	}
	for at, part := range wanted {
		if !strings.Contains(lines[at], part) {
			t.Errorf("%s, and it should have %s", lines[at], part)
		}
	}
}
