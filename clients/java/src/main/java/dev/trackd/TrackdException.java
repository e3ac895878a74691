package dev.trackd;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.Status.Code;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.EnumSet;
import java.util.Optional;
import java.util.Set;

/**
 * A failed call, or the refusal of one batch.
 *
 * <p>Without a reason, {@link Code#UNAVAILABLE} means that nobody answered. After that, and after {@link
 * Code#DEADLINE_EXCEEDED} and {@link Code#CANCELLED}, the outcome of an append is unknown: send the same events again, they
 * carry ids and are stored once.
 */
public class TrackdException extends RuntimeException {
  /** The reason of exceptions of this package: the daemon answered something that was not asked. */
  public static final String PROTOCOL_VIOLATION = "PROTOCOL_VIOLATION";

  /** The reason of an exception of {@link Appender#send}: no daemon takes an event of that size. */
  public static final String EVENT_TOO_LARGE = "EVENT_TOO_LARGE";

  private static final long serialVersionUID = 1L;
  private static final Metadata.Key<String> PUSHBACK =
      Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER);
  private static final Set<Code> RETRYABLE =
      EnumSet.of(Code.UNAVAILABLE, Code.ABORTED, Code.DEADLINE_EXCEEDED, Code.CANCELLED);

  private final Code code;
  private final String reason;
  private final String hint;
  private final boolean retryable;
  private final Duration retryAfter;

  TrackdException(
      String message, Code code, String reason, String hint, boolean retryable, Duration retryAfter, Throwable cause) {
    super(told(message, reason, hint), cause);
    this.code = code;
    this.reason = reason;
    this.hint = hint;
    this.retryable = retryable;
    this.retryAfter = retryAfter;
  }

  /** The gRPC status. */
  public Code code() {
    return code;
  }

  /** The daemon's machine word, the same as in its metrics and logs; "" where it said none. */
  public String reason() {
    return reason;
  }

  /** What to do; "" where the daemon said nothing. */
  public String hint() {
    return hint;
  }

  /** Whether the same call, made later, may succeed. */
  public boolean retryable() {
    return retryable;
  }

  /** How much later the daemon wishes that to be. */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(retryAfter);
  }

  /**
   * Whether a stream that ended so would end so again: opening another one is useless. INTERNAL and UNKNOWN are what gRPC
   * reports for connections cut off in the middle, so they are tried again.
   */
  boolean breaksForGood() {
    return !retryable && code != Code.INTERNAL && code != Code.UNKNOWN;
  }

  static TrackdException violation(String message) {
    return new TrackdException(message, Code.INTERNAL, PROTOCOL_VIOLATION, "", false, null, null);
  }

  static TrackdException of(Code code, String reason, String message) {
    return new TrackdException(message, code, reason, "", RETRYABLE.contains(code), null, null);
  }

  /** What a status states, for example the refusal of one batch within a stream. */
  static TrackdException of(com.google.rpc.Status status) {
    return of(status, null, null);
  }

  /** What ended a call. */
  static TrackdException of(Throwable broken) {
    if (broken instanceof TrackdException known) {
      return known;
    }
    if (broken.getCause() instanceof TrackdException known) {
      return known; // thrown by our own reader: gRPC wraps it
    }
    com.google.rpc.Status stated = StatusProto.fromThrowable(broken);
    if (stated == null) {
      Status status = Status.fromThrowable(broken);
      String message = status.getDescription() == null ? String.valueOf(broken.getMessage()) : status.getDescription();
      stated =
          com.google.rpc.Status.newBuilder().setCode(status.getCode().value()).setMessage(message).build();
    }
    return of(stated, Status.trailersFromThrowable(broken), broken);
  }

  private static TrackdException of(com.google.rpc.Status status, Metadata trailers, Throwable cause) {
    Code code = Status.fromCodeValue(status.getCode()).getCode();
    String reason = "";
    String hint = "";
    Duration retryAfter = pushback(trailers);
    for (Any detail : status.getDetailsList()) {
      try {
        if (detail.is(ErrorInfo.class)) {
          ErrorInfo info = detail.unpack(ErrorInfo.class);
          reason = info.getReason();
          hint = info.getMetadataOrDefault("hint", "");
        } else if (detail.is(RetryInfo.class)) {
          com.google.protobuf.Duration delay = detail.unpack(RetryInfo.class).getRetryDelay();
          retryAfter = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
        }
      } catch (InvalidProtocolBufferException | ArithmeticException garbled) {
        continue; // the code still says something
      }
    }
    boolean retryable = RETRYABLE.contains(code) || retryAfter != null;
    return new TrackdException(status.getMessage(), code, reason, hint, retryable, retryAfter, cause);
  }

  private static Duration pushback(Metadata trailers) {
    String said = trailers == null ? null : trailers.get(PUSHBACK);
    return said == null || !said.matches("\\d{1,9}") ? null : Duration.ofMillis(Long.parseLong(said));
  }

  private static String told(String message, String reason, String hint) {
    String text = reason.isEmpty() ? message : reason + ": " + message;
    // The daemon's message may say it already.
    return hint.isEmpty() || message.contains(hint) ? text : text + " (" + hint + ")";
  }
}
