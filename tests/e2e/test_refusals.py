"""Events that are refused one by one: a typed reason each, their neighbours are stored, the stream goes on."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from trackd.client import Client
from trackd.events import new_id
from trackd.v1.event_pb2 import CHANGE_STATUS_SUCCESS, Change, Event
from trackd.v1.ingest_pb2 import APPEND_OUTCOME_REJECTED, AppendResult
from trackd.v1.query_pb2 import EventFilter

from tests.e2e.conftest import DaemonProcess
from tests.support.serving import serving
from tests.support.wire import Stream, append_raw, channels, event, field, now_ms, unary_frame

HOUR_MS = 3_600_000
INT64_MAX = 2**63 - 1
NOT_UTF8 = b"caf\xe9"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon for this module: what a test refuses must not trouble the next one."""
    with serving(tmp_path_factory.mktemp("refusals")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def channel(served: DaemonProcess) -> Iterator[grpc.Channel]:
    """One connection."""
    yield from channels(served.target)


def change(**parts: Any) -> Change:
    """A good change but for `parts`."""
    given: dict[str, Any] = {"table_name": "pulls", "row_id": "7", "action": 2} | parts
    return Change(**given)


def nested(depth: int) -> str:
    """A JSON object nested so deep."""
    return '{"a":' * (depth - 1) + "{}" + "}" * (depth - 1)


Bad = Callable[[], Event | bytes]

IDS: dict[str, tuple[Bad, str, str]] = {
    "id of 15 bytes": (lambda: event(id=bytes(range(15))), "ID_INVALID", "id"),
    "id of 17 bytes": (lambda: event(id=bytes(range(17))), "ID_INVALID", "id"),
    "id of one byte": (lambda: event(id=b"\x01"), "ID_INVALID", "id"),
    "nil id": (lambda: event(id=bytes(16)), "ID_INVALID", "id"),
    "no type": (lambda: event(type=None), "TYPE_INVALID", "type"),
    "type with a space": (lambda: event(type="pr opened"), "TYPE_INVALID", "type"),
    "type with a line end": (lambda: event(type="pr_opened\n"), "TYPE_INVALID", "type"),
    "type too long": (lambda: event(type="t" * 129), "TYPE_INVALID", "type"),
    "type with an accent": (lambda: event(type="créé"), "TYPE_INVALID", "type"),
}
TIMES: dict[str, tuple[Bad, str, str]] = {
    "before the oldest month": (lambda: event(timestamp_ms=946_684_799_999), "TIMESTAMP_TOO_OLD", "timestamp_ms"),
    "time zero, sent": (lambda: event(timestamp_ms=0), "TIMESTAMP_TOO_OLD", "timestamp_ms"),
    "negative time": (lambda: event(timestamp_ms=-INT64_MAX - 1), "TIMESTAMP_TOO_OLD", "timestamp_ms"),
    "beyond the skew": (lambda: event(timestamp_ms=now_ms() + 25 * HOUR_MS), "TIMESTAMP_IN_FUTURE", "timestamp_ms"),
    "largest time": (lambda: event(timestamp_ms=INT64_MAX), "TIMESTAMP_IN_FUTURE", "timestamp_ms"),
    "no time, UUIDv4": (
        lambda: event(id=uuid.uuid4().bytes, timestamp_ms=None), "TIMESTAMP_REQUIRED", "timestamp_ms",
    ),
    "no time, future UUIDv7": (
        lambda: event(id=new_id(now_ms() + 25 * HOUR_MS), timestamp_ms=None), "TIMESTAMP_IN_FUTURE", "timestamp_ms",
    ),
    "no time, UUIDv7 of 1970": (
        lambda: event(id=new_id(1), timestamp_ms=None), "TIMESTAMP_TOO_OLD", "timestamp_ms",
    ),
}  # fmt: skip
METADATA: dict[str, tuple[Bad, str, str]] = {
    f"metadata {name}": (lambda text=text: event(metadata=text), reason, "metadata")  # type: ignore[misc]
    for name, text, reason in (
        ("is an array", "[1]", "METADATA_NOT_JSON_OBJECT"),
        ("is a number", "1", "METADATA_NOT_JSON_OBJECT"),
        ("is null", "null", "METADATA_NOT_JSON_OBJECT"),
        ("is blank", " ", "METADATA_NOT_JSON_OBJECT"),
        ("is cut off", '{"a": 1', "METADATA_NOT_JSON_OBJECT"),
        ("goes on behind its end", "{} {}", "METADATA_NOT_JSON_OBJECT"),
        ("has a bare word", '{"a": yes}', "METADATA_NOT_JSON_OBJECT"),
        ("has a raw NUL", '{"a": "\0"}', "METADATA_NOT_JSON_OBJECT"),
        ("is too deep", nested(33), "METADATA_TOO_DEEP"),
        ("is deep without end", nested(10_000), "METADATA_TOO_DEEP"),
        ("is too large", '{"a":"' + "x" * 65_529 + '"}', "METADATA_TOO_LARGE"),
        ("holds U+0000", '{"a": "\\u0000"}', "TEXT_HAS_NUL"),
        ("holds U+0000 in a key", '{"\\\\\\u0000": 1}', "TEXT_HAS_NUL"),
    )
}
TEXTS: dict[str, tuple[Bad, str, str]] = {
    f"{name} {what}": (lambda name=name, text=text: event(**{name: text}), reason, name)  # type: ignore[misc]
    for name, longest in (("user_id", 256), ("session_id", 256), ("description", 4_096))
    for what, text, reason in (
        ("with NUL", "a\0b", "TEXT_HAS_NUL"),
        ("a byte too long", "x" * (longest + 1), "FIELD_TOO_LONG"),
        ("too long in UTF-8", "é" * (longest // 2 + 1), "FIELD_TOO_LONG"),
        ("of megabytes", "x" * 2_000_000, "FIELD_TOO_LONG"),
    )
}
OTHERS: dict[str, tuple[Bad, str, str]] = {
    "address is a name": (lambda: event(client_ip="localhost"), "CLIENT_IP_INVALID", "client_ip"),
    "address with NUL": (lambda: event(client_ip="::1\0"), "CLIENT_IP_INVALID", "client_ip"),
    "address too long": (lambda: event(client_ip="fe80::1%" + "x" * 60), "CLIENT_IP_INVALID", "client_ip"),
    "33 tags": (lambda: event(tags=[f"t{n}" for n in range(33)]), "TAG_INVALID", "tags"),
    "a tag twice": (lambda: event(tags=["a", "b", "a"]), "TAG_INVALID", "tags"),
    "an empty tag": (lambda: event(tags=["a", ""]), "TAG_INVALID", "tags"),
    "a long tag": (lambda: event(tags=["a", "x" * 129]), "FIELD_TOO_LONG", "tags"),
    "a tag with NUL": (lambda: event(tags=["a\0"]), "TEXT_HAS_NUL", "tags"),
}
CHANGES: dict[str, tuple[Bad, str, str]] = {
    f"change {name}": (lambda parts=parts: event(change=change(**parts)), reason, f"change.{where}")  # type: ignore[misc]
    for name, parts, reason, where in (
        ("of no table", {"table_name": ""}, "CHANGE_INVALID", "table_name"),
        ("of no row", {"row_id": ""}, "CHANGE_INVALID", "row_id"),
        ("of no row and one row", {"row_id": "", "rows_affected": 1}, "CHANGE_INVALID", "row_id"),
        ("without an action", {"action": 0}, "CHANGE_INVALID", "action"),
        ("with an unknown action", {"action": 9}, "CHANGE_INVALID", "action"),
        ("with a negative action", {"action": -1}, "CHANGE_INVALID", "action"),
        ("with an unknown status", {"status": 3}, "CHANGE_INVALID", "status"),
        ("of negative rows", {"rows_affected": -1}, "CHANGE_INVALID", "rows_affected"),
        ("from an array", {"old_values": "[]"}, "METADATA_NOT_JSON_OBJECT", "old_values"),
        ("to a text", {"new_values": '"a"'}, "METADATA_NOT_JSON_OBJECT", "new_values"),
        ("to U+0000", {"new_values": '{"a":"\\u0000"}'}, "TEXT_HAS_NUL", "new_values"),
        ("too deep", {"new_values": nested(33)}, "METADATA_TOO_DEEP", "new_values"),
        ("too large", {"old_values": '{"a":"' + "x" * 65_529 + '"}'}, "METADATA_TOO_LARGE", "old_values"),
        ("of a long table name", {"table_name": "x" * 129}, "FIELD_TOO_LONG", "table_name"),
        ("of a table with NUL", {"table_name": "a\0"}, "TEXT_HAS_NUL", "table_name"),
        ("of a long row id", {"row_id": "x" * 1_025}, "FIELD_TOO_LONG", "row_id"),
        ("of a row with NUL", {"row_id": "\0"}, "TEXT_HAS_NUL", "row_id"),
    )
}


def with_raw(name: str) -> bytes:
    """A good event with one more field of text that is not UTF-8, as only a broken encoder can send it."""
    holder, _dot, inner = name.rpartition(".")
    if holder:
        number = Change.DESCRIPTOR.fields_by_name[inner].number
        return event().SerializeToString() + field(10, change().SerializeToString() + field(number, NOT_UTF8))
    return event().SerializeToString() + field(Event.DESCRIPTOR.fields_by_name[name].number, NOT_UTF8)


UTF8: dict[str, tuple[Bad, str, str]] = {
    f"{name} is not UTF-8": (lambda name=name: with_raw(name), "TEXT_NOT_UTF8", name)  # type: ignore[misc]
    for name in (
        "type", "user_id", "session_id", "client_ip", "description", "tags", "metadata",
        "change.table_name", "change.row_id", "change.old_values", "change.new_values",
    )
}  # fmt: skip

CASES = IDS | TIMES | METADATA | TEXTS | OTHERS | CHANGES | UTF8


def assert_only_second_rejected(result: AppendResult, reason: str, where: str) -> None:
    """Of three events the second is rejected with this reason, for this field; the others are stored."""
    assert (result.accepted, result.duplicate, result.rejected, result.queued) == (2, 0, 1, 0)
    (item,) = result.items
    assert (item.index, item.outcome, item.reason) == (1, APPEND_OUTCOME_REJECTED, reason)
    assert item.field == where
    assert item.message
    assert not item.retryable
    assert not item.HasField("existing_position")


@pytest.mark.parametrize("name", CASES)
def test_a_bad_event_is_rejected_alone(served: DaemonProcess, channel: grpc.Channel, name: str) -> None:
    """Streamed and unary: reason and field name the fault, the events around it are stored, the stream goes on."""
    make, reason, where = CASES[name]
    session = name.replace(" ", "-")
    with Stream(channel) as stream:
        answer = stream.ask(event(session_id=session), make(), event(session_id=session))
        assert_only_second_rejected(answer.result, reason, where)
        stream.takes(event(session_id=session))
    frame = unary_frame("tests", event(session_id=session), make(), event(session_id=session))
    assert_only_second_rejected(append_raw(channel, frame), reason, where)
    with Client(served.target) as client:
        assert client.count_events(EventFilter(session_ids=[session])).events == 5


def test_every_fault_in_one_batch_is_named(served: DaemonProcess, channel: grpc.Channel) -> None:
    """All bad events at once, a good one between each two: an item for each bad one, in order, the rest stored."""
    small = {name: case for name, case in CASES.items() if "megabytes" not in name}
    events: list[Event | bytes] = []
    for make, _reason, _where in small.values():
        events += [event(session_id="all"), make()]
    with Stream(channel) as stream:
        result = stream.ask(*events).result
        assert (result.accepted, result.rejected) == (len(small), len(small))
        found = [(item.index, item.reason, item.field) for item in result.items]
        expected = [(2 * place + 1, *case[1:]) for place, case in enumerate(small.values())]
        assert found == expected
        stream.takes()
    with Client(served.target) as client:
        assert client.count_events(EventFilter(session_ids=["all"])).events == len(small)


def test_what_is_just_within_the_limits_is_stored_as_it_was_sent(served: DaemonProcess, channel: grpc.Channel) -> None:
    """The largest of everything comes back byte by byte."""
    sent = [
        event(user_id="x" * 256, session_id="edge", description="é" * 2_048),
        event(metadata=nested(32), session_id="edge", client_ip="::ffff:255.255.255.255"),
        event(metadata='{"a":"' + "x" * 65_528 + '"}', session_id="edge", tags=[f"t{n}" for n in range(32)]),
        event(metadata='{"a":"\\\\u0000"}', session_id="edge", tags=["x" * 128], timestamp_ms=946_684_800_000),
        event(change=change(row_id="", rows_affected=2), session_id="edge", timestamp_ms=now_ms() + 23 * HOUR_MS),
        event(change=change(row_id="x" * 1_024, old_values=nested(32)), session_id="edge", type="t" * 128),
    ]
    with Stream(channel) as stream:
        stream.takes(*sent)
    for audit in sent[-2:]:
        audit.change.status = CHANGE_STATUS_SUCCESS  # which is what an unspecified status means
    with Client(served.target) as client:
        found = client.list_events(EventFilter(session_ids=["edge"]), order="position_asc")
        assert [one.event for one in found] == sent
