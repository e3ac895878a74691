import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import dev.trackd.Appender;
import dev.trackd.AppenderOptions;
import dev.trackd.BatchResult;
import dev.trackd.Events;
import dev.trackd.TrackdClient;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * An HTTP server that records what is asked of it: an event a request, sent in the background, each stored once. Copy it and
 * go on from there.
 *
 * <pre>TRACKD_TARGET=127.0.0.1:7077 PORT=8080 java -cp 'target/classes:target/lib/*' examples/Web.java</pre>
 */
public final class Web {
  private final Appender appender;

  private Web(Appender appender) {
    this.appender = appender;
  }

  /** Serves until it is asked to end; then sends what is open. */
  public static void main(String[] arguments) throws IOException {
    int port = Integer.parseInt(System.getenv().getOrDefault("PORT", "8080"));
    TrackdClient client = TrackdClient.connect(); // TRACKD_TARGET, or the daemon on this machine
    Appender appender =
        client.appender(
            new AppenderOptions("web")
                .onResult(Web::complain)
                .giveUpAfter(Duration.ofHours(24))); // a server outlives a daemon that is away for long
    ExecutorService threads = Executors.newFixedThreadPool(8);
    HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 0);
    server.setExecutor(threads);
    server.createContext("/", new Web(appender)::serve);
    server.start();
    System.out.println("listening on " + server.getAddress().getPort());
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(
                () -> {
                  server.stop(5);
                  threads.shutdown();
                  appender.close(); // sends what is open
                  System.out.println(appender.totals());
                  client.close();
                }));
  }

  private void serve(HttpExchange exchange) throws IOException {
    byte[] body = "hello\n".getBytes();
    exchange.sendResponseHeaders(200, body.length);
    exchange.getResponseBody().write(body);
    exchange.close();
    String user = exchange.getRequestHeaders().getFirst("X-User");
    // A real application lets its JSON library write the metadata.
    String path = exchange.getRequestURI().getRawPath().replace("\\", "%5C").replace("\"", "%22");
    try {
      // Waits while the window is full: a daemon that is away for long slows requests down, and loses none.
      appender.send(
          Events.now("request_served")
              .setUserId(user == null ? "" : user)
              .setMetadata("{\"method\":\"" + exchange.getRequestMethod() + "\",\"path\":\"" + path + "\"}")
              .build());
    } catch (InterruptedException ending) {
      Thread.currentThread().interrupt();
    }
  }

  /** Tells of events that the daemon does not take: a defect of this program, most likely. */
  private static void complain(BatchResult result) {
    result.rejections().forEach(one -> System.err.println("rejected: " + one.reason() + ": " + one.message()));
  }
}
