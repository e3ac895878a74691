package dev.trackd.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonParser;
import dev.trackd.TrackdClient;
import dev.trackd.v1.Event;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** What the suite relies on. */
@Timeout(20)
class DriverTest {
  @Test
  void madeEventsAreThoseOfTheSuite() {
    String command = "{\"type\":\"m\",\"base_ms\":1700000000000,\"padding\":3}";
    Event event = SuiteEvents.made(0x1_0203, JsonParser.parseString(command).getAsJsonObject());
    assertEquals("018bcfe66a0370008000000000010203", HexFormat.of().formatHex(event.getId().toByteArray()));
    assertEquals("{\"n\":66051,\"pad\":\"xxx\"}", event.getMetadata());
    assertEquals(1_700_000_066_051L, event.getTimestampMs());
    assertEquals("user-6", event.getUserId());
  }

  @Test
  void everyCommandIsAnsweredInOneLine() throws Exception {
    String commands =
        """
        {"cmd":"open","source":"s","batch_events":1,"window_batches":1}
        {"cmd":"close"}
        {"cmd":"append","source":"s","events":[{"id":"zz"}]}
        {"cmd":"dance"}
        """;
    ByteArrayOutputStream answers = new ByteArrayOutputStream();
    try (TrackdClient client = TrackdClient.connect("127.0.0.1:1")) {
      PrintStream out = new PrintStream(answers, false, StandardCharsets.UTF_8);
      new Driver(client).serve(new BufferedReader(new StringReader(commands)), out);
    }
    List<String> lines = answers.toString(StandardCharsets.UTF_8).lines().toList();
    assertEquals(4, lines.size());
    assertEquals("{\"opened\":true}", lines.get(0));
    assertTrue(lines.get(1).startsWith("{\"totals\":"));
    assertTrue(lines.get(2).startsWith("{\"error\":"));
    assertTrue(lines.get(3).startsWith("{\"error\":"));
  }
}
