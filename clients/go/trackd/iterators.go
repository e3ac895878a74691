//go:build go1.23

package trackd

import "iter"

// All is the list for a loop: `for stored, err := range client.ListEvents(...).All()`. After an error it ends.
func (e *Events) All() iter.Seq2[*StoredEvent, error] { return sequence(e.Next, e.Event, e.Err) }

// All is the subscription for a loop: `for stored, err := range client.Subscribe(...).All()`. After an error it ends.
func (s *Subscription) All() iter.Seq2[*StoredEvent, error] { return sequence(s.Next, s.Event, s.Err) }

func sequence(next func() bool, event func() *StoredEvent, failure func() error) iter.Seq2[*StoredEvent, error] {
	return func(yield func(*StoredEvent, error) bool) {
		for next() {
			if !yield(event(), nil) {
				return
			}
		}
		if err := failure(); err != nil {
			yield(nil, err)
		}
	}
}
