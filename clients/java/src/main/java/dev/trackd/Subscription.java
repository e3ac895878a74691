package dev.trackd;

import dev.trackd.Backoff.Delays;
import dev.trackd.Backoff.Patience;
import dev.trackd.v1.StoredEvent;
import dev.trackd.v1.SubscribeGap;
import dev.trackd.v1.SubscribeRequest;
import dev.trackd.v1.SubscribeResponse;
import dev.trackd.v1.SubscribeServiceGrpc;
import io.grpc.Context;
import io.grpc.Context.CancellableContext;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.OptionalLong;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * Matching events as they are stored, each once and in the order of positions. Made by {@link TrackdClient#subscribe}.
 *
 * <p>A stream that breaks, a daemon that restarts, a refusal "for now": all are waited out with backoff, and the next stream
 * goes on behind {@link #position}, so that no event is left out and none comes twice. One thread iterates; any may close.
 *
 * <p>Iterating ends after {@link #close} and behind the filter's up_to_position. It throws TrackdException for what cannot be
 * waited out, and the last one when nothing was heard of the daemon for too long. A thread that is interrupted ends it, and
 * stays interrupted.
 */
public final class Subscription implements Iterator<StoredEvent>, AutoCloseable {
  private final ManagedChannel channel;
  private final SubscribeRequest request;
  private final Consumer<TrackdException> onInterruption;
  private final Delays delays;
  private final Patience patience;
  private final CountDownLatch closed = new CountDownLatch(1);
  private final CancellableContext life = Context.current().withCancellation();
  private final List<SubscribeGap> gaps = new ArrayList<>();
  private Iterator<SubscribeResponse> frames; // null: no stream is open
  private Iterator<StoredEvent> events = Collections.emptyIterator();
  private StoredEvent ahead; // what hasNext has found
  private OptionalLong reached = OptionalLong.empty(); // everything up to here was found or passed over
  private OptionalLong position = OptionalLong.empty(); // the same without what is ahead
  private long head;

  Subscription(ManagedChannel channel, SubscribeOptions options) {
    this.channel = channel;
    request = options.request.build();
    onInterruption = options.onInterruption;
    delays = new Delays(options.backoff);
    patience = new Patience(options.giveUpAfter);
    if (request.hasAfterPosition()) {
      reached = OptionalLong.of(request.getAfterPosition());
      position = reached;
    }
  }

  /** Waits for the next event; false when there will be none. */
  @Override
  public boolean hasNext() {
    while (ahead == null && !isClosed()) {
      position = reached;
      if (events.hasNext()) {
        take(events.next());
        continue;
      }
      try {
        receive();
      } catch (StatusRuntimeException broken) {
        frames = null;
        if (!isClosed()) {
          waitOut(TrackdException.of(broken));
        }
      }
    }
    return ahead != null && !isClosed();
  }

  @Override
  public StoredEvent next() {
    if (!hasNext()) {
      throw new NoSuchElementException();
    }
    StoredEvent found = ahead;
    ahead = null;
    position = reached;
    return found;
  }

  /**
   * Where to resume ({@link SubscribeOptions#afterPosition}) once the event of the last next is handled: everything up to
   * here was given. Empty before the daemon has said where it began.
   */
  public OptionalLong position() {
    return position;
  }

  /** The daemon's head, as far as it has told. */
  public long head() {
    return head;
  }

  /** The months of which events may be missing among those that were given. */
  public List<SubscribeGap> gaps() {
    return List.copyOf(gaps);
  }

  /** Ends it, also while another thread waits for the next event. Closing twice is fine. */
  @Override
  public void close() {
    closed.countDown();
    life.cancel(null);
  }

  private boolean isClosed() {
    return closed.getCount() == 0;
  }

  private void take(StoredEvent found) {
    if (reached.isPresent() && found.getPosition() <= reached.getAsLong()) {
      close();
      throw TrackdException.violation("event " + found.getPosition() + " came behind " + reached.getAsLong());
    }
    reached = OptionalLong.of(found.getPosition());
    ahead = found;
  }

  /** Takes one frame, over a new stream if there is none. A stream that ends in order closes the subscription. */
  private void receive() {
    if (frames == null) {
      SubscribeRequest.Builder asked = request.toBuilder();
      reached.ifPresent(asked::setAfterPosition);
      // The call belongs to the context it is made in, which is how another thread can end it.
      Context before = life.attach();
      try {
        frames = SubscribeServiceGrpc.newBlockingStub(channel).subscribe(asked.build());
      } finally {
        life.detach(before);
      }
    }
    if (!frames.hasNext()) {
      close();
      return;
    }
    heed(frames.next());
  }

  private void heed(SubscribeResponse frame) {
    switch (frame.getFrameCase()) {
      case CONFIRMED -> {
        reached = OptionalLong.of(frame.getConfirmed().getAfterPosition());
        head = frame.getConfirmed().getHead();
        return; // only what comes behind it shows that the daemon is well
      }
      case EVENTS -> {
        events = frame.getEvents().getEventsList().iterator();
        head = frame.getEvents().getHead();
      }
      case CHECKPOINT -> reached = OptionalLong.of(frame.getCheckpoint().getPosition());
      case HEARTBEAT -> {
        head = frame.getHeartbeat().getHead();
        reached = OptionalLong.of(head);
      }
      case CAUGHT_UP -> head = frame.getCaughtUp().getHead();
      case GAP -> {
        if (!gaps.contains(frame.getGap())) {
          gaps.add(frame.getGap());
        }
      }
      case FRAME_NOT_SET -> {} // a kind that this client does not know yet
    }
    delays.reset();
    patience.watch(0, false);
  }

  /** Waits after a stream has broken, as long as it is wise before the next one. */
  private void waitOut(TrackdException broken) {
    long nowNanos = System.nanoTime();
    patience.watch(nowNanos, true);
    long delayNanos = delays.nextNanos(broken.retryAfter().orElse(Duration.ZERO));
    if (broken.breaksForGood() || patience.leftNanos(nowNanos) <= delayNanos) {
      close();
      throw broken;
    }
    onInterruption.accept(broken);
    channel.resetConnectBackoff(); // by itself the channel would wait for up to two minutes
    try {
      closed.await(delayNanos, TimeUnit.NANOSECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
      close();
    }
  }
}
