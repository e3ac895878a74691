package dev.trackd;

import dev.trackd.v1.Durability;
import java.time.Duration;
import java.util.function.Consumer;

/**
 * How an {@link Appender} sends: {@code new AppenderOptions("reviews").linger(Duration.ofMillis(20))}. Values are checked
 * where they are given: IllegalArgumentException. An Appender takes the values over when it is made.
 */
public final class AppenderOptions {
  /** The transport takes messages of 8 MiB; a larger one would end the stream instead of being refused. */
  static final int EVENT_BYTES_MAX = 7 << 20;

  final String source;
  Durability durability = Durability.DURABILITY_DURABLE;
  Consumer<BatchResult> onResult = result -> {};
  int batchEvents = 1_000;
  int batchBytes = 1 << 20;
  Duration linger = Duration.ofMillis(100);
  int windowBatches = 32;
  long windowBytes = 16L << 20;
  Duration giveUpAfter = Duration.ofSeconds(60);
  Duration answerTimeout = Duration.ofSeconds(20);
  Backoff backoff = Backoff.STANDARD;

  /** Options of an Appender for the service of this name: 1 to 128 letters, digits and "_.:/-". */
  public AppenderOptions(String source) {
    this.source = source;
  }

  AppenderOptions copy() {
    AppenderOptions copy = new AppenderOptions(source);
    copy.durability = durability;
    copy.onResult = onResult;
    copy.batchEvents = batchEvents;
    copy.batchBytes = batchBytes;
    copy.linger = linger;
    copy.windowBatches = windowBatches;
    copy.windowBytes = windowBytes;
    copy.giveUpAfter = giveUpAfter;
    copy.answerTimeout = answerTimeout;
    copy.backoff = backoff;
    return copy;
  }

  /** What the answers shall promise: DURABILITY_DURABLE if nothing else is said. */
  public AppenderOptions durability(Durability value) {
    durability = value;
    return this;
  }

  /**
   * Is called for each answer, in order of answers, on a thread of gRPC. It must not call the Appender. What it throws ends
   * the Appender: the next call of send, flush or close throws it.
   */
  public AppenderOptions onResult(Consumer<BatchResult> value) {
    onResult = value;
    return this;
  }

  /** Events of one batch, at most: 1,000 if nothing else is said. What the daemon takes bounds it as well. */
  public AppenderOptions batchEvents(int value) {
    batchEvents = (int) positive("batchEvents", value);
    return this;
  }

  /** Bytes of one batch, at most: 1 MiB if nothing else is said. What the daemon takes bounds it as well. */
  public AppenderOptions batchBytes(int value) {
    batchBytes = (int) Math.min(positive("batchBytes", value), EVENT_BYTES_MAX);
    return this;
  }

  /** How long a batch may wait to be filled: 100 ms. Zero: until it is full, or until flush or close. */
  public AppenderOptions linger(Duration value) {
    if (value.isNegative()) {
      throw new IllegalArgumentException("linger must not be negative: " + value);
    }
    linger = value;
    return this;
  }

  /** Batches that are handed over and not answered, at most: 32. Send blocks above it, which bounds memory. */
  public AppenderOptions windowBatches(int value) {
    windowBatches = (int) positive("windowBatches", value);
    return this;
  }

  /** Bytes that are handed over and not answered, at most: 16 MiB. Send blocks above it, which bounds memory. */
  public AppenderOptions windowBytes(long value) {
    windowBytes = positive("windowBytes", value);
    return this;
  }

  /** How long to go on without an answer for any event: 60 s. */
  public AppenderOptions giveUpAfter(Duration value) {
    positive("giveUpAfter", value.toNanos());
    giveUpAfter = value;
    return this;
  }

  /** How long the oldest batch on a stream may wait for its answer before the stream is replaced: 20 s. */
  public AppenderOptions answerTimeout(Duration value) {
    positive("answerTimeout", value.toNanos());
    answerTimeout = value;
    return this;
  }

  /** How long to wait after a failure. */
  public AppenderOptions backoff(Backoff value) {
    backoff = value;
    return this;
  }

  private static long positive(String name, long value) {
    if (value < 1) {
      throw new IllegalArgumentException(name + " must be positive: " + value);
    }
    return value;
  }
}
