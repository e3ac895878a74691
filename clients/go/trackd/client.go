package trackd

import (
	"context"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	trackdv1 "trackd.dev/clients/go/trackd/v1"
)

// DefaultTarget is where a daemon listens if nobody told it otherwise.
const DefaultTarget = "127.0.0.1:7077"

// Durability is what an answer promises.
type Durability = trackdv1.Durability

const (
	// DurabilityDurable means that the events are on disk. It is what the daemon does if nothing is asked for.
	DurabilityDurable = trackdv1.Durability_DURABILITY_DURABLE
	// DurabilityAccepted means that the events are in the daemon's queue, and a crash loses them. Refused unless the
	// operator allows it.
	DurabilityAccepted = trackdv1.Durability_DURABILITY_ACCEPTED
)

// Dimension is what CountEvents counts by.
type Dimension = trackdv1.CountDimension

// The dimensions of CountEvents.
const (
	ByType   = trackdv1.CountDimension_COUNT_DIMENSION_TYPE
	ByMonth  = trackdv1.CountDimension_COUNT_DIMENSION_MONTH
	BySource = trackdv1.CountDimension_COUNT_DIMENSION_SOURCE
	ByUser   = trackdv1.CountDimension_COUNT_DIMENSION_USER
)

// A Client is a connection to one daemon. Goroutines may share it.
//
// Calls end with their context; none is repeated by itself. What they return on failure is an *Error.
type Client struct {
	connection *grpc.ClientConn
	ingest     trackdv1.IngestServiceClient
	query      trackdv1.QueryServiceClient
	subscribe  trackdv1.SubscribeServiceClient
}

// NewClient makes a client of the daemon at HOST:PORT; "" stands for the environment variable TRACKD_TARGET, else
// DefaultTarget. It connects when it is first used, without TLS unless an option says otherwise.
func NewClient(target string, options ...grpc.DialOption) (*Client, error) {
	if target == "" {
		target = os.Getenv("TRACKD_TARGET")
	}
	if target == "" {
		target = DefaultTarget
	}
	connection, err := grpc.NewClient(target, append(dialOptions(), options...)...)
	if err != nil {
		return nil, err
	}
	return &Client{
		connection: connection,
		ingest:     trackdv1.NewIngestServiceClient(connection),
		query:      trackdv1.NewQueryServiceClient(connection),
		subscribe:  trackdv1.NewSubscribeServiceClient(connection),
	}, nil
}

func dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// gRPC waits between attempts to connect, too. Its default of up to 120 s would outlast every backoff of ours.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		// The daemon takes a ping every 30 s; a host that vanished without a word is noticed after 60 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 40 * time.Second, Timeout: 20 * time.Second}),
		// The daemon ends its pages before 3.5 MiB; events as large as its limits allow still have to come through.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16 * mebibyte)),
	}
}

// Connection is the underlying connection, for services that have no methods here, such as the registry of event types
// (trackdv1.NewEventTypeServiceClient) and health.
func (c *Client) Connection() *grpc.ClientConn { return c.connection }

// Close ends the connection. Close Appenders and Subscriptions first.
func (c *Client) Close() error { return c.connection.Close() }

// AppendOption changes one call of Append.
type AppendOption func(*trackdv1.AppendRequest)

// Atomic asks for all or nothing: if any event is rejected none is stored, and every failing one is listed.
func Atomic() AppendOption {
	return func(request *trackdv1.AppendRequest) { request.Atomic = true }
}

// WithDurability asks for another promise than DurabilityDurable.
func WithDurability(durability Durability) AppendOption {
	return func(request *trackdv1.AppendRequest) { request.Durability = durability }
}

// Append sends one batch on behalf of `source` and returns what became of each event: read Rejected and Items, a rejected
// event is no error. Events without an id are given one, in place.
//
// If it returns an error whose outcome is unknown (see Error), send the same events again: they are stored once.
func (c *Client) Append(
	ctx context.Context, source string, events []*Event, options ...AppendOption,
) (*AppendResult, error) {
	for _, event := range events {
		identify(event)
	}
	request := &trackdv1.AppendRequest{Source: source, Events: events}
	for _, option := range options {
		option(request)
	}
	var trailer metadata.MD
	response, err := c.ingest.Append(ctx, request, grpc.Trailer(&trailer))
	return response.GetResult(), errorOfCall(err, trailer)
}

// CountEvents counts the events that match, nil for all, in groups; without dimensions in one row, the total.
func (c *Client) CountEvents(
	ctx context.Context, filter *EventFilter, by ...Dimension,
) (*trackdv1.CountEventsResponse, error) {
	var trailer metadata.MD
	request := &trackdv1.CountEventsRequest{Filter: filter, By: by}
	response, err := c.query.CountEvents(ctx, request, grpc.Trailer(&trailer))
	return response, errorOfCall(err, trailer)
}

// Aggregate computes a table of metrics over groups of events. See Rows for reading it.
func (c *Client) Aggregate(ctx context.Context, question *Question) (*Answer, error) {
	var trailer metadata.MD
	answer, err := c.query.Aggregate(ctx, question, grpc.Trailer(&trailer))
	return answer, errorOfCall(err, trailer)
}

// Rows are the rows of a table, with values by the names of columns: string, int64, float64, or nil where there is none.
// Instants are milliseconds since 1970, UTC.
func Rows(answer *Answer) []map[string]any {
	rows := make([]map[string]any, answer.GetRows())
	for at := range rows {
		rows[at] = make(map[string]any, len(answer.GetColumns()))
	}
	for _, column := range answer.GetColumns() {
		name := column.GetName()
		for at := range rows {
			switch {
			case at < len(column.GetIntegers()):
				rows[at][name] = column.GetIntegers()[at]
			case at < len(column.GetReals()):
				rows[at][name] = column.GetReals()[at]
			case at < len(column.GetTexts()):
				rows[at][name] = column.GetTexts()[at]
			}
		}
		for _, at := range column.GetAbsentRows() {
			if int(at) < len(rows) {
				rows[at][name] = nil
			}
		}
	}
	return rows
}
