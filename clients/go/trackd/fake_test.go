package trackd

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	trackdv1 "trackd.dev/clients/go/trackd/v1"
)

const testTimeout = 20 * time.Second

// reply is what the fake daemon does with a batch: it answers, ends the stream with an error, or says nothing.
type reply struct {
	answer *trackdv1.AppendBatchAnswer
	err    error
}

// fakeDaemon answers batches as a script says; without one it stores.
type fakeDaemon struct {
	trackdv1.UnimplementedIngestServiceServer
	trackdv1.UnimplementedQueryServiceServer
	trackdv1.UnimplementedSubscribeServiceServer
	limits *trackdv1.IngestLimits
	script func(call int, batch *trackdv1.AppendBatch) reply
	// opening may refuse a stream, or take its time.
	opening func(stream int) error
	follow  func(call int, request *trackdv1.SubscribeRequest, stream trackdv1.SubscribeService_SubscribeServer) error
	list    func(request *trackdv1.ListEventsRequest) (*trackdv1.ListEventsResponse, error)

	mutex    sync.Mutex
	listener *bufconn.Listener
	server   *grpc.Server
	stored   map[string]string // id -> user
	batches  [][]string        // users, as they came
	ids      []uint64          // of the batches
	requests []*trackdv1.AppendRequest
	streams  int
	follows  int
}

func newFake(t *testing.T) *fakeDaemon {
	t.Helper()
	fake := &fakeDaemon{
		limits: &trackdv1.IngestLimits{MaxBatchEvents: 100, MaxInFlightBatches: 4},
		stored: map[string]string{},
	}
	fake.start()
	t.Cleanup(fake.stop)
	return fake
}

func (f *fakeDaemon) start() {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.listener, f.server = bufconn.Listen(mebibyte), grpc.NewServer()
	trackdv1.RegisterIngestServiceServer(f.server, f)
	trackdv1.RegisterQueryServiceServer(f.server, f)
	trackdv1.RegisterSubscribeServiceServer(f.server, f)
	go func(server *grpc.Server, listener net.Listener) { _ = server.Serve(listener) }(f.server, f.listener)
}

// stop cuts every connection off, as a killed process would.
func (f *fakeDaemon) stop() {
	f.mutex.Lock()
	server := f.server
	f.mutex.Unlock()
	server.Stop()
}

func (f *fakeDaemon) client(t *testing.T) *Client {
	t.Helper()
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		f.mutex.Lock()
		listener := f.listener
		f.mutex.Unlock()
		return listener.DialContext(ctx)
	}
	client, err := NewClient("passthrough:fake", grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// appender is an impatient one with small batches.
func (f *fakeDaemon) appender(t *testing.T, change func(*AppenderConfig)) *Appender {
	t.Helper()
	config := AppenderConfig{
		Source:      "tests",
		BatchEvents: 2,
		Linger:      -1,
		GiveUpAfter: 5 * time.Second,
		Backoff:     Backoff{First: 5 * time.Millisecond, Max: 50 * time.Millisecond},
	}
	if change != nil {
		change(&config)
	}
	return f.client(t).NewAppender(config)
}

func (f *fakeDaemon) AppendStream(stream trackdv1.IngestService_AppendStreamServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetOpen().GetSource() != "tests" {
		return fmt.Errorf("not opened first: %v", first)
	}
	f.mutex.Lock()
	f.streams++
	number := f.streams
	f.mutex.Unlock()
	if f.opening != nil {
		if err := f.opening(number); err != nil {
			return err
		}
	}
	opened := &trackdv1.AppendStreamOpened{Limits: f.limits}
	message := &trackdv1.AppendStreamResponse{Message: &trackdv1.AppendStreamResponse_Opened{Opened: opened}}
	for err == nil {
		if message != nil {
			if err := stream.Send(message); err != nil {
				return err
			}
		}
		var request *trackdv1.AppendStreamRequest
		if request, err = stream.Recv(); err == nil {
			message, err = f.answer(request.GetBatch())
		}
	}
	if err == io.EOF {
		return nil
	}
	return err
}

func (f *fakeDaemon) answer(batch *trackdv1.AppendBatch) (*trackdv1.AppendStreamResponse, error) {
	f.mutex.Lock()
	f.batches = append(f.batches, users(batch.GetEvents()))
	f.ids = append(f.ids, batch.GetBatchId())
	call := len(f.batches)
	f.mutex.Unlock()
	said := reply{}
	if f.script != nil {
		said = f.script(call, batch)
	} else {
		said = f.store(batch)
	}
	if said.answer == nil {
		return nil, said.err
	}
	if said.answer.BatchId == 0 {
		said.answer.BatchId = batch.GetBatchId()
	}
	return &trackdv1.AppendStreamResponse{Message: &trackdv1.AppendStreamResponse_Answer{Answer: said.answer}}, nil
}

// store keeps each id once.
func (f *fakeDaemon) store(batch *trackdv1.AppendBatch) reply {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	before := len(f.stored)
	for _, event := range batch.GetEvents() {
		f.stored[string(event.GetId())] = event.GetUserId()
	}
	accepted := int64(len(f.stored) - before)
	return result(&AppendResult{Accepted: accepted, Duplicate: int64(len(batch.GetEvents())) - accepted})
}

func (f *fakeDaemon) Append(_ context.Context, request *trackdv1.AppendRequest) (*trackdv1.AppendResponse, error) {
	f.mutex.Lock()
	f.requests = append(f.requests, request)
	f.mutex.Unlock()
	if request.GetSource() == "full" {
		return nil, status.ErrorProto(refusal(codes.Unavailable, "QUEUE_FULL", 250*time.Millisecond))
	}
	said := f.store(&trackdv1.AppendBatch{Events: request.GetEvents()})
	return &trackdv1.AppendResponse{Result: said.answer.GetResult()}, nil
}

func (f *fakeDaemon) ListEvents(
	_ context.Context, request *trackdv1.ListEventsRequest,
) (*trackdv1.ListEventsResponse, error) {
	return f.list(request)
}

func (f *fakeDaemon) Subscribe(
	request *trackdv1.SubscribeRequest, stream trackdv1.SubscribeService_SubscribeServer,
) error {
	f.mutex.Lock()
	f.follows++
	call := f.follows
	f.mutex.Unlock()
	return f.follow(call, request, stream)
}

func (f *fakeDaemon) seen() (batches [][]string, ids []uint64, streams int) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return append([][]string{}, f.batches...), append([]uint64{}, f.ids...), f.streams
}

func result(told *AppendResult) reply {
	return reply{answer: &trackdv1.AppendBatchAnswer{Outcome: &trackdv1.AppendBatchAnswer_Result{Result: told}}}
}

func refused(code codes.Code, reason string, retry time.Duration) reply {
	told := &trackdv1.AppendBatchAnswer_Error{Error: refusal(code, reason, retry)}
	return reply{answer: &trackdv1.AppendBatchAnswer{Outcome: told}}
}

// refusal is a status as the daemon words it; with RetryInfo unless `retry` is negative.
func refusal(code codes.Code, reason string, retry time.Duration) *statuspb.Status {
	info := &errdetails.ErrorInfo{Reason: reason, Domain: "trackd", Metadata: map[string]string{"hint": "wait"}}
	detail, _ := anypb.New(info)
	made := &statuspb.Status{Code: int32(code), Message: "refused", Details: []*anypb.Any{detail}}
	if retry >= 0 {
		detail, _ = anypb.New(&errdetails.RetryInfo{RetryDelay: durationpb.New(retry)})
		made.Details = append(made.Details, detail)
	}
	return made
}

// events are numbered from `start`.
func events(start, count int) []*Event {
	made := make([]*Event, count)
	for at := range made {
		made[at] = &Event{Type: "t", UserId: fmt.Sprint(start + at)}
	}
	return made
}

func users(events []*Event) []string {
	found := make([]string, len(events))
	for at, event := range events {
		found[at] = event.GetUserId()
	}
	return found
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

func send(t *testing.T, appender *Appender, events []*Event) {
	t.Helper()
	if err := appender.Send(soon(t), events...); err != nil {
		t.Fatal(err)
	}
}

func closed(t *testing.T, appender *Appender) Totals {
	t.Helper()
	totals, err := appender.Close(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	return totals
}

func equal(t *testing.T, what string, got, wanted any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		t.Errorf("%s: %v, and it should be %v", what, got, wanted)
	}
}
