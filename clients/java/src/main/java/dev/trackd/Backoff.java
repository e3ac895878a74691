package dev.trackd;

import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.DoubleSupplier;

/**
 * How long to wait before trying again: delays that double from {@code first} up to {@code max}, each shortened by up to
 * half at random, so that many senders that lost the same daemon do not return at the same moment.
 */
public record Backoff(Duration first, Duration max) {
  /** From 100 ms up to 5 s. */
  public static final Backoff STANDARD = new Backoff(Duration.ofMillis(100), Duration.ofSeconds(5));

  /** A daemon that asks for more patience than this is not believed: a garbled answer must not stop a sender. */
  private static final Duration HINT_MAX = Duration.ofHours(1);

  /** Throws IllegalArgumentException unless 0 &lt; first &lt;= max. */
  public Backoff {
    if (first.isNegative() || first.isZero() || first.compareTo(max) > 0) {
      throw new IllegalArgumentException("it must be 0 < first <= max, and not " + first + ", " + max);
    }
  }

  /** Counts failures. Not for use by several threads at once. */
  static final class Delays {
    private final Backoff backoff;
    private final DoubleSupplier random;
    private int failures;

    Delays(Backoff backoff) {
      this(backoff, () -> ThreadLocalRandom.current().nextDouble());
    }

    /** `random` gives numbers from 0 to 1. */
    Delays(Backoff backoff, DoubleSupplier random) {
      this.backoff = backoff;
      this.random = random;
    }

    /** Nanoseconds to wait after one more failure; never less than the daemon asked for, up to an hour. */
    long nextNanos(Duration asked) {
      Duration atLeast = asked.compareTo(HINT_MAX) > 0 ? HINT_MAX : asked;
      double full = Math.min(backoff.max.toNanos(), backoff.first.toNanos() * Math.pow(2, Math.min(failures, 30)));
      failures++;
      return Math.max((long) (full * (0.5 + random.getAsDouble() / 2)), atLeast.toNanos());
    }

    /** Something succeeded: the next delay is the first one again. */
    void reset() {
      failures = 0;
    }
  }

  /** Notices that nothing has moved for some time while something was waited for. */
  static final class Patience {
    private final long limitNanos;
    private boolean waiting;
    private long sinceNanos;

    Patience(Duration limit) {
      limitNanos = limit.toNanos();
    }

    /** Says whether something is waited for. The time begins to run when that becomes true. */
    void watch(long nowNanos, boolean waiting) {
      if (waiting && !this.waiting) {
        sinceNanos = nowNanos;
      }
      this.waiting = waiting;
    }

    /** Something moved: the time starts anew. */
    void progress(long nowNanos) {
      sinceNanos = nowNanos;
    }

    /** Nanoseconds until patience ends, at most 0 when it has; more than anybody waits while nothing is waited for. */
    long leftNanos(long nowNanos) {
      return waiting ? sinceNanos + limitNanos - nowNanos : Long.MAX_VALUE;
    }
  }
}
