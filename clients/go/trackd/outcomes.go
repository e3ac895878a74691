package trackd

import (
	"google.golang.org/grpc/codes"

	trackdv1 "trackd.dev/clients/go/trackd/v1"
)

// defectsMax is how often a batch is sent again after INTERNAL: a daemon that restarts cures it, a defect that the batch
// provokes stays.
const defectsMax = 5

// Rejection is one event that is not stored, and never will be as it is.
type Rejection struct {
	// Sequence is the event's place, from 0, among all that were given to the Appender.
	Sequence int64
	// Event is the event.
	Event *Event
	// Reason is the machine word, Message says it in a sentence, Field names the field at fault, if a single one is.
	Reason, Message, Field string
}

// BatchResult is an answer to one batch: what became of Accepted + Duplicate + Rejected + Queued events.
type BatchResult struct {
	// Accepted events were stored, Duplicate ones were stored already, Rejected ones are in Rejections. Queued ones have
	// no known outcome: that is what DurabilityAccepted means.
	Accepted, Duplicate, Rejected, Queued int64
	// LastPosition is the highest position given to the accepted events; 0 if there are none.
	LastPosition int64
	// Rejections are the events that were rejected, in order.
	Rejections []Rejection
	// Err is set where the daemon refused the batch as a whole; then all its events are rejected for that reason.
	Err error
}

// Totals are sums over answers.
type Totals struct {
	Accepted, Duplicate, Rejected, Queued int64
}

func (t Totals) answered() int64 { return t.Accepted + t.Duplicate + t.Rejected + t.Queued }

func (t Totals) plus(result *BatchResult) Totals {
	return Totals{
		Accepted:  t.Accepted + result.Accepted,
		Duplicate: t.Duplicate + result.Duplicate,
		Rejected:  t.Rejected + result.Rejected,
		Queued:    t.Queued + result.Queued,
	}
}

// verdict is what an answer means for the sender.
type verdict struct {
	// result is what is final; nil for nothing.
	result *BatchResult
	// again is what is to be sent again; nil for nothing. Then why says for what reason.
	again *batch
	why   *Error
}

// judge reads an answer. `rebatch` makes a batch of some events of this one.
func judge(sent *batch, answer *trackdv1.AppendBatchAnswer, rebatch func([]entry) *batch) (verdict, error) {
	switch outcome := answer.GetOutcome().(type) {
	case *trackdv1.AppendBatchAnswer_Result:
		return judgeResult(sent, outcome.Result, rebatch)
	case *trackdv1.AppendBatchAnswer_Error:
		return judgeRefusal(sent, errorOf(outcome.Error)), nil
	default:
		return verdict{}, violation("the answer to batch %d says nothing", sent.id)
	}
}

func judgeRefusal(sent *batch, refusal *Error) verdict {
	// Of INTERNAL the outcome is unknown. The ids make sending again safe, so a daemon gets the chance to restart.
	defect := refusal.Code == codes.Internal || refusal.Code == codes.Unknown
	switch {
	case refusal.Retryable:
		return verdict{again: sent, why: refusal}
	case defect && sent.defects < defectsMax:
		again := *sent
		again.defects++
		return verdict{again: &again, why: refusal}
	}
	reason := refusal.Reason
	if reason == "" {
		reason = refusal.Code.String()
	}
	result := &BatchResult{Rejected: int64(len(sent.entries)), Err: refusal}
	for _, one := range sent.entries {
		rejection := Rejection{Sequence: one.sequence, Event: one.event, Reason: reason, Message: refusal.Message}
		result.Rejections = append(result.Rejections, rejection)
	}
	return verdict{result: result}
}

func judgeResult(sent *batch, told *trackdv1.AppendResult, rebatch func([]entry) *batch) (verdict, error) {
	result := &BatchResult{
		Accepted:     told.GetAccepted(),
		Duplicate:    told.GetDuplicate(),
		Rejected:     told.GetRejected(),
		Queued:       told.GetQueued(),
		LastPosition: told.GetLastPosition(),
	}
	count := int64(len(sent.entries))
	if result.Accepted+result.Duplicate+result.Rejected+result.Queued != count {
		return verdict{}, violation("the answer to batch %d is not about its %d events", sent.id, count)
	}
	var later []entry
	var why *Error
	rejected := int64(0)
	for _, item := range told.GetItems() {
		if item.GetOutcome() != trackdv1.AppendOutcome_APPEND_OUTCOME_REJECTED {
			continue
		}
		if item.GetIndex() < 0 || item.GetIndex() >= count {
			return verdict{}, violation("the answer to batch %d names event %d of %d", sent.id, item.GetIndex(), count)
		}
		rejected++
		one := sent.entries[item.GetIndex()]
		if item.GetRetryable() {
			later = append(later, one)
			why = &Error{Code: codes.Aborted, Reason: item.GetReason(), Message: item.GetMessage(), Retryable: true}
			continue
		}
		result.Rejections = append(result.Rejections, Rejection{
			one.sequence, one.event, item.GetReason(), item.GetMessage(), item.GetField(),
		})
	}
	if rejected != result.Rejected {
		return verdict{}, violation("the answer to batch %d counts %d rejected events and names %d", sent.id,
			result.Rejected, rejected)
	}
	result.Rejected -= int64(len(later))
	judged := verdict{result: result, why: why}
	if len(later) > 0 {
		judged.again = rebatch(later)
	}
	if len(later) == len(sent.entries) {
		judged.result = nil
	}
	return judged, nil
}
