//go:build go1.23

package trackd

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	trackdv1 "trackd.dev/clients/go/trackd/v1"
)

func TestASubscriptionIsALoopThatEndsWithItsError(t *testing.T) {
	fake := newFake(t)
	fake.follow = func(_ int, _ *trackdv1.SubscribeRequest, stream following) error {
		say(t, stream, confirmed(0), eventsAt(3, 5))
		return status.Error(codes.InvalidArgument, "no")
	}
	var got []int64
	var last error
	for stored, err := range fake.client(t).Subscribe(soon(t), SubscribeOptions{}).All() {
		got, last = append(got, stored.GetPosition()), err
	}
	equal(t, "positions", got, []int64{3, 5, 0})
	equal(t, "the error came last", last != nil, true)
}
