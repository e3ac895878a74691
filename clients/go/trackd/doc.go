// Package trackd sends events to a trackd daemon and asks it questions.
//
//	client, err := trackd.NewClient("127.0.0.1:7077")
//	...
//	result, err := client.Append(ctx, "reviews", &trackd.Event{Type: "review_submitted", UserId: "ann"})
//
// A [Client] asks, follows, and sends one batch at a time. An [Appender] sends many events and sends again what was not
// acknowledged. Messages are those of the wire contract, package trackd.dev/clients/go/trackd/v1; those that everybody
// needs have names here. Errors that the daemon gave are *[Error].
package trackd

import trackdv1 "trackd.dev/clients/go/trackd/v1"

// The messages of the contract that this package takes and gives. Their fields are documented there.
type (
	// Event is one thing that happened. Without a time it happened now; without an id it is given one when it is sent.
	Event = trackdv1.Event
	// Change is the audit part of an event: which row was changed, how, from what to what.
	Change = trackdv1.Change
	// StoredEvent is an event as the store holds it: with its position, source and time of receipt.
	StoredEvent = trackdv1.StoredEvent
	// AppendResult says what became of the events of one batch.
	AppendResult = trackdv1.AppendResult
	// EventFilter says which events; every part that is set must match.
	EventFilter = trackdv1.EventFilter
	// Question is what Aggregate is asked: metrics over groups of events.
	Question = trackdv1.AggregateRequest
	// Answer is a table, as columns of equal length.
	Answer = trackdv1.AggregateResponse
	// Gap names a month of which events may be missing among those that a Subscription gave.
	Gap = trackdv1.SubscribeGap
)
