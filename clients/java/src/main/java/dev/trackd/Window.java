package dev.trackd;

import dev.trackd.v1.AppendBatch;
import dev.trackd.v1.AppendStreamRequest;
import dev.trackd.v1.Event;
import dev.trackd.v1.IngestLimits;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.Deque;
import java.util.List;
import java.util.stream.Stream;

/**
 * What was handed over and is not answered yet: pure state that plans what to send, without network, clock or threads.
 *
 * <p>A batch is first waiting, then in flight, then answered and gone. A stream that breaks puts everything in flight back
 * to what waits, in order; nothing is ever forgotten but by an answer.
 */
final class Window {
  /** Of the batch and of the message around it: batch_id, atomic, tags and lengths. */
  static final int BATCH_OVERHEAD_BYTES = 32;

  private static final int EVENT_OVERHEAD_BYTES = 6; // a tag and a length of at most 5 bytes

  /** One event that was handed over. {@code sequence} is its place, from 0, among all of them. */
  record Entry(Event event, long sequence) {
    static int bytes(Event event) {
      return event.getSerializedSize() + EVENT_OVERHEAD_BYTES;
    }

    int bytes() {
      return bytes(event);
    }
  }

  /** Some events that are answered together. {@code defects} counts how often the daemon failed (INTERNAL) over it. */
  record Batch(long id, List<Entry> entries, int bytes, int defects) {
    long first() {
      return entries.get(0).sequence();
    }

    Batch withDefect() {
      return new Batch(id, entries, bytes, defects + 1);
    }

    AppendStreamRequest request() {
      AppendBatch.Builder batch = AppendBatch.newBuilder().setBatchId(id);
      entries.forEach(entry -> batch.addEvents(entry.event()));
      return AppendStreamRequest.newBuilder().setBatch(batch).build();
    }
  }

  /** How much one stream takes at once. */
  record Limits(long batchEvents, long batchBytes, long inFlightBatches, long inFlightBytes) {
    /** Those of the handshake. What a daemon leaves open (0) is no limit. */
    static Limits told(IngestLimits told) {
      return new Limits(
          or(told.getMaxBatchEvents()),
          or(told.getMaxBatchBytes()),
          or(told.getMaxInFlightBatches()),
          or(told.getMaxInFlightBytes()));
    }

    private static long or(long limit) {
      return limit <= 0 ? Long.MAX_VALUE : limit;
    }
  }

  private final int batchesMax;
  private final long bytesMax;
  private final Deque<Batch> inFlight = new ArrayDeque<>();
  private List<Batch> waiting = new ArrayList<>();
  private long waitingBytes;
  private long inFlightBytes;
  private Limits limits; // null while no stream is open
  private long ids;

  /** At most so many batches and bytes; a single batch may always enter. */
  Window(int batchesMax, long bytesMax) {
    this.batchesMax = batchesMax;
    this.bytesMax = bytesMax;
  }

  boolean isEmpty() {
    return waiting.isEmpty() && inFlight.isEmpty();
  }

  boolean awaitsAnswer() {
    return !inFlight.isEmpty();
  }

  boolean isOpen() {
    return limits != null;
  }

  boolean hasRoom() {
    return isEmpty() || (waiting.size() + inFlight.size() < batchesMax && bytes() < bytesMax);
  }

  /** Of everything that is not answered. */
  long bytes() {
    return waitingBytes + inFlightBytes;
  }

  /** The sequence of the oldest event; {@code otherwise} if there is none. */
  long oldest(long otherwise) {
    return Stream.concat(waiting.stream(), inFlight.stream()).mapToLong(Batch::first).min().orElse(otherwise);
  }

  /** Takes over events as a batch that is the last to be sent. One that the open stream would refuse is cut. */
  void add(List<Entry> entries) {
    for (Batch part : fitting(batchOf(entries))) {
      waiting.add(part);
      waitingBytes += part.bytes();
    }
  }

  /** A new stream takes batches within these limits: larger ones, made for another daemon, are cut up. */
  void opened(Limits told) {
    lost();
    limits = told;
    waiting = new ArrayList<>(waiting.stream().flatMap(batch -> fitting(batch).stream()).toList());
    waitingBytes = waiting.stream().mapToLong(Batch::bytes).sum();
  }

  /** The stream is gone: everything in flight is to be sent again, in its old order. */
  void lost() {
    limits = null;
    List<Batch> all = new ArrayList<>(inFlight);
    all.addAll(waiting);
    // Sorted and not only put in front: a batch refused for now may wait while younger ones are in flight.
    all.sort(Comparator.comparingLong(Batch::first));
    waiting = all;
    waitingBytes += inFlightBytes;
    inFlight.clear();
    inFlightBytes = 0;
  }

  /** The next batch to send, now in flight; null while nothing waits or the stream takes no more. */
  Batch take() {
    if (limits == null || waiting.isEmpty()) {
      return null;
    }
    Batch next = waiting.get(0);
    if (!inFlight.isEmpty()
        && (inFlight.size() >= limits.inFlightBatches() || next.bytes() > limits.inFlightBytes() - inFlightBytes)) {
      return null;
    }
    waiting.remove(0);
    inFlight.add(next);
    waitingBytes -= next.bytes();
    inFlightBytes += next.bytes();
    return next;
  }

  /** The batch that an answer is for: always the oldest in flight. Any other is a violation of the protocol. */
  Batch expect(long id) {
    Batch oldest = inFlight.peek();
    if (oldest == null) {
      throw TrackdException.violation("an answer for batch " + id + ", and none is in flight");
    }
    if (id != 0 && id != oldest.id()) { // 0: the daemon could not read the id
      throw TrackdException.violation("an answer for batch " + id + ", and the next must be for " + oldest.id());
    }
    return oldest;
  }

  /** The oldest batch in flight has its answer and is gone, but for what is left of it, if anything: that waits again. */
  void settle(Batch left) {
    inFlightBytes -= inFlight.remove().bytes();
    if (left != null) {
      int at = 0;
      while (at < waiting.size() && waiting.get(at).first() < left.first()) {
        at++;
      }
      waiting.add(at, left);
      waitingBytes += left.bytes();
    }
  }

  /** Makes a batch. Ids rise and are never 0, which is what the daemon answers to a batch it could not read. */
  Batch batchOf(List<Entry> entries) {
    int bytes = BATCH_OVERHEAD_BYTES + entries.stream().mapToInt(Entry::bytes).sum();
    ids++;
    return new Batch(ids, List.copyOf(entries), bytes, 0);
  }

  /** The batch, cut up if the open stream would refuse it. An event too large on its own travels alone. */
  private List<Batch> fitting(Batch whole) {
    List<Entry> entries = whole.entries();
    if (limits == null
        || entries.size() == 1
        || (entries.size() <= limits.batchEvents() && whole.bytes() <= limits.batchBytes())) {
      return List.of(whole);
    }
    List<Batch> parts = new ArrayList<>();
    int start = 0;
    long size = BATCH_OVERHEAD_BYTES;
    for (int at = 0; at < entries.size(); at++) {
      int bytes = entries.get(at).bytes();
      if (at > start && (at - start >= limits.batchEvents() || size + bytes > limits.batchBytes())) {
        parts.add(batchOf(entries.subList(start, at)));
        start = at;
        size = BATCH_OVERHEAD_BYTES;
      }
      size += bytes;
    }
    parts.add(batchOf(entries.subList(start, entries.size())));
    return parts;
  }
}
