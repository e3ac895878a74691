package dev.trackd;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import dev.trackd.v1.AppendBatch;
import dev.trackd.v1.AppendBatchAnswer;
import dev.trackd.v1.AppendRequest;
import dev.trackd.v1.AppendResponse;
import dev.trackd.v1.AppendResult;
import dev.trackd.v1.AppendStreamOpened;
import dev.trackd.v1.AppendStreamRequest;
import dev.trackd.v1.AppendStreamResponse;
import dev.trackd.v1.Event;
import dev.trackd.v1.IngestLimits;
import dev.trackd.v1.IngestServiceGrpc.IngestServiceImplBase;
import io.grpc.BindableService;
import io.grpc.Server;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.inprocess.InProcessChannelBuilder;
import io.grpc.inprocess.InProcessServerBuilder;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;

/** A daemon played by a test: it answers batches as a script says; without one it stores. */
final class FakeDaemon extends IngestServiceImplBase implements AutoCloseable {
  /** What is done with a batch: an answer, null for none, or a StatusRuntimeException that ends the stream. */
  interface Script {
    AppendBatchAnswer.Builder answer(int call, AppendBatch batch);
  }

  final Map<ByteString, String> stored = new ConcurrentHashMap<>();
  final List<List<String>> batches = new CopyOnWriteArrayList<>();
  final List<Long> ids = new CopyOnWriteArrayList<>();
  final AtomicInteger streams = new AtomicInteger();
  volatile Script script = (call, batch) -> store(batch);
  volatile IngestLimits limits =
      IngestLimits.newBuilder().setMaxBatchEvents(100).setMaxInFlightBatches(4).build();

  /** May refuse a stream by throwing StatusRuntimeException; gets the number of the stream, from 1. */
  volatile Consumer<Integer> opening = stream -> {};

  private final String name = UUID.randomUUID().toString();
  private final List<BindableService> others;
  private Server server;

  FakeDaemon(BindableService... others) throws IOException {
    this.others = List.of(others);
    start();
  }

  void start() throws IOException {
    InProcessServerBuilder builder = InProcessServerBuilder.forName(name).addService(this);
    others.forEach(builder::addService);
    server = builder.build().start();
  }

  /** Cuts every connection off, as a killed process would. */
  void stop() throws InterruptedException {
    server.shutdownNow().awaitTermination();
  }

  @Override
  public void close() {
    server.shutdownNow();
  }

  TrackdClient client() {
    return new TrackdClient(InProcessChannelBuilder.forName(name).build(), java.time.Duration.ofSeconds(10));
  }

  /** Impatient options with small batches. */
  static AppenderOptions options() {
    return new AppenderOptions("tests")
        .batchEvents(2)
        .linger(java.time.Duration.ZERO)
        .giveUpAfter(java.time.Duration.ofSeconds(5))
        .backoff(quick());
  }

  static Backoff quick() {
    return new Backoff(java.time.Duration.ofMillis(5), java.time.Duration.ofMillis(50));
  }

  /** Keeps each id once. */
  synchronized AppendBatchAnswer.Builder store(AppendBatch batch) {
    int before = stored.size();
    batch.getEventsList().forEach(event -> stored.put(event.getId(), event.getUserId()));
    int accepted = stored.size() - before;
    return result(
        AppendResult.newBuilder().setAccepted(accepted).setDuplicate(batch.getEventsCount() - accepted).build());
  }

  static AppendBatchAnswer.Builder result(AppendResult result) {
    return AppendBatchAnswer.newBuilder().setResult(result);
  }

  static AppendBatchAnswer.Builder refused(Code code, String reason, Integer retryMillis) {
    return AppendBatchAnswer.newBuilder().setError(refusal(code, reason, retryMillis));
  }

  /** A status as the daemon words it; with RetryInfo unless there are no milliseconds. */
  static Status refusal(Code code, String reason, Integer retryMillis) {
    ErrorInfo info = ErrorInfo.newBuilder().setReason(reason).setDomain("trackd").putMetadata("hint", "wait").build();
    Status.Builder made = Status.newBuilder().setCode(code.value()).setMessage("refused").addDetails(Any.pack(info));
    if (retryMillis != null) {
      Duration delay = Duration.newBuilder().setNanos(retryMillis * 1_000_000).build();
      made.addDetails(Any.pack(RetryInfo.newBuilder().setRetryDelay(delay).build()));
    }
    return made.build();
  }

  static StatusRuntimeException ended(Code code, String reason, Integer retryMillis) {
    return StatusProto.toStatusRuntimeException(refusal(code, reason, retryMillis));
  }

  /** Events numbered from a start. */
  static List<Event> events(int start, int count) {
    List<Event> made = new ArrayList<>();
    for (int at = start; at < start + count; at++) {
      made.add(Event.newBuilder().setType("t").setUserId(String.valueOf(at)).build());
    }
    return made;
  }

  @Override
  public void append(AppendRequest request, StreamObserver<AppendResponse> response) {
    if (request.getSource().equals("full")) {
      response.onError(ended(Code.UNAVAILABLE, "QUEUE_FULL", 250));
      return;
    }
    AppendBatch batch = AppendBatch.newBuilder().addAllEvents(request.getEventsList()).build();
    response.onNext(AppendResponse.newBuilder().setResult(store(batch).getResult()).build());
    response.onCompleted();
  }

  @Override
  public StreamObserver<AppendStreamRequest> appendStream(StreamObserver<AppendStreamResponse> responses) {
    return new StreamObserver<>() {
      private boolean over;

      @Override
      public void onNext(AppendStreamRequest request) {
        if (over) {
          return;
        }
        try {
          answer(request, responses);
        } catch (StatusRuntimeException broken) {
          over = true;
          responses.onError(broken);
        }
      }

      @Override
      public void onError(Throwable cancelled) {
        over = true;
      }

      @Override
      public void onCompleted() {
        if (!over) {
          responses.onCompleted();
        }
      }
    };
  }

  private void answer(AppendStreamRequest request, StreamObserver<AppendStreamResponse> responses) {
    if (request.hasOpen()) {
      if (!request.getOpen().getSource().equals("tests")) {
        throw new AssertionError(request);
      }
      opening.accept(streams.incrementAndGet());
      AppendStreamOpened opened = AppendStreamOpened.newBuilder().setLimits(limits).build();
      responses.onNext(AppendStreamResponse.newBuilder().setOpened(opened).build());
      return;
    }
    AppendBatch batch = request.getBatch();
    ids.add(batch.getBatchId());
    int call;
    synchronized (batches) {
      batches.add(batch.getEventsList().stream().map(Event::getUserId).toList());
      call = batches.size();
    }
    AppendBatchAnswer.Builder answer = script.answer(call, batch);
    if (answer != null) {
      if (answer.getBatchId() == 0) {
        answer.setBatchId(batch.getBatchId());
      }
      responses.onNext(AppendStreamResponse.newBuilder().setAnswer(answer).build());
    }
  }
}
