package trackd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	pushbackKey = "grpc-retry-pushback-ms"
	// ReasonProtocolViolation is the reason of errors of this package: the daemon answered something that was not asked.
	ReasonProtocolViolation = "PROTOCOL_VIOLATION"
	// ReasonEventTooLarge is the reason of an error of Appender.Send: no daemon takes an event of that size.
	ReasonEventTooLarge = "EVENT_TOO_LARGE"
)

// Error is a failed call, or the refusal of one batch; find it with errors.As.
//
// Without a Reason, codes.Unavailable means that nobody answered. After that, and after codes.DeadlineExceeded and
// codes.Canceled, the outcome of an Append is unknown: send the same events again, they are stored once.
type Error struct {
	// Code is the gRPC status.
	Code codes.Code
	// Reason is the daemon's machine word, the same as in its metrics and logs; "" where it said none.
	Reason string
	// Message says what is wrong.
	Message string
	// Hint says what to do; "" where the daemon said none.
	Hint string
	// Retryable tells whether the same call, made later, may succeed.
	Retryable bool
	// RetryAfter is how much later the daemon wishes that to be; 0 where it said nothing.
	RetryAfter time.Duration

	cause error
}

// Error is the reason, the message and the hint.
func (e *Error) Error() string {
	text := e.Message
	if text == "" {
		text = e.Code.String()
	}
	if e.Reason != "" {
		text = e.Reason + ": " + text
	}
	if e.Hint != "" && !strings.Contains(e.Message, e.Hint) { // the daemon's message may say it already
		text += " (" + e.Hint + ")"
	}
	return "trackd: " + text
}

// Unwrap is the error of gRPC, so that errors.Is finds context.Canceled and context.DeadlineExceeded.
func (e *Error) Unwrap() error { return e.cause }

// GaveUpError says that an Appender stopped trying. The Unacknowledged events may or may not be stored. Sending them
// again is safe: the same ids are stored once.
type GaveUpError struct {
	// Unacknowledged counts the events that were handed over and have no answer.
	Unacknowledged int64
	// Why says what it waited for in vain.
	Why string
	// Cause is the last error it met, if any.
	Cause error
}

// Error says how many events are open, and why.
func (e *GaveUpError) Error() string {
	text := fmt.Sprintf("trackd: %d events were not acknowledged: %s", e.Unacknowledged, e.Why)
	if e.Cause != nil {
		text += "; the last error: " + e.Cause.Error()
	}
	return text
}

// Unwrap is the last error met, so that errors.As finds its *Error.
func (e *GaveUpError) Unwrap() error { return e.Cause }

// retryableCodes are those after which the same request may succeed, whatever the details say.
var retryableCodes = map[codes.Code]bool{
	codes.Unavailable:      true,
	codes.Aborted:          true,
	codes.DeadlineExceeded: true,
	codes.Canceled:         true,
}

// errorOf is the error that a status states, for example the refusal of one batch within a stream.
func errorOf(stated *statuspb.Status) *Error {
	made := &Error{Code: codes.Code(stated.GetCode()), Message: stated.GetMessage()}
	told := false
	for _, detail := range stated.GetDetails() {
		content, err := detail.UnmarshalNew()
		if err != nil {
			continue // a detail that this client does not know
		}
		switch content := content.(type) {
		case *errdetails.ErrorInfo:
			made.Reason, made.Hint = content.GetReason(), content.GetMetadata()["hint"]
		case *errdetails.RetryInfo:
			told = true
			made.RetryAfter = content.GetRetryDelay().AsDuration()
		}
	}
	made.Retryable = told || retryableCodes[made.Code]
	return made
}

// errorOfCall is the error that ended a call; nil for none. `trailer` may be nil.
func errorOfCall(err error, trailer metadata.MD) error {
	if err == nil {
		return nil
	}
	made := errorOf(status.Convert(err).Proto())
	made.cause = err
	if made.Code == codes.Canceled {
		made.cause = context.Canceled
	} else if made.Code == codes.DeadlineExceeded {
		made.cause = context.DeadlineExceeded
	}
	if pushback := trailer.Get(pushbackKey); len(pushback) > 0 && made.RetryAfter == 0 {
		if millis, err := strconv.ParseUint(pushback[0], 10, 31); err == nil {
			made.RetryAfter = time.Duration(millis) * time.Millisecond
			made.Retryable = true
		}
	}
	return made
}

// breaksForGood tells whether a stream that ended with this error would end so again: opening another one is useless.
// Internal and Unknown are what gRPC reports for connections cut off in the middle, so they are tried again.
func breaksForGood(err error) bool {
	var known *Error
	if !errors.As(err, &known) || known.Reason == ReasonProtocolViolation {
		return false
	}
	return !known.Retryable && known.Code != codes.Internal && known.Code != codes.Unknown
}

func retryAfter(err error) time.Duration {
	var known *Error
	if errors.As(err, &known) {
		return known.RetryAfter
	}
	return 0
}

func violation(format string, arguments ...any) *Error {
	return &Error{Code: codes.Internal, Reason: ReasonProtocolViolation, Message: fmt.Sprintf(format, arguments...)}
}

// encodedBytes is how much one event adds to a batch: a tag and a length of at most 5 bytes before it.
func encodedBytes(event *Event) int { return proto.Size(event) + 6 }
