package dev.trackd;

import io.grpc.CallCredentials;
import io.grpc.Grpc;
import io.grpc.Metadata;
import io.grpc.SecurityLevel;
import io.grpc.Status;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import java.util.concurrent.Executor;

/**
 * A token that every call carries: {@code CompositeChannelCredentials.create(tls, token)}, for {@link
 * TrackdClient#connect(String, io.grpc.ChannelCredentials)}.
 *
 * <p>It goes over TLS or to loopback; to anywhere else in the clear the call fails with UNAUTHENTICATED.
 */
public final class BearerToken extends CallCredentials {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private final Callable<String> token;

  private BearerToken(Callable<String> token) {
    this.token = token;
  }

  /** This token. */
  public static BearerToken of(String token) {
    return new BearerToken(() -> token);
  }

  /** The token in this file, which is read anew for each call, so that tokens can be replaced meanwhile. */
  public static BearerToken ofFile(Path file) {
    return new BearerToken(() -> Files.readString(file).strip());
  }

  @Override
  public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
    if (call.getSecurityLevel() != SecurityLevel.PRIVACY_AND_INTEGRITY && !toLoopback(call)) {
      applier.fail(
          Status.UNAUTHENTICATED.withDescription("the token would travel in the clear: give TlsChannelCredentials"));
      return;
    }
    executor.execute(
        () -> {
          Metadata headers = new Metadata();
          try {
            headers.put(AUTHORIZATION, "Bearer " + token.call());
          } catch (IOException failure) {
            applier.fail(Status.UNAUTHENTICATED.withDescription("the token cannot be read").withCause(failure));
            return;
          } catch (Exception failure) {
            applier.fail(Status.UNAUTHENTICATED.withDescription("there is no token").withCause(failure));
            return;
          }
          applier.apply(headers);
        });
  }

  private static boolean toLoopback(RequestInfo call) {
    SocketAddress peer = call.getTransportAttrs().get(Grpc.TRANSPORT_ATTR_REMOTE_ADDR);
    return peer instanceof InetSocketAddress && ((InetSocketAddress) peer).getAddress().isLoopbackAddress();
  }
}
