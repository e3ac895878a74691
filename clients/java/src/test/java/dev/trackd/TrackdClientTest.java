package dev.trackd;

import static dev.trackd.FakeDaemon.ended;
import static dev.trackd.FakeDaemon.events;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import dev.trackd.v1.AggregateResponse;
import dev.trackd.v1.Column;
import dev.trackd.v1.Event;
import dev.trackd.v1.EventFilter;
import dev.trackd.v1.EventOrder;
import dev.trackd.v1.ListEventsRequest;
import dev.trackd.v1.ListEventsResponse;
import dev.trackd.v1.QueryServiceGrpc.QueryServiceImplBase;
import dev.trackd.v1.StoredEvent;
import io.grpc.Status.Code;
import io.grpc.stub.StreamObserver;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.List;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Single calls, exceptions, ids, tables. */
@Timeout(20)
class TrackdClientTest {
  @Test
  void theSameEventsCanBeSentAgain() throws Exception {
    try (FakeDaemon fake = new FakeDaemon();
        TrackdClient client = fake.client()) {
      Event event = Events.now("t").build();
      assertEquals(1, client.append("tests", event).getAccepted());
      assertEquals(1, client.append("tests", event).getDuplicate());
    }
  }

  @Test
  void aFailedCallIsATypedException() throws Exception {
    try (FakeDaemon fake = new FakeDaemon();
        TrackdClient client = fake.client()) {
      TrackdException refusal = assertThrows(TrackdException.class, () -> client.append("full", events(0, 1)));
      assertEquals("QUEUE_FULL: refused (wait)", refusal.getMessage());
      assertEquals(Code.UNAVAILABLE, refusal.code());
      assertTrue(refusal.retryable());
      assertEquals(Duration.ofMillis(250), refusal.retryAfter().orElseThrow());
    }
  }

  @Test
  void nobodyAtTheTargetIsUnavailableWithoutAReason() {
    try (TrackdClient client = TrackdClient.connect("127.0.0.1:1")) {
      TrackdException nobody = assertThrows(TrackdException.class, () -> client.append("tests", events(0, 1)));
      assertEquals(Code.UNAVAILABLE, nobody.code());
      assertEquals("", nobody.reason());
    }
  }

  @Test
  void statusesBecomeExceptionsAsTheContractSays() {
    List<Code> retryable = List.of(Code.UNAVAILABLE, Code.ABORTED, Code.DEADLINE_EXCEEDED, Code.CANCELLED);
    List<Code> unclear = List.of(Code.INTERNAL, Code.UNKNOWN);
    for (Code code : Code.values()) {
      if (code == Code.OK) {
        continue;
      }
      TrackdException plain = TrackdException.of(ended(code, "REASON", null));
      assertEquals(retryable.contains(code), plain.retryable(), code.name());
      assertEquals(!retryable.contains(code) && !unclear.contains(code), plain.breaksForGood(), code.name());
      TrackdException later = TrackdException.of(ended(code, "REASON", 0));
      assertTrue(later.retryable(), code.name());
      assertFalse(later.breaksForGood(), code.name());
    }
  }

  @Test
  void idsAreVersion7OfTheirMoment() {
    ByteString id = Events.idAt(1_700_000_000_123L);
    byte[] time = {0x01, (byte) 0x8b, (byte) 0xcf, (byte) 0xe5, 0x68, 0x7b};
    assertArrayEquals(time, id.substring(0, 6).toByteArray());
    assertEquals(7, (id.byteAt(6) & 0xff) >> 4);
    assertEquals(2, (id.byteAt(8) & 0xff) >> 6);
    assertNotEquals(id, Events.idAt(1_700_000_000_123L));
    assertArrayEquals(new byte[6], Events.idAt(-5).substring(0, 6).toByteArray());
    Event event = Events.at("t", Instant.ofEpochMilli(1_700_000_000_123L)).build();
    assertArrayEquals(time, event.getId().substring(0, 6).toByteArray());
    assertEquals(event, Events.identified(event));
    Event without = Event.newBuilder().setTimestampMs(1_700_000_000_123L).build();
    assertArrayEquals(time, Events.identified(without).getId().substring(0, 6).toByteArray());
  }

  @Test
  void aListIsFetchedPageByPage() throws Exception {
    QueryServiceImplBase pages =
        new QueryServiceImplBase() {
          @Override
          public void listEvents(ListEventsRequest request, StreamObserver<ListEventsResponse> responses) {
            assertEquals(EventOrder.EVENT_ORDER_POSITION_ASC, request.getOrder());
            responses.onNext(
                switch (request.getPageToken()) {
                  case "" -> page("empty", 1, 2);
                  case "empty" -> page("last");
                  default -> page("", 3);
                });
            responses.onCompleted();
          }
        };
    try (FakeDaemon fake = new FakeDaemon(pages);
        TrackdClient client = fake.client()) {
      Iterable<StoredEvent> listed =
          client.listEvents(EventFilter.getDefaultInstance(), EventOrder.EVENT_ORDER_POSITION_ASC);
      for (int again = 0; again < 2; again++) {
        assertEquals(
            List.of(1L, 2L, 3L),
            StreamSupport.stream(listed.spliterator(), false).map(StoredEvent::getPosition).toList());
      }
    }
  }

  private static ListEventsResponse page(String token, long... positions) {
    ListEventsResponse.Builder page = ListEventsResponse.newBuilder().setNextPageToken(token);
    Arrays.stream(positions).forEach(position -> page.addEvents(StoredEvent.newBuilder().setPosition(position)));
    return page.build();
  }

  @Test
  void rowsOfATableHaveTheNamesOfItsColumns() {
    AggregateResponse answer =
        AggregateResponse.newBuilder()
            .setRows(2)
            .addColumns(Column.newBuilder().setName("type").addTexts("a").addTexts("b"))
            .addColumns(Column.newBuilder().setName("events").addIntegers(1).addIntegers(2))
            .addColumns(Column.newBuilder().setName("avg(n)").addReals(1.5).addReals(0).addAbsentRows(1))
            .build();
    assertEquals(
        "[{type=a, events=1, avg(n)=1.5}, {type=b, events=2, avg(n)=null}]", Rows.of(answer).toString());
  }
}
