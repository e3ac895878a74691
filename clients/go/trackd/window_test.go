package trackd

import (
	"math/rand"
	"testing"
	"time"
)

func entries(start, count, bytes int) []entry {
	made := make([]entry, count)
	for at, event := range events(start, count) {
		made[at] = entry{event, int64(start + at), bytes}
	}
	return made
}

func firsts(batches []*batch) []int64 {
	found := []int64{}
	for _, one := range batches {
		found = append(found, one.first())
	}
	return found
}

func anyLimits() *limits { return limitsTold(nil) }

func TestAWindowHasRoomForOneBatchHoweverLarge(t *testing.T) {
	w := window{batchesMax: 2, bytesMax: 100}
	equal(t, "room in an empty window", w.hasRoom(), true)
	w.add(entries(0, 1, 1_000))
	equal(t, "room above its bytes", w.hasRoom(), false)
	w = window{batchesMax: 2, bytesMax: 1_000}
	w.add(entries(0, 1, 1))
	equal(t, "room for a second", w.hasRoom(), true)
	w.add(entries(1, 1, 1))
	equal(t, "room for a third", w.hasRoom(), false)
}

func TestNothingIsSentBeforeTheStreamIsOpened(t *testing.T) {
	w := window{batchesMax: 2, bytesMax: 1_000}
	w.add(entries(0, 1, 1))
	if w.take() != nil {
		t.Error("a batch was sent")
	}
	w.opened(anyLimits())
	if w.take() == nil {
		t.Error("no batch was sent")
	}
}

func TestBatchesInFlightStayWithinBytes(t *testing.T) {
	w := window{batchesMax: 9, bytesMax: 10_000}
	w.opened(&limits{batchEvents: 10, batchBytes: 1_000, inFlightBatches: 10, inFlightBytes: 300})
	for at := 0; at < 3; at++ {
		w.add(entries(at, 1, 100))
	}
	for w.take() != nil {
	}
	equal(t, "in flight", firsts(w.inFlight), []int{0, 1})
	w.settle(nil)
	w.take()
	equal(t, "in flight", firsts(w.inFlight), []int{1, 2})
}

func TestBatchesInFlightStayWithinTheirNumber(t *testing.T) {
	w := window{batchesMax: 9, bytesMax: 10_000}
	w.opened(&limits{batchEvents: 10, batchBytes: 1_000, inFlightBatches: 2, inFlightBytes: 1_000})
	for at := 0; at < 3; at++ {
		w.add(entries(at, 1, 100))
	}
	for w.take() != nil {
	}
	equal(t, "in flight", firsts(w.inFlight), []int{0, 1})
}

func TestBatchesMadeForAnotherDaemonAreCut(t *testing.T) {
	w := window{batchesMax: 9, bytesMax: 10_000}
	w.add(entries(0, 5, 100))
	w.opened(&limits{batchEvents: 2, batchBytes: 1_000, inFlightBatches: 10, inFlightBytes: 1_000})
	equal(t, "by events", firsts(w.waiting), []int{0, 2, 4})
	w.opened(&limits{batchEvents: 2, batchBytes: 140, inFlightBatches: 10, inFlightBytes: 1_000})
	equal(t, "by bytes", firsts(w.waiting), []int{0, 1, 2, 3, 4})
	w.opened(&limits{batchEvents: 2, batchBytes: 10, inFlightBatches: 10, inFlightBytes: 1_000})
	equal(t, "events that are too large travel alone", firsts(w.waiting), []int{0, 1, 2, 3, 4})
}

func TestWhatIsPutBackWaitsInItsOldPlace(t *testing.T) {
	w := window{batchesMax: 9, bytesMax: 10_000}
	for at := 0; at < 4; at++ {
		w.add(entries(at, 1, 100))
	}
	w.opened(anyLimits())
	first := w.take()
	w.take()
	w.settle(first)
	equal(t, "waiting", firsts(w.waiting), []int{0, 2, 3})
	w.lost()
	equal(t, "after the stream broke", firsts(w.waiting), []int{0, 1, 2, 3})
}

// TestNothingIsForgottenOrDoubledInRandomHistories plays streams that open, break, take and refuse at random.
func TestNothingIsForgottenOrDoubledInRandomHistories(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewSource(seed))
	for history := 0; history < 200; history++ {
		w := window{batchesMax: 4, bytesMax: 2_000}
		answered := map[int64]bool{}
		next := 0
		for step := 0; step < 200 || !w.empty(); step++ {
			switch random.Intn(6) {
			case 0:
				if w.hasRoom() && step < 200 {
					count := 1 + random.Intn(5)
					w.add(entries(next, count, 100))
					next += count
				}
			case 1:
				if random.Intn(4) == 0 {
					w.lost()
				}
			case 2:
				if w.limits == nil {
					w.opened(&limits{int64(1 + random.Intn(4)), 1_000, int64(1 + random.Intn(3)), 1_000})
				}
			case 3:
				w.take()
			default:
				if len(w.inFlight) > 0 {
					oldest, err := w.expect(w.inFlight[0].id)
					if err != nil {
						t.Fatal(err)
					}
					var left *batch
					final := oldest.entries
					if random.Intn(3) == 0 {
						cut := random.Intn(len(final))
						left, final = w.batchOf(final[cut:]), final[:cut]
					}
					for _, one := range final {
						if answered[one.sequence] {
							t.Fatalf("event %d was answered twice", one.sequence)
						}
						answered[one.sequence] = true
					}
					w.settle(left)
				}
			}
			bytes := 0
			for _, one := range append(append([]*batch{}, w.waiting...), w.inFlight...) {
				bytes += one.bytes
			}
			equal(t, "bytes", w.waitingBytes+w.inFlightBytes, bytes)
		}
		equal(t, "answered", len(answered), next)
	}
}

func TestDelaysDoubleUpToTheLargestAndHonourTheDaemon(t *testing.T) {
	d := newDelays(Backoff{First: 100 * time.Millisecond, Max: time.Second})
	d.random = func() float64 { return 1 }
	got := []int64{}
	for at := 0; at < 6; at++ {
		got = append(got, d.next(0).Milliseconds())
	}
	equal(t, "delays", got, []int{100, 200, 400, 800, 1000, 1000})
	equal(t, "what the daemon asks for", d.next(3*time.Second), 3*time.Second)
	equal(t, "what nobody believes", d.next(1000*time.Hour), time.Hour)
	d.reset()
	d.random = func() float64 { return 0 }
	equal(t, "the shortest first delay", d.next(0), 50*time.Millisecond)
}

func TestPatienceRunsOnlyWhileSomethingIsWaitedFor(t *testing.T) {
	p := patience{limit: time.Second}
	now := time.Unix(1_000, 0)
	p.watch(now, true)
	p.watch(now.Add(600*time.Millisecond), true)
	equal(t, "left", p.left(now.Add(600*time.Millisecond)), 400*time.Millisecond)
	p.progress(now.Add(600 * time.Millisecond))
	equal(t, "left after progress", p.left(now.Add(600*time.Millisecond)), time.Second)
	p.watch(now, false)
	equal(t, "endless", p.left(now.Add(time.Hour)) > time.Hour, true)
}
