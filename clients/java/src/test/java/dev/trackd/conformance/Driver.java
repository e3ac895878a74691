package dev.trackd.conformance;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.trackd.Appender;
import dev.trackd.AppenderOptions;
import dev.trackd.BatchResult;
import dev.trackd.BearerToken;
import dev.trackd.Rejection;
import dev.trackd.Totals;
import dev.trackd.TrackdClient;
import dev.trackd.TrackdException;
import dev.trackd.v1.AppendItem;
import dev.trackd.v1.AppendOutcome;
import dev.trackd.v1.AppendRequest;
import dev.trackd.v1.AppendResult;
import dev.trackd.v1.Durability;
import dev.trackd.v1.Event;
import io.grpc.ChannelCredentials;
import io.grpc.CompositeChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.TlsChannelCredentials;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;

/**
 * Drives this client for the conformance suite of trackd: it is given the daemon's address, reads one JSON object a line,
 * does it, and writes one JSON object a line. See clients/conformance in the repository.
 */
public final class Driver {
  private static final Gson JSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();

  private final TrackdClient client;
  private final List<Rejection> rejections = Collections.synchronizedList(new ArrayList<>());
  private Appender appender;

  Driver(TrackdClient client) {
    this.client = client;
  }

  /** Serves standard input until its end. */
  public static void main(String[] arguments) throws IOException {
    if (arguments.length != 1 || arguments[0].startsWith("-")) {
      System.err.println("usage: Driver HOST:PORT\n\nReads commands of the conformance suite of trackd from standard"
          + " input, one JSON object a line.");
      System.exit(2);
    }
    BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    PrintStream answers = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    try (TrackdClient client = TrackdClient.connect(arguments[0], secured())) {
      new Driver(client).serve(commands, answers);
    }
  }

  /** TLS and a token, as the environment has them. */
  private static ChannelCredentials secured() throws IOException {
    String ca = System.getenv("TRACKD_CA");
    String token = System.getenv("TRACKD_TOKEN");
    ChannelCredentials transport =
        ca == null
            ? InsecureChannelCredentials.create()
            : TlsChannelCredentials.newBuilder().trustManager(new File(ca)).build();
    return token == null ? transport : CompositeChannelCredentials.create(transport, BearerToken.of(token));
  }

  void serve(BufferedReader commands, PrintStream answers) throws IOException {
    for (String line = commands.readLine(); line != null; line = commands.readLine()) {
      answers.print(JSON.toJson(answer(line)) + "\n");
      answers.flush();
    }
  }

  private JsonObject answer(String line) {
    try {
      return answer(JsonParser.parseString(line).getAsJsonObject());
    } catch (RuntimeException | IOException failure) {
      return object("error", failure(failure));
    } catch (InterruptedException impossible) {
      throw new IllegalStateException(impossible);
    }
  }

  private JsonObject answer(JsonObject command) throws IOException, InterruptedException {
    String name = command.get("cmd").getAsString();
    switch (name) {
      case "append":
        return append(command);
      case "open":
        open(command);
        return object("opened", true);
      case "send":
        List<Event> events = SuiteEvents.read(command.getAsJsonArray("events"));
        appender.send(events);
        return object("sent", events.size());
      case "send_made":
        return object("sent", sendMade(command));
      case "flush":
        return told(appender.flush());
      case "close":
        appender.close();
        return told(appender.totals());
      case "stats":
        JsonObject stats = object("rss_bytes", residentBytes());
        stats.addProperty("unacknowledged", appender == null ? 0 : appender.unacknowledged());
        return stats;
      default:
        throw new IllegalArgumentException("nobody knows the command " + name);
    }
  }

  private JsonObject append(JsonObject command) {
    AppendRequest request =
        AppendRequest.newBuilder()
            .setSource(command.get("source").getAsString())
            .addAllEvents(SuiteEvents.read(command.getAsJsonArray("events")))
            .setAtomic(command.has("atomic") && command.get("atomic").getAsBoolean())
            .setDurability(durability(command))
            .build();
    AppendResult result = client.append(request);
    JsonArray items = new JsonArray();
    for (AppendItem item : result.getItemsList()) {
      boolean duplicate = item.getOutcome() == AppendOutcome.APPEND_OUTCOME_DUPLICATE;
      JsonObject told = object("index", item.getIndex());
      told.addProperty("outcome", duplicate ? "duplicate" : "rejected");
      told.addProperty("reason", item.getReason());
      told.addProperty("field", item.getField());
      told.addProperty("retryable", item.getRetryable());
      items.add(told);
    }
    JsonObject told = object("accepted", result.getAccepted());
    told.addProperty("duplicate", result.getDuplicate());
    told.addProperty("rejected", result.getRejected());
    told.addProperty("queued", result.getQueued());
    told.add("items", items);
    return object("result", told);
  }

  private void open(JsonObject command) {
    rejections.clear();
    appender =
        client.appender(
            new AppenderOptions(command.get("source").getAsString())
                .durability(durability(command))
                .batchEvents(command.get("batch_events").getAsInt())
                .windowBatches(command.get("window_batches").getAsInt())
                .linger(Duration.ZERO) // batches of the size asked for
                .onResult(this::heed));
  }

  private void heed(BatchResult result) {
    rejections.addAll(result.rejections());
  }

  private long sendMade(JsonObject command) throws InterruptedException {
    long from = command.get("from").getAsLong();
    long to = command.get("to").getAsLong();
    long pauseMicros = command.has("pause_us") ? command.get("pause_us").getAsLong() : 0;
    for (long n = from; n < to; n++) {
      appender.send(SuiteEvents.made(n, command));
      if (pauseMicros > 0 && (n - from + 1) % 100 == 0) {
        Thread.sleep(pauseMicros / 1_000, (int) (pauseMicros % 1_000) * 1_000);
      }
    }
    return to - from;
  }

  private JsonObject told(Totals totals) {
    JsonObject sums = object("accepted", totals.accepted());
    sums.addProperty("duplicate", totals.duplicate());
    sums.addProperty("rejected", totals.rejected());
    JsonObject told = object("totals", sums);
    JsonArray refused = new JsonArray();
    synchronized (rejections) {
      // They come in order of answers; a batch that was refused for now may be answered after younger ones.
      rejections.sort(Comparator.comparingLong(Rejection::sequence));
      for (Rejection rejection : rejections) {
        JsonObject one = object("sequence", rejection.sequence());
        one.addProperty("reason", rejection.reason());
        refused.add(one);
      }
    }
    told.add("rejections", refused);
    return told;
  }

  private static JsonObject failure(Exception failure) {
    JsonObject told = object("message", String.valueOf(failure.getMessage()));
    boolean known = failure instanceof TrackdException;
    TrackdException error = known ? (TrackdException) failure : null;
    told.addProperty("code", known ? error.code().name() : "");
    told.addProperty("reason", known ? error.reason() : "");
    told.addProperty("retryable", known && error.retryable());
    JsonElement none = JsonNull.INSTANCE;
    told.add("retry_after_ms", known ? error.retryAfter().map(after -> JSON.toJsonTree(after.toMillis())).orElse(none) : none);
    return told;
  }

  private static Durability durability(JsonObject command) {
    boolean accepted = command.has("durability") && command.get("durability").getAsString().equals("accepted");
    return accepted ? Durability.DURABILITY_ACCEPTED : Durability.DURABILITY_DURABLE;
  }

  private static long residentBytes() throws IOException {
    for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
      if (line.startsWith("VmRSS:")) {
        return Long.parseLong(line.replaceAll("\\D", "")) * 1024;
      }
    }
    throw new IOException("/proc/self/status has no VmRSS");
  }

  private static JsonObject object(String name, Object value) {
    JsonObject made = new JsonObject();
    made.add(name, JSON.toJsonTree(value));
    return made;
  }
}
