package dev.trackd;

import static dev.trackd.FakeDaemon.ended;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.trackd.v1.GapReason;
import dev.trackd.v1.StoredEvent;
import dev.trackd.v1.SubscribeConfirmed;
import dev.trackd.v1.SubscribeEvents;
import dev.trackd.v1.SubscribeGap;
import dev.trackd.v1.SubscribeHeartbeat;
import dev.trackd.v1.SubscribeRequest;
import dev.trackd.v1.SubscribeResponse;
import dev.trackd.v1.SubscribeServiceGrpc.SubscribeServiceImplBase;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.StreamObserver;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.OptionalLong;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Following a daemon played by the test. */
@Timeout(20)
class SubscriptionTest {
  /** Plays the stream of one call, counted from 1; it ends in order unless something is thrown. */
  interface Script {
    void play(int call, SubscribeRequest request, StreamObserver<SubscribeResponse> frames) throws InterruptedException;
  }

  private final List<SubscribeRequest> asked = new ArrayList<>();
  private volatile Script script;
  private FakeDaemon fake;
  private TrackdClient client;

  @BeforeEach
  void start() throws Exception {
    fake =
        new FakeDaemon(
            new SubscribeServiceImplBase() {
              @Override
              public void subscribe(SubscribeRequest request, StreamObserver<SubscribeResponse> frames) {
                asked.add(request);
                try {
                  script.play(asked.size(), request, frames);
                  frames.onCompleted();
                } catch (StatusRuntimeException broken) {
                  frames.onError(broken);
                } catch (InterruptedException ended) {
                  Thread.currentThread().interrupt();
                }
              }
            });
    client = fake.client();
  }

  @AfterEach
  void stop() throws Exception {
    client.close();
    fake.close();
  }

  private static SubscribeResponse confirmed(long after) {
    return SubscribeResponse.newBuilder()
        .setConfirmed(SubscribeConfirmed.newBuilder().setAfterPosition(after).setHead(100))
        .build();
  }

  private static SubscribeResponse eventsAt(long... positions) {
    SubscribeEvents.Builder events = SubscribeEvents.newBuilder().setHead(100);
    Arrays.stream(positions).forEach(position -> events.addEvents(StoredEvent.newBuilder().setPosition(position)));
    return SubscribeResponse.newBuilder().setEvents(events).build();
  }

  private static List<Long> positions(Subscription subscription) {
    List<Long> found = new ArrayList<>();
    subscription.forEachRemaining(stored -> found.add(stored.getPosition()));
    return found;
  }

  private static SubscribeOptions options() {
    return new SubscribeOptions().backoff(FakeDaemon.quick());
  }

  @Test
  void itGoesOnBehindWhatItGave() {
    script =
        (call, request, frames) -> {
          switch (call) {
            case 1 -> {
              frames.onNext(confirmed(0));
              frames.onNext(eventsAt(3, 5));
              throw ended(Code.UNAVAILABLE, "", null);
            }
            case 2 -> {
              frames.onNext(confirmed(5));
              frames.onNext(
                  SubscribeResponse.newBuilder().setHeartbeat(SubscribeHeartbeat.newBuilder().setHead(9)).build());
              throw ended(Code.RESOURCE_EXHAUSTED, "SUBSCRIBERS_FULL", 10);
            }
            default -> {
              frames.onNext(confirmed(9));
              frames.onNext(eventsAt(12));
            }
          }
        };
    List<TrackdException> interruptions = new ArrayList<>();
    Subscription following = client.subscribe(options().afterPosition(0).onInterruption(interruptions::add));
    assertEquals(List.of(3L, 5L, 12L), positions(following));
    assertEquals(List.of(0L, 5L, 9L), asked.stream().map(SubscribeRequest::getAfterPosition).toList());
    assertEquals(2, interruptions.size());
    assertEquals(OptionalLong.of(12), following.position());
    assertEquals(100, following.head());
  }

  @Test
  void positionIsThatOfWhatWasGivenAndNotOfWhatIsAhead() {
    script =
        (call, request, frames) -> {
          frames.onNext(confirmed(0));
          frames.onNext(eventsAt(3, 5));
        };
    Subscription following = client.subscribe(options().afterPosition(0));
    following.next();
    following.hasNext();
    assertEquals(OptionalLong.of(3), following.position());
  }

  @Test
  void positionAlsoPassesOverWhatDoesNotMatch() {
    script =
        (call, request, frames) -> {
          frames.onNext(confirmed(0));
          frames.onNext(eventsAt(3));
          frames.onNext(
              SubscribeResponse.newBuilder().setHeartbeat(SubscribeHeartbeat.newBuilder().setHead(9)).build());
        };
    Subscription following = client.subscribe(options().afterPosition(0));
    assertEquals(List.of(3L), positions(following));
    assertEquals(OptionalLong.of(9), following.position());
  }

  @Test
  void withoutABeginningItResumesWhereItWasConfirmed() {
    script =
        (call, request, frames) -> {
          if (call == 1) {
            frames.onNext(confirmed(7));
            throw ended(Code.UNAVAILABLE, "", null);
          }
        };
    Subscription following = client.subscribe(options());
    assertEquals(OptionalLong.empty(), following.position());
    assertEquals(List.of(), positions(following));
    assertEquals(SubscribeRequest.FromCase.FROM_NOT_SET, asked.get(0).getFromCase());
    assertEquals(7, asked.get(1).getAfterPosition());
  }

  @Test
  void itBeginsAtATimeOfReceipt() {
    script = (call, request, frames) -> {};
    positions(client.subscribe(options().receivedFrom(Instant.ofEpochMilli(1_700_000_000_123L))));
    assertEquals(1_700_000_000_123L, asked.get(0).getReceivedFromMs());
  }

  @Test
  void whatCannotBeWaitedOutEndsIt() {
    script =
        (call, request, frames) -> {
          throw ended(Code.OUT_OF_RANGE, "POSITION_AHEAD", null);
        };
    assertEquals("POSITION_AHEAD", failure(options()));
    assertEquals(1, asked.size());
    script =
        (call, request, frames) -> {
          frames.onNext(confirmed(0));
          frames.onNext(eventsAt(5, 4));
        };
    assertEquals(TrackdException.PROTOCOL_VIOLATION, failure(options()));
    script =
        (call, request, frames) -> {
          throw ended(Code.UNAVAILABLE, "DRAINING", null);
        };
    assertEquals("DRAINING", failure(options().giveUpAfter(Duration.ofMillis(100))));
  }

  private String failure(SubscribeOptions options) {
    Subscription following = client.subscribe(options);
    String reason = assertThrows(TrackdException.class, () -> positions(following)).reason();
    assertFalse(following.hasNext());
    return reason;
  }

  @Test
  void gapsAreKeptOnce() {
    SubscribeGap gap =
        SubscribeGap.newBuilder().setMonth("2025-11").setReason(GapReason.GAP_REASON_MONTH_DAMAGED).build();
    script =
        (call, request, frames) -> {
          frames.onNext(confirmed(0));
          frames.onNext(SubscribeResponse.newBuilder().setGap(gap).build());
          frames.onNext(SubscribeResponse.newBuilder().setGap(gap).build());
        };
    Subscription following = client.subscribe(options());
    positions(following);
    assertEquals(List.of(gap), following.gaps());
  }

  @Test
  void closingEndsItWhileItWaits() throws Exception {
    CountDownLatch waiting = new CountDownLatch(1);
    script =
        (call, request, frames) -> {
          frames.onNext(confirmed(0));
          waiting.countDown();
          new CountDownLatch(1).await();
        };
    Subscription following = client.subscribe(options());
    Thread closer =
        new Thread(
            () -> {
              try {
                waiting.await();
              } catch (InterruptedException impossible) {
                throw new AssertionError(impossible);
              }
              following.close();
            });
    closer.start();
    assertEquals(List.of(), positions(following));
    closer.join();
  }
}
