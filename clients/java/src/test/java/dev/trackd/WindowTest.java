package dev.trackd;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.trackd.Window.Batch;
import dev.trackd.Window.Entry;
import dev.trackd.Window.Limits;
import dev.trackd.v1.Event;
import dev.trackd.v1.IngestLimits;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;

/** What is planned without network, clock and threads. */
class WindowTest {
  private static final Limits ANY = Limits.told(IngestLimits.getDefaultInstance());

  /** Events of 100 bytes on the wire. */
  private static List<Entry> entries(long start, int count) {
    Event event = Event.newBuilder().setType("t".repeat(92)).build();
    assertEquals(100, Entry.bytes(event));
    return LongStream.range(start, start + count).mapToObj(sequence -> new Entry(event, sequence)).toList();
  }

  private static List<Long> takeAll(Window window) {
    List<Long> firsts = new ArrayList<>();
    for (Batch batch = window.take(); batch != null; batch = window.take()) {
      firsts.add(batch.first());
    }
    return firsts;
  }

  @Test
  void aWindowHasRoomForOneBatchHoweverLarge() {
    Window window = new Window(2, 50);
    assertTrue(window.hasRoom());
    window.add(entries(0, 1));
    assertFalse(window.hasRoom());
    window = new Window(2, 1_000);
    window.add(entries(0, 1));
    assertTrue(window.hasRoom());
    window.add(entries(1, 1));
    assertFalse(window.hasRoom());
  }

  @Test
  void nothingIsSentBeforeTheStreamIsOpened() {
    Window window = new Window(2, 1_000);
    window.add(entries(0, 1));
    assertNull(window.take());
    window.opened(ANY);
    assertNotNull(window.take());
  }

  @Test
  void batchesInFlightStayWithinBytes() {
    Window window = new Window(9, 10_000);
    window.opened(new Limits(10, 1_000, 10, 300));
    LongStream.range(0, 3).forEach(at -> window.add(entries(at, 1)));
    assertEquals(List.of(0L, 1L), takeAll(window));
    window.settle(null);
    assertEquals(List.of(2L), takeAll(window));
  }

  @Test
  void batchesInFlightStayWithinTheirNumber() {
    Window window = new Window(9, 10_000);
    window.opened(new Limits(10, 1_000, 2, 1_000));
    LongStream.range(0, 3).forEach(at -> window.add(entries(at, 1)));
    assertEquals(List.of(0L, 1L), takeAll(window));
  }

  @Test
  void batchesMadeForAnotherDaemonAreCut() {
    Window window = new Window(9, 10_000);
    window.add(entries(0, 5));
    window.opened(new Limits(2, 1_000, 10, 1_000));
    assertEquals(List.of(0L, 2L, 4L), takeAll(window));
    window.opened(new Limits(2, 140, 10, 1_000));
    assertEquals(List.of(0L, 1L, 2L, 3L, 4L), takeAll(window));
    window.opened(new Limits(2, 10, 10, 1_000));
    assertEquals(List.of(0L, 1L, 2L, 3L, 4L), takeAll(window), "events that are too large travel alone");
  }

  @Test
  void whatIsPutBackWaitsInItsOldPlace() {
    Window window = new Window(9, 10_000);
    LongStream.range(0, 4).forEach(at -> window.add(entries(at, 1)));
    window.opened(ANY);
    Batch first = window.take();
    window.take();
    window.settle(first);
    assertEquals(0, window.take().first());
    window.lost();
    window.opened(ANY);
    assertEquals(List.of(0L, 1L, 2L, 3L), takeAll(window));
  }

  @Test
  void anAnswerForAnyButTheOldestBatchIsAViolation() {
    Window window = new Window(9, 10_000);
    assertThrows(TrackdException.class, () -> window.expect(1));
    window.add(entries(0, 1));
    window.add(entries(1, 1));
    window.opened(ANY);
    Batch first = window.take();
    Batch second = window.take();
    assertThrows(TrackdException.class, () -> window.expect(second.id()));
    assertEquals(first, window.expect(first.id()));
    assertEquals(first, window.expect(0), "the daemon could not read the id");
  }

  @Test
  void nothingIsForgottenOrDoubledInRandomHistories() {
    long seed = System.nanoTime();
    Random random = new Random(seed);
    for (int history = 0; history < 200; history++) {
      play(random, "seed " + seed);
    }
  }

  private static void play(Random random, String seed) {
    Window window = new Window(4, 2_000);
    Set<Long> answered = new HashSet<>();
    Deque<Batch> inFlight = new ArrayDeque<>();
    int next = 0;
    for (int step = 0; step < 200 || !window.isEmpty(); step++) {
      switch (random.nextInt(6)) {
        case 0 -> {
          if (window.hasRoom() && step < 200) {
            int count = 1 + random.nextInt(5);
            window.add(entries(next, count));
            next += count;
          }
        }
        case 1 -> {
          if (random.nextInt(4) == 0) {
            window.lost();
            inFlight.clear();
          }
        }
        case 2 -> {
          if (!window.isOpen()) {
            window.opened(new Limits(1 + random.nextInt(4), 1_000, 1 + random.nextInt(3), 1_000));
          }
        }
        case 3 -> {
          Batch taken = window.take();
          if (taken != null) {
            inFlight.add(taken);
          }
        }
        default -> {
          if (!inFlight.isEmpty()) {
            Batch oldest = window.expect(inFlight.remove().id());
            List<Entry> entries = oldest.entries();
            int cut = random.nextInt(3) == 0 ? random.nextInt(entries.size()) : entries.size();
            entries.subList(0, cut).forEach(entry -> assertTrue(answered.add(entry.sequence()), seed));
            window.settle(cut == entries.size() ? null : window.batchOf(entries.subList(cut, entries.size())));
          }
        }
      }
    }
    assertEquals(next, answered.size(), seed);
    assertEquals(0, window.bytes(), seed);
  }

  @Test
  void delaysDoubleUpToTheLargestAndHonourTheDaemon() {
    Backoff backoff = new Backoff(Duration.ofMillis(100), Duration.ofSeconds(1));
    Backoff.Delays delays = new Backoff.Delays(backoff, () -> 1);
    List<Long> millis = new ArrayList<>();
    for (int at = 0; at < 6; at++) {
      millis.add(delays.nextNanos(Duration.ZERO) / 1_000_000);
    }
    assertEquals(List.of(100L, 200L, 400L, 800L, 1_000L, 1_000L), millis);
    assertEquals(Duration.ofSeconds(3).toNanos(), delays.nextNanos(Duration.ofSeconds(3)));
    assertEquals(Duration.ofHours(1).toNanos(), delays.nextNanos(Duration.ofSeconds(Long.MAX_VALUE)));
    delays.reset();
    assertEquals(Duration.ofMillis(100).toNanos(), delays.nextNanos(Duration.ZERO));
    assertEquals(Duration.ofMillis(50).toNanos(), new Backoff.Delays(backoff, () -> 0).nextNanos(Duration.ZERO));
    assertThrows(IllegalArgumentException.class, () -> new Backoff(Duration.ofSeconds(2), Duration.ofSeconds(1)));
  }

  @Test
  void patienceRunsOnlyWhileSomethingIsWaitedFor() {
    Backoff.Patience patience = new Backoff.Patience(Duration.ofNanos(1_000));
    assertEquals(Long.MAX_VALUE, patience.leftNanos(5));
    patience.watch(0, true);
    patience.watch(600, true);
    assertEquals(400, patience.leftNanos(600));
    patience.progress(600);
    assertEquals(1_000, patience.leftNanos(600));
    patience.watch(600, false);
    assertEquals(Long.MAX_VALUE, patience.leftNanos(9_000));
  }
}
