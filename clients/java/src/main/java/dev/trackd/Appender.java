package dev.trackd;

import dev.trackd.Window.Entry;
import dev.trackd.v1.Event;
import io.grpc.ManagedChannel;
import io.grpc.Status.Code;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Sends events over AppendStream and sends again what was not answered. Threads may share it.
 *
 * <p>The daemon must know each event when it comes again, so an event without an id is given one. A broken stream, a killed
 * daemon, a refusal "for now": all are waited out with backoff, up to {@link AppenderOptions#giveUpAfter} without an
 * answer; then every call throws {@link GaveUpException}. Memory is bounded by the window: {@link #send} blocks while it is
 * full.
 *
 * <p>Made by {@link TrackdClient#appender}; close it before the client.
 */
public final class Appender implements AutoCloseable {
  final AppenderOptions options;
  final ReentrantLock lock = new ReentrantLock();

  // Guarded by the lock, as all that follows.
  final Window window;
  private final Condition changed = lock.newCondition();
  private final Thread supervisor;
  private List<Entry> part = new ArrayList<>(); // the batch that is being filled
  private int partBytes = Window.BATCH_OVERHEAD_BYTES;
  private long partSinceNanos;
  private boolean due; // the part goes as it is, as soon as there is room
  private long next; // the sequence of the next event
  private Totals totals = Totals.NONE;
  private boolean closing;
  private RuntimeException failure;

  Appender(ManagedChannel channel, AppenderOptions options) {
    this.options = options.copy();
    window = new Window(options.windowBatches, options.windowBytes);
    // Started last: it sees everything above.
    supervisor = new Thread(new Supervisor(this, channel), "trackd-appender");
    supervisor.setDaemon(true);
    supervisor.start();
  }

  /** Takes over the events, in order; see {@link #send(Iterable)}. */
  public void send(Event... events) throws InterruptedException {
    send(Arrays.asList(events));
  }

  /**
   * Takes over the events, in order; blocks while the window is full.
   *
   * <p>Throws GaveUpException, what onResult threw, IllegalStateException when it is closed, or TrackdException for an event
   * of more than 7 MiB. Those before it are taken over; sending all of them again is safe where they carry ids ({@link
   * Events}): they are stored once.
   */
  public void send(Iterable<Event> events) throws InterruptedException {
    for (Event given : events) {
      Event event = Events.identified(given);
      int bytes = Entry.bytes(event);
      if (bytes > AppenderOptions.EVENT_BYTES_MAX) {
        throw TrackdException.of(
            Code.INVALID_ARGUMENT,
            TrackdException.EVENT_TOO_LARGE,
            "one event of " + bytes + " bytes; no daemon takes more than " + AppenderOptions.EVENT_BYTES_MAX);
      }
      put(event, bytes);
    }
  }

  /** Waits until everything that was handed over before has its answer, and returns the totals so far. Throws like send. */
  public Totals flush() throws InterruptedException {
    lock.lockInterruptibly();
    try {
      long target = next;
      due = !part.isEmpty();
      promote();
      while (failure == null && oldestOpen() < target) {
        changed.await();
      }
      throwFailure();
      return totals;
    } finally {
      lock.unlock();
    }
  }

  /**
   * Flushes and ends the stream in order. Throws like send, and is closed even then; so it is when the thread is interrupted:
   * then it throws GaveUpException, and the thread stays interrupted. Closing twice is fine.
   */
  @Override
  public void close() {
    try {
      flush();
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      abort();
      throwFailureLocked();
    } finally {
      stop();
    }
    throwFailureLocked();
  }

  /** Ends at once. What is not answered may or may not be stored; see {@link #unacknowledged}. */
  public void abort() {
    lock.lock();
    try {
      if (!idle()) {
        fail(new GaveUpException("it was aborted", openEvents(), null));
      }
    } finally {
      lock.unlock();
    }
    stop();
  }

  /** The sums over all answers so far. */
  public Totals totals() {
    lock.lock();
    try {
      return totals;
    } finally {
      lock.unlock();
    }
  }

  /** How many events were handed over and are not finally answered. */
  public long unacknowledged() {
    lock.lock();
    try {
      return openEvents();
    } finally {
      lock.unlock();
    }
  }

  private void put(Event event, int bytes) throws InterruptedException {
    lock.lockInterruptibly();
    try {
      while (failure == null && !closing && isFull(bytes)) {
        if (window.hasRoom()) {
          handOver();
        } else {
          changed.await();
        }
      }
      throwFailure();
      if (closing) {
        throw new IllegalStateException("the Appender is closed");
      }
      if (part.isEmpty()) {
        partSinceNanos = System.nanoTime();
        changed.signalAll(); // the supervisor sees to it that it does not linger
      }
      part.add(new Entry(event, next++));
      partBytes += bytes;
      promote();
    } finally {
      lock.unlock();
    }
  }

  private boolean isFull(int more) {
    return part.size() >= options.batchEvents || (!part.isEmpty() && partBytes + more > options.batchBytes);
  }

  private void stop() {
    lock.lock();
    try {
      closing = true;
      due = !part.isEmpty(); // what another thread has sent meanwhile
      promote();
      changed.signalAll();
    } finally {
      lock.unlock();
    }
    boolean interrupted = false;
    while (supervisor.isAlive()) {
      try {
        supervisor.join();
      } catch (InterruptedException again) {
        interrupted = true;
        lock.lock();
        fail(new GaveUpException("it was interrupted", openEvents(), null));
        lock.unlock();
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private void throwFailureLocked() {
    lock.lock();
    try {
      throwFailure();
    } finally {
      lock.unlock();
    }
  }

  private void throwFailure() {
    if (failure != null) {
      throw failure;
    }
  }

  private void handOver() {
    window.add(part);
    part = new ArrayList<>();
    partBytes = Window.BATCH_OVERHEAD_BYTES;
    due = false;
    changed.signalAll();
  }

  private boolean idle() {
    return window.isEmpty() && part.isEmpty();
  }

  private long oldestOpen() {
    return window.oldest(part.isEmpty() ? next : part.get(0).sequence());
  }

  // For the supervisor and the reader, who hold the lock.

  /** Makes a batch of what is being filled, if it is time and there is room. */
  void promote() {
    due = due || lingerNanos() <= 0;
    if (!part.isEmpty() && (due || part.size() >= options.batchEvents) && window.hasRoom()) {
      handOver();
    }
  }

  /** How long what is being filled may still wait; more than anybody waits where nothing is to be done then. */
  long lingerNanos() {
    if (part.isEmpty() || due || options.linger.isZero()) {
      return Long.MAX_VALUE;
    }
    return partSinceNanos + options.linger.toNanos() - System.nanoTime();
  }

  void count(BatchResult result) {
    totals = totals.plus(result);
  }

  long openEvents() {
    return next - totals.answered();
  }

  boolean isClosing() {
    return closing;
  }

  boolean hasFailed() {
    return failure != null;
  }

  boolean isDone() {
    return failure != null || (closing && idle());
  }

  void fail(RuntimeException why) {
    if (failure == null) {
      failure = why;
    }
    changed.signalAll();
  }

  void signal() {
    changed.signalAll();
  }

  /** Waits until something has changed, or so long. */
  void await(long nanos) {
    try {
      changed.awaitNanos(nanos);
    } catch (InterruptedException interrupted) { // the thread is ours, so somebody wants to end it
      fail(new GaveUpException("its thread was interrupted", openEvents(), null));
    }
  }
}
