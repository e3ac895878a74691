package dev.trackd;

import dev.trackd.v1.EventFilter;
import dev.trackd.v1.SubscribeRequest;
import java.time.Duration;
import java.time.Instant;
import java.util.function.Consumer;

/**
 * What is followed, and from where on: {@code new SubscribeOptions().afterPosition(0)}. If nothing is said: everything from
 * now on. Of several beginnings the last one counts. A Subscription takes the values over when it is made.
 */
public final class SubscribeOptions {
  final SubscribeRequest.Builder request = SubscribeRequest.newBuilder();
  Consumer<TrackdException> onInterruption = interruption -> {};
  Duration giveUpAfter = Duration.ofSeconds(60);
  Backoff backoff = Backoff.STANDARD;

  /** Which events. Behind its up_to_position the subscription ends. */
  public SubscribeOptions filter(EventFilter value) {
    request.setFilter(value);
    return this;
  }

  /** Begins behind a position, see {@link Subscription#position}; 0 is the first event there is. */
  public SubscribeOptions afterPosition(long value) {
    request.setAfterPosition(value);
    return this;
  }

  /** Begins with the first event that was received at or after this moment. */
  public SubscribeOptions receivedFrom(Instant value) {
    request.setReceivedFromMs(value.toEpochMilli());
    return this;
  }

  /** Hears of each exception that is waited out, on the thread that iterates. */
  public SubscribeOptions onInterruption(Consumer<TrackdException> value) {
    onInterruption = value;
    return this;
  }

  /** How long to wait for a daemon of which nothing is heard: 60 s. */
  public SubscribeOptions giveUpAfter(Duration value) {
    giveUpAfter = value;
    return this;
  }

  /** How long to wait after a failure. */
  public SubscribeOptions backoff(Backoff value) {
    backoff = value;
    return this;
  }
}
