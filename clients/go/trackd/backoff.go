package trackd

import (
	"math/rand"
	"time"
)

// Backoff says how long to wait before trying again: delays that double from First up to Max, each shortened by up to
// half at random, so that many senders that lost the same daemon do not return at the same moment. The zero value
// stands for 100 ms and 5 s.
type Backoff struct {
	First time.Duration
	Max   time.Duration
}

// hintMax is the longest delay that a daemon can ask for: a garbled answer must not stop a sender.
const hintMax = time.Hour

// delays counts failures; not for use by several goroutines at once.
type delays struct {
	backoff  Backoff
	failures int
	random   func() float64 // in [0, 1)
}

func newDelays(backoff Backoff) *delays {
	if backoff.First <= 0 {
		backoff.First = 100 * time.Millisecond
	}
	if backoff.Max <= 0 {
		backoff.Max = 5 * time.Second
	}
	return &delays{backoff: backoff, random: rand.New(rand.NewSource(time.Now().UnixNano())).Float64}
}

// next is the delay after one more failure; never less than the daemon asked for, up to an hour.
func (d *delays) next(atLeast time.Duration) time.Duration {
	full := d.backoff.First
	for step := 0; step < d.failures && full < d.backoff.Max; step++ {
		full *= 2
	}
	if full > d.backoff.Max {
		full = d.backoff.Max
	}
	d.failures++
	if atLeast > hintMax {
		atLeast = hintMax
	}
	delay := time.Duration(float64(full) * (0.5 + d.random()/2))
	if delay < atLeast {
		return atLeast
	}
	return delay
}

// reset says that something succeeded: the next delay is the first one again.
func (d *delays) reset() { d.failures = 0 }

// patience notices that nothing has moved for some time while something was waited for.
type patience struct {
	limit time.Duration
	since time.Time // zero while nothing is waited for
}

// watch says whether something is waited for. The time begins to run when that becomes true.
func (p *patience) watch(now time.Time, waiting bool) {
	if !waiting {
		p.since = time.Time{}
	} else if p.since.IsZero() {
		p.since = now
	}
}

// progress says that something moved: the time starts anew.
func (p *patience) progress(now time.Time) {
	if !p.since.IsZero() {
		p.since = now
	}
}

// left is the time until patience ends, at most 0 when it has; far more than anybody waits while nothing is waited for.
func (p *patience) left(now time.Time) time.Duration {
	if p.since.IsZero() {
		return 24 * time.Hour
	}
	return p.since.Add(p.limit).Sub(now)
}
