package dev.trackd;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.trackd.v1.AppendRequest;
import dev.trackd.v1.AppendResponse;
import dev.trackd.v1.IngestServiceGrpc.IngestServiceImplBase;
import io.grpc.Attributes;
import io.grpc.CallCredentials;
import io.grpc.CompositeChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.SecurityLevel;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(30)
class BearerTokenTest {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  @Test
  void everyCallCarriesTheTokenThatIsInTheFileThen(@TempDir Path directory) throws Exception {
    List<String> carried = new CopyOnWriteArrayList<>();
    Server server =
        Grpc.newServerBuilderForPort(0, InsecureServerCredentials.create())
            .addService(
                new IngestServiceImplBase() {
                  @Override
                  public void append(AppendRequest request, StreamObserver<AppendResponse> answers) {
                    answers.onNext(AppendResponse.getDefaultInstance());
                    answers.onCompleted();
                  }
                })
            .intercept(
                new ServerInterceptor() {
                  @Override
                  public <Q, A> ServerCall.Listener<Q> interceptCall(
                      ServerCall<Q, A> call, Metadata headers, ServerCallHandler<Q, A> next) {
                    carried.add(headers.get(AUTHORIZATION));
                    return next.startCall(call, headers);
                  }
                })
            .build()
            .start();
    Path file = directory.resolve("token");
    try (TrackdClient client =
        TrackdClient.connect(
            "127.0.0.1:" + server.getPort(),
            CompositeChannelCredentials.create(InsecureChannelCredentials.create(), BearerToken.ofFile(file)))) {
      for (String token : List.of("one", "two")) {
        Files.writeString(file, token + "\n");
        client.append("tests");
      }
      assertEquals(List.of("Bearer one", "Bearer two"), carried);
      Files.delete(file);
      TrackdException refused = assertThrows(TrackdException.class, () -> client.append("tests"));
      assertTrue(refused.getMessage().contains("the token cannot be read"), refused.getMessage());
    } finally {
      server.shutdownNow().awaitTermination();
    }
  }

  @Test
  void noTokenTravelsInTheClear() throws Exception {
    InetSocketAddress far = new InetSocketAddress(InetAddress.getByAddress(new byte[] {(byte) 192, 0, 2, 1}), 7077);
    Status refused = applied(SecurityLevel.NONE, far);
    assertEquals(Status.Code.UNAUTHENTICATED, refused.getCode());
    assertTrue(refused.getDescription().contains("in the clear"));
    assertFalse(refused.toString().contains("secret"));
    assertEquals(Status.OK, applied(SecurityLevel.PRIVACY_AND_INTEGRITY, far));
    assertEquals(Status.OK, applied(SecurityLevel.NONE, new InetSocketAddress(InetAddress.getLoopbackAddress(), 1)));
  }

  /** OK where the token is put into the headers, else why the call fails. */
  private static Status applied(SecurityLevel level, InetSocketAddress peer) {
    AtomicReference<Status> outcome = new AtomicReference<>();
    CallCredentials.RequestInfo call =
        new CallCredentials.RequestInfo() {
          @Override
          public MethodDescriptor<?, ?> getMethodDescriptor() {
            throw new UnsupportedOperationException();
          }

          @Override
          public SecurityLevel getSecurityLevel() {
            return level;
          }

          @Override
          public String getAuthority() {
            throw new UnsupportedOperationException();
          }

          @Override
          public Attributes getTransportAttrs() {
            return Attributes.newBuilder().set(Grpc.TRANSPORT_ATTR_REMOTE_ADDR, peer).build();
          }
        };
    CallCredentials.MetadataApplier applier =
        new CallCredentials.MetadataApplier() {
          @Override
          public void apply(Metadata headers) {
            assertEquals("Bearer secret", headers.get(AUTHORIZATION));
            outcome.set(Status.OK);
          }

          @Override
          public void fail(Status status) {
            outcome.set(status);
          }
        };
    BearerToken.of("secret").applyRequestMetadata(call, Runnable::run, applier);
    return outcome.get();
  }
}
