package dev.trackd;

import dev.trackd.v1.AggregateRequest;
import dev.trackd.v1.AggregateResponse;
import dev.trackd.v1.AppendRequest;
import dev.trackd.v1.AppendResult;
import dev.trackd.v1.CountDimension;
import dev.trackd.v1.CountEventsRequest;
import dev.trackd.v1.CountEventsResponse;
import dev.trackd.v1.Event;
import dev.trackd.v1.EventFilter;
import dev.trackd.v1.EventOrder;
import dev.trackd.v1.IngestServiceGrpc;
import dev.trackd.v1.ListEventsRequest;
import dev.trackd.v1.QueryServiceGrpc;
import dev.trackd.v1.StoredEvent;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.stub.AbstractBlockingStub;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/**
 * A connection to one daemon. Threads may share it.
 *
 * <p>Every call ends within the timeout or throws; calls throw {@link TrackdException}, and none is repeated by itself. Only
 * a {@link Subscription} lasts.
 */
public final class TrackdClient implements AutoCloseable {
  /** Where a daemon listens if nobody told it otherwise. */
  public static final String DEFAULT_TARGET = "127.0.0.1:7077";

  private static final Duration STANDARD_TIMEOUT = Duration.ofSeconds(30);

  private final ManagedChannel channel;
  private final Duration timeout;

  /** Uses this channel, for example one with TLS, and shuts it down at the end. */
  public TrackdClient(ManagedChannel channel, Duration timeout) {
    this.channel = channel;
    this.timeout = timeout;
  }

  /**
   * A client of the daemon at HOST:PORT, without TLS; it connects when it is first used. Its calls have 30 s.
   */
  public static TrackdClient connect(String target) {
    return connect(target, InsecureChannelCredentials.create());
  }

  /**
   * The same with TLS, with a {@link BearerToken}, or with both: {@code TlsChannelCredentials}, {@code
   * CompositeChannelCredentials.create(tls, token)}.
   */
  public static TrackdClient connect(String target, ChannelCredentials credentials) {
    return new TrackdClient(channel(target, credentials).build(), STANDARD_TIMEOUT);
  }

  /** A client of the daemon that the environment variable TRACKD_TARGET names, else of {@link #DEFAULT_TARGET}. */
  public static TrackdClient connect() {
    String target = System.getenv("TRACKD_TARGET");
    return connect(target == null || target.isEmpty() ? DEFAULT_TARGET : target);
  }

  private static ManagedChannelBuilder<?> channel(String target, ChannelCredentials credentials) {
    return Grpc.newChannelBuilder(target, credentials)
        // The daemon takes a ping every 30 s; a host that vanished without a word is noticed after 60 s.
        .keepAliveTime(40, TimeUnit.SECONDS)
        .keepAliveTimeout(20, TimeUnit.SECONDS)
        // The daemon ends its pages before 3.5 MiB; events as large as its limits allow still have to come through.
        .maxInboundMessageSize(16 << 20);
  }

  /** For services that have no methods here, such as dev.trackd.v1.EventTypeServiceGrpc and health. */
  public ManagedChannel channel() {
    return channel;
  }

  /** Ends the connection. Close Appenders and Subscriptions first. Closing twice is fine. */
  @Override
  public void close() {
    channel.shutdownNow();
    try {
      channel.awaitTermination(5, TimeUnit.SECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  /** See {@link #append(String, List)}. */
  public AppendResult append(String source, Event... events) {
    return append(source, Arrays.asList(events));
  }

  /**
   * Sends one batch on behalf of this service and returns what became of each event: read {@code getRejected} and {@code
   * getItemsList}, a rejected event throws nothing.
   *
   * <p>When this throws and the outcome is unknown (see TrackdException), send the same events again: they are stored once
   * as long as they carry ids ({@link Events} gives them one).
   */
  public AppendResult append(String source, List<Event> events) {
    return append(AppendRequest.newBuilder().setSource(source).addAllEvents(events).build());
  }

  /** The same for requests with other wishes, such as {@code setAtomic(true)}. */
  public AppendResult append(AppendRequest request) {
    return ask(IngestServiceGrpc::newBlockingStub, stub -> stub.append(request)).getResult();
  }

  /** Counts the events that match, in groups; without dimensions in one row, the total. */
  public CountEventsResponse countEvents(EventFilter filter, CountDimension... by) {
    CountEventsRequest request =
        CountEventsRequest.newBuilder().setFilter(filter).addAllBy(Arrays.asList(by)).build();
    return ask(QueryServiceGrpc::newBlockingStub, stub -> stub.countEvents(request));
  }

  /**
   * All events that match, fetched page by page while they are consumed, all cut at one head. Each iterator asks anew; it
   * throws TrackdException.
   */
  public Iterable<StoredEvent> listEvents(EventFilter filter, EventOrder order) {
    return listEvents(ListEventsRequest.newBuilder().setFilter(filter).setOrder(order).setPageSize(1_000).build());
  }

  /** The same for requests with other wishes, such as a page size or {@code setAtLeastPosition}. */
  public Iterable<StoredEvent> listEvents(ListEventsRequest request) {
    return () ->
        new EventPages(page -> ask(QueryServiceGrpc::newBlockingStub, stub -> stub.listEvents(page)), request);
  }

  /** Computes a table of metrics over groups of events. See {@link Rows} for reading it. */
  public AggregateResponse aggregate(AggregateRequest question) {
    return ask(QueryServiceGrpc::newBlockingStub, stub -> stub.aggregate(question));
  }

  /** Follows the daemon. Nothing is asked before the first event is. */
  public Subscription subscribe(SubscribeOptions options) {
    return new Subscription(channel, options);
  }

  /** Begins to send through this connection. What the daemon refuses comes out of send, flush or close. */
  public Appender appender(AppenderOptions options) {
    return new Appender(channel, options);
  }

  private <S extends AbstractBlockingStub<S>, T> T ask(Function<ManagedChannel, S> service, Function<S, T> call) {
    try {
      return call.apply(service.apply(channel).withDeadlineAfter(timeout.toNanos(), TimeUnit.NANOSECONDS));
    } catch (RuntimeException broken) {
      throw TrackdException.of(broken);
    }
  }
}
