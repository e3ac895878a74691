package dev.trackd;

import com.google.protobuf.ByteString;
import dev.trackd.v1.Event;
import java.nio.ByteBuffer;
import java.security.SecureRandom;
import java.time.Instant;

/** Makes events, and the ids that let a daemon recognise them when they come again. */
public final class Events {
  private static final SecureRandom RANDOM = new SecureRandom();
  private static final long TIME_MILLIS_MAX = (1L << 48) - 1;

  private Events() {}

  /**
   * An event of this type that happens now. Its id is set: it can be sent any number of times and is stored once.
   *
   * <p>Nothing is checked here; the daemon says what it refuses, and why.
   */
  public static Event.Builder now(String type) {
    return at(type, Instant.now());
  }

  /** An event of this type that happened at this moment, with an id. Times have milliseconds. */
  public static Event.Builder at(String type, Instant moment) {
    long millis = moment.toEpochMilli();
    return Event.newBuilder().setType(type).setTimestampMs(millis).setId(idAt(millis));
  }

  /**
   * The 16 bytes of a UUIDv7 (RFC 9562) of a moment in milliseconds since 1970. Ids of rising times rise, which keeps the
   * store fast. A moment that a UUIDv7 cannot hold is taken as the nearest one that it can.
   */
  public static ByteString idAt(long millis) {
    long time = Math.min(Math.max(millis, 0), TIME_MILLIS_MAX);
    byte[] random = new byte[10];
    RANDOM.nextBytes(random);
    ByteBuffer chance = ByteBuffer.wrap(random);
    ByteBuffer id = ByteBuffer.allocate(16);
    id.putLong(time << 16 | 0x7000 | chance.getShort() & 0x0fff);
    id.putLong(0x8000_0000_0000_0000L | chance.getLong() & 0x3fff_ffff_ffff_ffffL);
    return ByteString.copyFrom(id.array());
  }

  /** The event with an id: itself where it has one. */
  static Event identified(Event event) {
    if (!event.getId().isEmpty()) {
      return event;
    }
    long millis = event.hasTimestampMs() ? event.getTimestampMs() : System.currentTimeMillis();
    return event.toBuilder().setId(idAt(millis)).build();
  }
}
