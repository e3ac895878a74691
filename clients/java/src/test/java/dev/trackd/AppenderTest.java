package dev.trackd;

import static dev.trackd.FakeDaemon.ended;
import static dev.trackd.FakeDaemon.events;
import static dev.trackd.FakeDaemon.options;
import static dev.trackd.FakeDaemon.refused;
import static dev.trackd.FakeDaemon.result;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.trackd.v1.AppendBatch;
import dev.trackd.v1.AppendBatchAnswer;
import dev.trackd.v1.AppendItem;
import dev.trackd.v1.AppendOutcome;
import dev.trackd.v1.AppendResult;
import dev.trackd.v1.Event;
import dev.trackd.v1.IngestLimits;
import io.grpc.Status.Code;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** The Appender against a daemon played by the test: scripted answers, streams that break. */
@Timeout(20)
class AppenderTest {
  private FakeDaemon fake;
  private TrackdClient client;

  @BeforeEach
  void start() throws Exception {
    fake = new FakeDaemon();
    client = fake.client();
  }

  @AfterEach
  void stop() throws Exception {
    client.close();
    fake.close();
  }

  private static Totals totals(long accepted, long duplicate, long rejected) {
    return new Totals(accepted, duplicate, rejected, 0);
  }

  private Totals sent(AppenderOptions options, int count) throws InterruptedException {
    Appender appender = client.appender(options);
    appender.send(events(0, count));
    appender.close();
    return appender.totals();
  }

  @Test
  void everythingIsAcknowledgedWhenCloseReturns() throws Exception {
    Appender appender = client.appender(options());
    appender.send(events(0, 5));
    appender.close();
    assertEquals(totals(5, 0, 0), appender.totals());
    assertEquals(List.of(List.of("0", "1"), List.of("2", "3"), List.of("4")), fake.batches);
    assertEquals(1, fake.streams.get());
    assertEquals(0, appender.unacknowledged());
    assertThrows(IllegalStateException.class, () -> appender.send(events(0, 1)));
    appender.close();
  }

  @Test
  void aDaemonThatDiesAndReturnsGetsWhatItDidNotAnswer() throws Exception {
    Appender appender = client.appender(options().giveUpAfter(Duration.ofSeconds(15)));
    for (int round = 0; round < 4; round++) {
      appender.send(events(round * 50, 50));
      if (round < 3) {
        fake.stop();
        fake.start();
      }
    }
    appender.close();
    assertEquals(200, fake.stored.size());
    assertEquals(200, appender.totals().accepted() + appender.totals().duplicate());
    assertTrue(fake.streams.get() >= 2);
  }

  @ParameterizedTest
  @EnumSource(names = {"UNAVAILABLE", "INTERNAL", "UNKNOWN"})
  void aBrokenStreamIsReplacedAndItsBatchesComeAgainInOrder(Code code) throws Exception {
    fake.script =
        (call, batch) -> {
          AppendBatchAnswer.Builder stored = fake.store(batch);
          if (call == 2) {
            throw ended(code, "", null);
          }
          return stored;
        };
    assertEquals(totals(4, 2, 0), sent(options(), 6));
    assertEquals(2, fake.streams.get());
    assertEquals(
        List.of(List.of("0", "1"), List.of("2", "3"), List.of("2", "3"), List.of("4", "5")), fake.batches);
    assertEquals(fake.ids.get(1), fake.ids.get(2));
  }

  @Test
  void aBatchRefusedForNowComesAgainAfterTheTimeAskedFor() throws Exception {
    for (AppendBatchAnswer.Builder refusal :
        List.of(
            refused(Code.UNAVAILABLE, "QUEUE_FULL", 80),
            refused(Code.RESOURCE_EXHAUSTED, "", 80),
            refused(Code.FAILED_PRECONDITION, "", 80))) {
      long[] nanos = new long[2];
      fake.batches.clear();
      fake.script =
          (call, batch) -> {
            nanos[Math.min(call, 2) - 1] = System.nanoTime();
            return call == 1 ? refusal : fake.store(batch);
          };
      assertEquals(totals(2, 0, 0), sent(options(), 2));
      assertTrue(nanos[1] - nanos[0] >= Duration.ofMillis(80).toNanos());
    }
    assertEquals(3, fake.streams.get(), "one for each Appender");
  }

  @Test
  void anExhaustedLimitWithoutRetryInfoIsFinal() throws Exception {
    fake.script = (call, batch) -> refused(Code.RESOURCE_EXHAUSTED, "", null);
    assertEquals(totals(0, 0, 2), sent(options(), 2));
  }

  @Test
  void aBatchRefusedForGoodIsReportedWithItsEvents() throws Exception {
    fake.script =
        (call, batch) -> call == 1 ? refused(Code.INVALID_ARGUMENT, "BATCH_TOO_LARGE", null) : fake.store(batch);
    List<BatchResult> results = new ArrayList<>();
    assertEquals(totals(2, 0, 2), sent(options().onResult(results::add), 4));
    TrackdException refusal = results.get(0).refusal().orElseThrow();
    assertEquals("wait", refusal.hint());
    assertFalse(refusal.retryable());
    assertEquals(List.of(0L, 1L), results.get(0).rejections().stream().map(Rejection::sequence).toList());
    assertEquals("BATCH_TOO_LARGE", results.get(0).rejections().get(0).reason());
  }

  @Test
  void aBatchThatMakesTheDaemonFailEachTimeIsReportedInTheEnd() throws Exception {
    fake.script =
        (call, batch) ->
            batch.getEvents(0).getUserId().equals("0") ? refused(Code.INTERNAL, "INTERNAL", null) : fake.store(batch);
    assertEquals(totals(2, 0, 2), sent(options(), 4));
    assertEquals(Verdict.DEFECTS_MAX + 1, fake.batches.size() - 1);
  }

  @Test
  void rejectedEventsThatMayBeTakenLaterComeAgain() throws Exception {
    AppendItem.Builder item = AppendItem.newBuilder().setOutcome(AppendOutcome.APPEND_OUTCOME_REJECTED);
    AppendResult partly =
        AppendResult.newBuilder()
            .setAccepted(1)
            .setRejected(2)
            .addItems(item.clone().setIndex(1).setReason("LATER").setRetryable(true))
            .addItems(item.clone().setIndex(2).setReason("TAG_INVALID").setField("tags"))
            .build();
    fake.script = (call, batch) -> call == 1 ? result(partly) : fake.store(batch);
    List<BatchResult> results = new ArrayList<>();
    assertEquals(totals(2, 0, 1), sent(options().batchEvents(3).onResult(results::add), 3));
    assertEquals(List.of(List.of("0", "1", "2"), List.of("1")), fake.batches);
    Rejection rejection = results.get(0).rejections().get(0);
    assertEquals(2, rejection.sequence());
    assertEquals("2 TAG_INVALID tags", rejection.event().getUserId() + " " + rejection.reason() + " " + rejection.field());
  }

  @ParameterizedTest
  @ValueSource(strings = {"another batch", "another number of events", "an item too many", "no outcome"})
  void answersOutOfOrderBreakTheStreamAndLoseNothing(String what) throws Exception {
    AppendItem tooFar =
        AppendItem.newBuilder().setIndex(2).setOutcome(AppendOutcome.APPEND_OUTCOME_REJECTED).build();
    Function<AppendBatch, AppendBatchAnswer.Builder> wrong =
        switch (what) {
          case "another batch" -> batch ->
              result(AppendResult.newBuilder().setAccepted(2).build()).setBatchId(batch.getBatchId() + 1);
          case "another number of events" -> batch -> result(AppendResult.newBuilder().setAccepted(3).build());
          case "an item too many" -> batch ->
              result(AppendResult.newBuilder().setAccepted(1).setRejected(1).addItems(tooFar).build());
          default -> batch -> AppendBatchAnswer.newBuilder();
        };
    fake.script = (call, batch) -> call == 1 ? wrong.apply(batch) : fake.store(batch);
    Totals totals = sent(options(), 4);
    // What was stored before the stream broke comes again as a duplicate.
    assertEquals(4, totals.accepted() + totals.duplicate());
    assertEquals(4, fake.stored.size());
    assertEquals(2, fake.streams.get());
  }

  @Test
  void aDaemonThatKeepsBreakingTheProtocolIsGivenUp() throws Exception {
    fake.script = (call, batch) -> result(AppendResult.getDefaultInstance());
    Appender appender = client.appender(options().giveUpAfter(Duration.ofMillis(200)));
    appender.send(events(0, 2));
    GaveUpException gaveUp = assertThrows(GaveUpException.class, appender::close);
    assertEquals(2, gaveUp.unacknowledged());
    assertEquals(TrackdException.PROTOCOL_VIOLATION, gaveUp.reason());
  }

  @Test
  void aDaemonThatRefusesTheSenderIsNotAskedTwice() throws Exception {
    fake.opening =
        stream -> {
          throw ended(Code.INVALID_ARGUMENT, "SOURCE_INVALID", null);
        };
    Appender appender = client.appender(options().giveUpAfter(Duration.ofMinutes(1)));
    appender.send(events(0, 2));
    GaveUpException gaveUp = assertThrows(GaveUpException.class, appender::flush);
    assertEquals("SOURCE_INVALID", gaveUp.reason());
    assertThrows(GaveUpException.class, () -> appender.send(events(2, 1)));
    assertThrows(GaveUpException.class, appender::close);
    assertEquals(1, fake.streams.get());
  }

  @Test
  void aDaemonThatIsFullWhenAStreamIsOpenedIsWaitedOutAsLongAsItAsks() throws Exception {
    long[] nanos = new long[2];
    fake.opening =
        stream -> {
          nanos[stream - 1] = System.nanoTime();
          if (stream == 1) {
            throw ended(Code.UNAVAILABLE, "DRAINING", 100);
          }
        };
    assertEquals(totals(2, 0, 0), sent(options(), 2));
    assertTrue(nanos[1] - nanos[0] >= Duration.ofMillis(100).toNanos());
  }

  @Test
  void anUnreachableDaemonEndsInAnExceptionThatCountsWhatIsOpen() throws Exception {
    try (TrackdClient nobody = TrackdClient.connect("127.0.0.1:1")) {
      Appender appender = nobody.appender(options().giveUpAfter(Duration.ofSeconds(2)));
      appender.send(events(0, 3));
      GaveUpException gaveUp = assertThrows(GaveUpException.class, appender::close);
      assertEquals(3, gaveUp.unacknowledged());
      assertEquals(Code.UNAVAILABLE, gaveUp.code());
      assertEquals(GaveUpException.NO_PROGRESS, gaveUp.reason());
    }
  }

  @Test
  void whatWasMetBeforeIsTheCauseAndNotThatTheLastStreamWasCutOff() throws Exception {
    fake.opening =
        stream -> {
          if (stream == 1) {
            throw ended(Code.UNAVAILABLE, "DRAINING", 0);
          }
        };
    fake.script = (call, batch) -> null;
    Appender appender = client.appender(options().giveUpAfter(Duration.ofMillis(500)));
    appender.send(events(0, 2));
    assertEquals("DRAINING", assertThrows(GaveUpException.class, appender::close).reason());
  }

  @Test
  void aStreamWithoutAnswersIsReplaced() throws Exception {
    fake.script = (call, batch) -> call == 1 ? null : fake.store(batch);
    assertEquals(totals(2, 0, 0), sent(options().answerTimeout(Duration.ofMillis(200)), 2));
    assertEquals(2, fake.streams.get());
  }

  @Test
  void aDaemonThatNeverAnswersIsGivenUpForThatReason() throws Exception {
    fake.script = (call, batch) -> null;
    AppenderOptions impatient =
        options().answerTimeout(Duration.ofMillis(100)).giveUpAfter(Duration.ofMillis(1_000));
    Appender appender = client.appender(impatient);
    appender.send(events(0, 2));
    assertEquals(Code.DEADLINE_EXCEEDED, assertThrows(GaveUpException.class, appender::close).code());
  }

  @Test
  void sendingBlocksWhileTheWindowIsFull() throws Exception {
    CountDownLatch letGo = new CountDownLatch(1);
    fake.script =
        (call, batch) -> {
          await(letGo);
          return fake.store(batch);
        };
    Appender appender = client.appender(options().windowBatches(2));
    Thread sender =
        new Thread(
            () -> {
              assertThrows(InterruptedException.class, () -> appender.send(events(0, 20)));
            });
    sender.start();
    while (sender.getState() != Thread.State.WAITING || appender.unacknowledged() < 6) {
      Thread.onSpinWait();
    }
    assertEquals(6, appender.unacknowledged(), "two batches in the window, and one that is filled");
    sender.interrupt();
    sender.join();
    letGo.countDown();
    appender.send(events(6, 14));
    appender.close();
    assertEquals(totals(20, 0, 0), appender.totals());
  }

  @Test
  void batchesStayWithinWhatTheDaemonTakes() throws Exception {
    fake.limits = IngestLimits.newBuilder().setMaxBatchEvents(3).setMaxInFlightBatches(1).build();
    assertEquals(totals(10, 0, 0), sent(options().batchEvents(10), 10));
    assertEquals(List.of(3, 3, 3, 1), fake.batches.stream().map(List::size).toList());
  }

  @Test
  void whatLingersGoesByItself() throws Exception {
    Semaphore arrived = new Semaphore(0);
    fake.script =
        (call, batch) -> {
          arrived.release();
          return fake.store(batch);
        };
    try (Appender appender = client.appender(options().batchEvents(100).linger(Duration.ofMillis(10)))) {
      for (int round = 0; round < 2; round++) { // before there is a stream, and on an open one
        appender.send(events(round, 1));
        assertTrue(arrived.tryAcquire(10, TimeUnit.SECONDS));
      }
    }
    assertEquals(List.of(1, 1), fake.batches.stream().map(List::size).toList());
  }

  @Test
  void anIdleAppenderSurvivesARestartOfTheDaemon() throws Exception {
    try (Appender appender = client.appender(options())) {
      appender.send(events(0, 2));
      appender.flush();
      fake.stop();
      fake.start();
      appender.send(events(2, 2));
      assertEquals(totals(4, 0, 0), appender.flush());
    }
  }

  @Test
  void threadsMayShareAnAppender() throws Exception {
    Appender appender = client.appender(options().batchEvents(7).windowBatches(3));
    List<Thread> threads = new ArrayList<>();
    for (int worker = 0; worker < 8; worker++) {
      int from = worker * 50;
      Thread thread =
          new Thread(
              () -> {
                try {
                  for (int n = from; n < from + 50; n++) {
                    appender.send(events(n, 1));
                    if (n % 20 == 0) {
                      appender.flush();
                    }
                  }
                } catch (InterruptedException impossible) {
                  throw new AssertionError(impossible);
                }
              });
      threads.add(thread);
      thread.start();
    }
    for (Thread thread : threads) {
      thread.join();
    }
    appender.close();
    assertEquals(totals(400, 0, 0), appender.totals());
    assertEquals(400, new HashSet<>(fake.stored.values()).size());
  }

  @Test
  void whatTheCallbackThrowsComesOutOfTheAppender() throws Exception {
    Appender appender =
        client.appender(
            options()
                .onResult(
                    result -> {
                      throw new IllegalCallerException("callback");
                    }));
    appender.send(events(0, 2));
    assertThrows(IllegalCallerException.class, appender::flush);
    assertThrows(IllegalCallerException.class, appender::close);
  }

  @Test
  void abortingDoesNotWait() throws Exception {
    fake.script = (call, batch) -> null;
    Appender appender = client.appender(options());
    appender.send(events(0, 3));
    appender.abort();
    assertEquals(3, appender.unacknowledged());
    assertEquals(3, assertThrows(GaveUpException.class, appender::close).unacknowledged());
  }

  @Test
  void closingAnInterruptedThreadGivesUpAndStaysInterrupted() throws Exception {
    fake.script = (call, batch) -> null;
    Appender appender = client.appender(options());
    appender.send(events(0, 3));
    Thread.currentThread().interrupt();
    GaveUpException gaveUp = assertThrows(GaveUpException.class, appender::close);
    assertTrue(Thread.interrupted());
    assertEquals(3, gaveUp.unacknowledged());
  }

  @Test
  void anEventThatNoDaemonTakesIsRefusedAtOnce() {
    try (Appender appender = client.appender(options())) {
      Event large = Events.now("t").setDescription("x".repeat(8 << 20)).build();
      TrackdException refusal = assertThrows(TrackdException.class, () -> appender.send(large));
      assertEquals(TrackdException.EVENT_TOO_LARGE, refusal.reason());
    }
  }

  private static void await(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException ended) {
      Thread.currentThread().interrupt();
    }
  }
}
