package trackd

import (
	"sort"

	trackdv1 "trackd.dev/clients/go/trackd/v1"
)

// batchOverheadBytes is that of the batch and of the message around it: batch_id, atomic, tags and lengths.
const batchOverheadBytes = 32

// entry is one event that was handed over. `sequence` is its place, from 0, among all of them.
type entry struct {
	event    *Event
	sequence int64
	bytes    int
}

// batch is some events that are answered together. `defects` counts how often the daemon failed (INTERNAL) over it.
type batch struct {
	id      uint64
	entries []entry
	bytes   int
	defects int
}

func (b *batch) first() int64 { return b.entries[0].sequence }

func (b *batch) request() *trackdv1.AppendStreamRequest {
	events := make([]*Event, len(b.entries))
	for at, entry := range b.entries {
		events[at] = entry.event
	}
	return &trackdv1.AppendStreamRequest{Message: &trackdv1.AppendStreamRequest_Batch{
		Batch: &trackdv1.AppendBatch{BatchId: b.id, Events: events},
	}}
}

// limits say how much one stream takes at once.
type limits struct {
	batchEvents, batchBytes, inFlightBatches, inFlightBytes int64
}

// limitsTold are those of the handshake. What a daemon leaves open (0) is no limit.
func limitsTold(told *trackdv1.IngestLimits) *limits {
	or := func(limit int64) int64 {
		if limit <= 0 {
			return 1 << 62
		}
		return limit
	}
	return &limits{
		batchEvents:     or(told.GetMaxBatchEvents()),
		batchBytes:      or(told.GetMaxBatchBytes()),
		inFlightBatches: or(told.GetMaxInFlightBatches()),
		inFlightBytes:   or(told.GetMaxInFlightBytes()),
	}
}

// window is what was handed over and is not answered yet: pure state that plans what to send, without network, clock
// or goroutines.
//
// A batch is first waiting, then in flight, then answered and gone. A stream that breaks puts everything in flight back
// to what waits, in order; nothing is ever forgotten but by an answer.
type window struct {
	batchesMax, bytesMax        int
	waiting, inFlight           []*batch
	waitingBytes, inFlightBytes int
	limits                      *limits // nil while no stream is open
	ids                         uint64
}

func (w *window) empty() bool { return len(w.waiting) == 0 && len(w.inFlight) == 0 }

// hasRoom tells whether one more batch may be added now; a single one always may.
func (w *window) hasRoom() bool {
	return w.empty() ||
		(len(w.waiting)+len(w.inFlight) < w.batchesMax && w.waitingBytes+w.inFlightBytes < w.bytesMax)
}

// add takes over events as a batch that is the last to be sent. One that the open stream would refuse is cut.
func (w *window) add(entries []entry) {
	for _, part := range w.fitting(w.batchOf(entries)) {
		w.waiting = append(w.waiting, part)
		w.waitingBytes += part.bytes
	}
}

// opened says that a new stream takes batches within these limits: larger ones, made for another daemon, are cut up.
func (w *window) opened(limits *limits) {
	w.lost()
	w.limits = limits
	fitting := make([]*batch, 0, len(w.waiting))
	for _, one := range w.waiting {
		fitting = append(fitting, w.fitting(one)...)
	}
	w.waiting, w.waitingBytes = fitting, 0
	for _, one := range w.waiting {
		w.waitingBytes += one.bytes
	}
}

// lost says that the stream is gone: everything in flight is to be sent again, in its old order.
func (w *window) lost() {
	w.limits = nil
	all := make([]*batch, 0, len(w.inFlight)+len(w.waiting))
	all = append(append(all, w.inFlight...), w.waiting...)
	// Sorted and not only put in front: a batch refused for now may wait while younger ones are in flight.
	sort.SliceStable(all, func(one, other int) bool { return all[one].first() < all[other].first() })
	w.waiting, w.inFlight = all, nil
	w.waitingBytes, w.inFlightBytes = w.waitingBytes+w.inFlightBytes, 0
}

// take is the next batch to send, now in flight; nil while nothing waits or the stream takes no more.
func (w *window) take() *batch {
	if w.limits == nil || len(w.waiting) == 0 {
		return nil
	}
	next := w.waiting[0]
	if len(w.inFlight) > 0 && (int64(len(w.inFlight)) >= w.limits.inFlightBatches ||
		int64(w.inFlightBytes+next.bytes) > w.limits.inFlightBytes) {
		return nil
	}
	w.waiting[0], w.waiting = nil, w.waiting[1:]
	w.inFlight = append(w.inFlight, next)
	w.waitingBytes -= next.bytes
	w.inFlightBytes += next.bytes
	return next
}

// expect is the batch that an answer is for: always the oldest in flight. Any other is a violation of the protocol.
func (w *window) expect(id uint64) (*batch, error) {
	if len(w.inFlight) == 0 {
		return nil, violation("an answer for batch %d, and none is in flight", id)
	}
	oldest := w.inFlight[0]
	if id != 0 && id != oldest.id { // 0: the daemon could not read the id
		return nil, violation("an answer for batch %d, and the next must be for %d", id, oldest.id)
	}
	return oldest, nil
}

// settle says that the oldest batch in flight has its answer: it is gone, but for what is `left` of it, if anything.
// That waits again, in its old place among what waits.
func (w *window) settle(left *batch) {
	w.inFlightBytes -= w.inFlight[0].bytes
	w.inFlight[0], w.inFlight = nil, w.inFlight[1:]
	if left == nil {
		return
	}
	at := sort.Search(len(w.waiting), func(at int) bool { return w.waiting[at].first() > left.first() })
	w.waiting = append(w.waiting, nil)
	copy(w.waiting[at+1:], w.waiting[at:])
	w.waiting[at] = left
	w.waitingBytes += left.bytes
}

// batchOf makes a batch. Ids rise and are never 0, which is what the daemon answers to a batch it could not read.
func (w *window) batchOf(entries []entry) *batch {
	w.ids++
	made := &batch{id: w.ids, entries: entries, bytes: batchOverheadBytes}
	for _, one := range entries {
		made.bytes += one.bytes
	}
	return made
}

// fitting is the batch, cut up if the open stream would refuse it. An event too large on its own travels alone.
func (w *window) fitting(whole *batch) []*batch {
	// The daemon counts the batch without the message around it.
	if w.limits == nil || len(whole.entries) == 1 || (int64(len(whole.entries)) <= w.limits.batchEvents &&
		int64(whole.bytes) <= w.limits.batchBytes) {
		return []*batch{whole}
	}
	var parts []*batch
	start, size := 0, batchOverheadBytes
	for at, one := range whole.entries {
		if at > start && (int64(at-start) >= w.limits.batchEvents || int64(size+one.bytes) > w.limits.batchBytes) {
			parts = append(parts, w.batchOf(whole.entries[start:at]))
			start, size = at, batchOverheadBytes
		}
		size += one.bytes
	}
	return append(parts, w.batchOf(whole.entries[start:]))
}
