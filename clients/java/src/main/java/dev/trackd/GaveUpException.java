package dev.trackd;

import io.grpc.Status.Code;

/**
 * An {@link Appender} stopped trying. The events that are not acknowledged may or may not be stored. Sending them again is
 * safe: the same ids are stored once.
 *
 * <p>Code and reason are those of the last exception it met; without one the reason is {@link #NO_PROGRESS}.
 */
public final class GaveUpException extends TrackdException {
  /** The reason where no exception was met: there was no answer. */
  public static final String NO_PROGRESS = "NO_PROGRESS";

  private static final long serialVersionUID = 1L;
  private static final String HINT =
      "send them again when the daemon is well: events that are stored already are only counted";

  private final long unacknowledged;

  GaveUpException(String why, long unacknowledged, TrackdException last) {
    super(
        unacknowledged + " events were not acknowledged: " + why + (last == null ? "" : "; the last error: " + last.getMessage()),
        last == null ? Code.UNKNOWN : last.code(),
        last == null || last.reason().isEmpty() ? NO_PROGRESS : last.reason(),
        HINT,
        true,
        null,
        last);
    this.unacknowledged = unacknowledged;
  }

  /** How many events were handed over and have no answer. */
  public long unacknowledged() {
    return unacknowledged;
  }
}
