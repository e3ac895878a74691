package trackd

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

const timeMillisMax = 1<<48 - 1

// clock tells the moment; a test holds it.
var clock = time.Now

// NewID returns the 16 bytes of a UUIDv7 (RFC 9562) of this moment. It panics if the system has no random numbers.
func NewID() []byte {
	return NewIDAt(clock())
}

// NewIDAt returns a UUIDv7 of the given moment. Ids of rising times rise, which keeps the store fast.
func NewIDAt(moment time.Time) []byte {
	return idAtMillis(moment.UnixMilli())
}

func idAtMillis(millis int64) []byte {
	if millis < 0 {
		millis = 0
	} else if millis > timeMillisMax {
		millis = timeMillisMax
	}
	// The library's own time never goes back: behind a clock that was ahead it stays ahead.
	id := uuid.Must(uuid.NewV7())
	for at := 5; at >= 0; at-- {
		id[at] = byte(millis)
		millis >>= 8
	}
	return id[:]
}

// Millis is a moment as the contract has it, for example for Event.TimestampMs: milliseconds since 1970, UTC.
func Millis(moment time.Time) *int64 {
	millis := moment.UnixMilli()
	return &millis
}

// JSON is the text of a value, for example for Event.Metadata, which takes one JSON object. It panics on values that have
// no JSON, such as channels: that is a defect of the program.
func JSON(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("trackd.JSON: %v", err))
	}
	return string(text)
}

// identify gives an event without an id one, in place: the daemon must know each event when it comes again.
func identify(event *Event) {
	if len(event.Id) > 0 {
		return
	}
	if event.TimestampMs != nil {
		event.Id = idAtMillis(*event.TimestampMs)
	} else {
		event.Id = NewID()
	}
}
