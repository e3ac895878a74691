package trackd

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	trackdv1 "trackd.dev/clients/go/trackd/v1"
)

const pageSizeMax = 1_000

// Order is the order of a list.
type Order = trackdv1.EventOrder

// The orders of ListEvents.
const (
	TimeAscending      = trackdv1.EventOrder_EVENT_ORDER_TIME_ASC
	TimeDescending     = trackdv1.EventOrder_EVENT_ORDER_TIME_DESC
	PositionAscending  = trackdv1.EventOrder_EVENT_ORDER_POSITION_ASC
	PositionDescending = trackdv1.EventOrder_EVENT_ORDER_POSITION_DESC
)

// ListOptions say how events are listed. The zero value lists all, newest first.
type ListOptions struct {
	// Filter says which events; nil: all.
	Filter *EventFilter
	// Order is TimeDescending if not set.
	Order Order
	// PageSize is how many are fetched at once: 1,000, which is also the most.
	PageSize int32
	// AtLeastPosition reads your own writes: refused if the daemon's head is below it. 0: not asked for.
	AtLeastPosition int64
}

// Events are fetched page by page while they are consumed, all cut at one head:
//
//	events := client.ListEvents(ctx, trackd.ListOptions{})
//	for events.Next() {
//		fmt.Println(events.Event().GetPosition())
//	}
//	if err := events.Err(); err != nil {
//
// Not for use by several goroutines at once.
type Events struct {
	ctx     context.Context
	client  *Client
	request *trackdv1.ListEventsRequest
	page    []*StoredEvent
	current *StoredEvent
	asOf    int64
	last    bool
	err     error
}

// ListEvents lists events. The context is that of the whole list. Nothing is asked before the first Next.
func (c *Client) ListEvents(ctx context.Context, options ListOptions) *Events {
	request := &trackdv1.ListEventsRequest{Filter: options.Filter, Order: options.Order, PageSize: options.PageSize}
	if request.PageSize <= 0 {
		request.PageSize = pageSizeMax
	}
	if options.AtLeastPosition > 0 {
		request.AtLeastPosition = &options.AtLeastPosition
	}
	return &Events{ctx: ctx, client: c, request: request}
}

// Next goes to the next event; false: there is none, or Err says why it could not be had.
func (e *Events) Next() bool {
	for len(e.page) == 0 {
		if e.last || e.err != nil {
			e.current = nil
			return false
		}
		e.fetch()
	}
	e.current, e.page = e.page[0], e.page[1:]
	return true
}

func (e *Events) fetch() {
	var trailer metadata.MD
	response, err := e.client.query.ListEvents(e.ctx, e.request, grpc.Trailer(&trailer))
	e.err = errorOfCall(err, trailer)
	e.page = response.GetEvents()
	e.request.PageToken = response.GetNextPageToken()
	e.last = e.request.PageToken == ""
	if err == nil {
		e.asOf = response.GetAsOfPosition()
	}
}

// Event is the event that Next went to.
func (e *Events) Event() *StoredEvent { return e.current }

// AsOfPosition is the head that the list is cut at; 0 before the first Next.
func (e *Events) AsOfPosition() int64 { return e.asOf }

// Err is what ended the list early, an *Error; nil if it came to its end.
func (e *Events) Err() error { return e.err }
