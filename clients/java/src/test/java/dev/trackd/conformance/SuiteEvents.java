package dev.trackd.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.protobuf.ByteString;
import dev.trackd.v1.Change;
import dev.trackd.v1.ChangeAction;
import dev.trackd.v1.ChangeStatus;
import dev.trackd.v1.Event;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;

/** Events as the conformance suite writes them. */
final class SuiteEvents {
  private SuiteEvents() {}

  static List<Event> read(JsonArray events) {
    List<Event> found = new ArrayList<>();
    events.forEach(event -> found.add(read(event.getAsJsonObject())));
    return found;
  }

  private static Event read(JsonObject event) {
    Event.Builder made =
        Event.newBuilder()
            .setId(ByteString.copyFrom(HexFormat.of().parseHex(text(event, "id"))))
            .setType(text(event, "type"))
            .setUserId(text(event, "user_id"))
            .setSessionId(text(event, "session_id"))
            .setClientIp(text(event, "client_ip"))
            .setDescription(text(event, "description"))
            .setMetadata(text(event, "metadata"));
    if (event.has("timestamp_ms")) {
      made.setTimestampMs(event.get("timestamp_ms").getAsLong());
    }
    if (event.has("tags")) {
      event.getAsJsonArray("tags").forEach(tag -> made.addTags(tag.getAsString()));
    }
    if (event.has("change")) {
      made.setChange(change(event.getAsJsonObject("change")));
    }
    return made.build();
  }

  private static Change change(JsonObject change) {
    Change.Builder made =
        Change.newBuilder()
            .setTableName(text(change, "table_name"))
            .setRowId(text(change, "row_id"))
            .setOldValues(text(change, "old_values"))
            .setNewValues(text(change, "new_values"));
    if (change.has("action")) {
      made.setAction(ChangeAction.valueOf("CHANGE_ACTION_" + text(change, "action").toUpperCase(Locale.ROOT)));
    }
    if (change.has("status")) {
      made.setStatus(ChangeStatus.valueOf("CHANGE_STATUS_" + text(change, "status").toUpperCase(Locale.ROOT)));
    }
    if (change.has("rows_affected")) {
      made.setRowsAffected(change.get("rows_affected").getAsLong());
    }
    return made.build();
  }

  /** The made event number n, of the type, base_ms and padding that the command says. */
  static Event made(long n, JsonObject command) {
    long moment = command.get("base_ms").getAsLong() + n;
    int padding = command.has("padding") ? command.get("padding").getAsInt() : 0;
    ByteBuffer id = ByteBuffer.allocate(16).putLong(moment << 16 | 0x7000).putLong(0x8000_0000_0000_0000L | n).flip();
    return Event.newBuilder()
        .setId(ByteString.copyFrom(id))
        .setType(command.get("type").getAsString())
        .setUserId("user-" + n % 7)
        .setTimestampMs(moment)
        .setMetadata(padding == 0 ? "{\"n\":" + n + "}" : "{\"n\":" + n + ",\"pad\":\"" + "x".repeat(padding) + "\"}")
        .build();
  }

  private static String text(JsonObject object, String name) {
    JsonElement value = object.get(name);
    return value == null ? "" : value.getAsString();
  }
}
