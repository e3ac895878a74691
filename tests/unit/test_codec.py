"""Decoding in columns gives what decoding event by event gives, also of messages that are partly broken."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trackd.v1.event_pb2 import Change, Event
from trackd.v1.ingest_pb2 import AppendBatch, AppendRequest, AppendStreamRequest

from server.errors import Invalid
from server.ingest.offered import Offered, OfferedChange
from server.ingest.rules import Fault
from server.rpc import codec
from tests.support.wire import batch_frame, field, unary_frame

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(max_size=5)
RARELY = st.just("") | st.just("") | TEXT

CHANGES = st.builds(
    Change, table_name=TEXT, row_id=RARELY, action=st.integers(-2, 9), old_values=RARELY, new_values=RARELY,
    status=st.integers(-2, 9), rows_affected=st.none() | INT64,
)  # fmt: skip
EVENTS = st.builds(
    Event, id=st.binary(max_size=17), type=TEXT, user_id=RARELY, timestamp_ms=st.none() | st.just(0) | INT64,
    session_id=RARELY, client_ip=RARELY, description=RARELY, tags=st.just([]) | st.lists(TEXT, max_size=3),
    metadata=RARELY, change=st.none() | CHANGES,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One offered event."""

    id: bytes
    type: str
    user_id: str
    timestamp_ms: int | None
    session_id: str
    client_ip: str
    description: str
    metadata: str
    tags: tuple[str, ...]
    change: OfferedChange | None


def naive(event: Event) -> Row:
    """What an event says, read field by field."""
    change = event.change
    return Row(
        event.id,
        event.type,
        event.user_id,
        event.timestamp_ms if event.HasField("timestamp_ms") else None,
        event.session_id,
        event.client_ip,
        event.description,
        event.metadata,
        tuple(event.tags),
        OfferedChange(
            change.table_name,
            change.row_id,
            change.action,
            change.old_values,
            change.new_values,
            change.status,
            change.rows_affected if change.HasField("rows_affected") else None,
        )
        if event.HasField("change")
        else None,
    )


def rows(offered: Offered) -> list[Row]:
    """Columns as rows; all columns must be equally long."""
    columns = (
        offered.ids, offered.types, offered.user_ids, offered.timestamps_ms,
        offered.session_ids, offered.client_ips, offered.descriptions, offered.metadata,
    )  # fmt: skip
    assert set(offered.tags) | set(offered.changes) <= set(range(len(offered)))
    assert all(offered.tags.values()), "a row without tags is not listed"
    made = []
    for row, values in enumerate(zip(*columns, strict=True)):
        parts: list[Any] = [*values, offered.tags.get(row, ()), offered.changes.get(row)]
        made.append(Row(**{part.name: value for part, value in zip(fields(Row), parts, strict=True)}))
    return made


def decoded_both_ways(*events: Event | bytes, atomic: bool = False) -> tuple[list[Row], dict[int, Fault]]:
    """The batch read from a stream and from a unary request, which must be the same."""
    parsed = codec.parse_batch(batch_frame(7, *events, atomic=atomic))
    assert (parsed.batch_id, parsed.atomic, parsed.events) == (7, atomic, len(events))
    source, _durability, unary = codec.parse_append(unary_frame("tests", *events, atomic=atomic))
    assert (source, unary.atomic, unary.events) == ("tests", atomic, len(events))
    offered, faults = parsed.decode()
    again, same_faults = unary.decode()
    assert rows(again) == rows(offered)
    assert same_faults == faults
    return rows(offered), faults


@given(st.lists(EVENTS, max_size=6), st.booleans())
def test_columns_say_what_each_event_says(events: list[Event], atomic: bool) -> None:
    """Absent columns, tags and changes of some rows only, a time that is 0 beside one that is not there."""
    assert decoded_both_ways(*events, atomic=atomic) == ([naive(event) for event in events], {})


@given(st.lists(EVENTS, min_size=1, max_size=4), st.lists(EVENTS, min_size=1, max_size=4))
def test_a_batch_in_two_parts_is_their_sum(first: list[Event], second: list[Event]) -> None:
    """Protobuf lets a message field come twice and merges both (encoding, "Last One Wins"); so must both ways here."""
    frame = batch_frame(1, *first) + batch_frame(2, *second)
    parsed = codec.parse_batch(frame)
    assert (parsed.batch_id, parsed.events) == (2, len(first) + len(second))
    offered, _faults = parsed.decode()
    assert rows(offered) == [naive(event) for event in (*first, *second)]


@given(EVENTS, EVENTS)
def test_fields_that_come_twice_count_as_protobuf_says(first: Event, second: Event) -> None:
    """The last text wins, tags add up, changes merge."""
    both = first.SerializeToString() + second.SerializeToString()
    assert decoded_both_ways(both, first)[0] == [naive(Event.FromString(both)), naive(first)]


@given(st.lists(EVENTS, min_size=1, max_size=3))
def test_fields_of_a_later_version_are_passed_over(events: list[Event]) -> None:
    """Unknown fields in events, changes and around them."""
    later = field(77, b"\xff new")
    frames = [event.SerializeToString() + later + field(10, later) for event in events]
    expected = [naive(Event.FromString(frame)) for frame in frames]
    assert decoded_both_ways(*frames)[0] == expected


NUMBERS = {name: descriptor.number for name, descriptor in Event.DESCRIPTOR.fields_by_name.items()}
CHANGE_NUMBERS = {name: descriptor.number for name, descriptor in Change.DESCRIPTOR.fields_by_name.items()}
TEXTS = ("type", "user_id", "session_id", "client_ip", "description", "tags", "metadata")
CHANGE_TEXTS = ("table_name", "row_id", "old_values", "new_values")
NOT_UTF8 = st.sampled_from([b"\xff", b"caf\xe9", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"ok\xe2\x82"])


@st.composite
def broken(draw: st.DrawFn) -> tuple[bytes, str]:
    """An event with one text that is not UTF-8, and the name of its field."""
    raw, wrong = draw(EVENTS).SerializeToString(), draw(NOT_UTF8)
    if draw(st.booleans()):
        name = draw(st.sampled_from(TEXTS))
        return raw + field(NUMBERS[name], wrong), name
    name = draw(st.sampled_from(CHANGE_TEXTS))
    return raw + field(NUMBERS["change"], field(CHANGE_NUMBERS[name], wrong)), f"change.{name}"


@given(st.lists(EVENTS | broken(), min_size=1, max_size=6))
def test_only_events_with_broken_text_are_at_fault(offered: list[Any]) -> None:
    """Each is named with its field; all others are read as if it were not there."""
    found, faults = decoded_both_ways(*(one if isinstance(one, Event) else one[0] for one in offered))
    assert {row: (fault.reason, fault.field) for row, fault in faults.items()} == {
        row: ("TEXT_NOT_UTF8", one[1]) for row, one in enumerate(offered) if not isinstance(one, Event)
    }
    for row, one in enumerate(offered):
        if isinstance(one, Event):
            assert found[row] == naive(one)


@given(st.lists(EVENTS, max_size=3), st.binary(max_size=40))
def test_bytes_are_read_as_protobuf_reads_them_or_refused(events: list[Event], noise: bytes) -> None:
    """Noise behind a batch: what the generated classes can read is read the same, everything else is Invalid."""
    frame = batch_frame(1, *events) + noise
    try:
        parsed = codec.parse_batch(frame)
    except Invalid:
        return
    offered, faults = parsed.decode()
    assert len(rows(offered)) == parsed.events
    if not faults:
        batch = AppendStreamRequest.FromString(frame).batch
        assert rows(offered) == [naive(event) for event in batch.events]


@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_refused(raw: bytes) -> None:
    """Never another exception, neither at once nor when the columns are read."""
    for parse in (codec.parse_open, codec.parse_batch, codec.parse_append):
        try:
            parsed: Any = parse(raw)
        except Invalid:
            continue
        parsed = parsed[-1] if isinstance(parsed, tuple) else parsed
        if isinstance(parsed, codec.Parsed):
            parsed.decode()


def test_text_that_is_not_utf8_outside_of_events_makes_the_message_undecodable() -> None:
    """A source belongs to all events: none can be taken without it."""
    with pytest.raises(Invalid, match="not a valid AppendRequest"):
        codec.parse_append(unary_frame("tests", Event()) + field(1, b"\xff"))
    assert codec.parse_batch(field(2, AppendBatch().SerializeToString())).events == 0
    assert codec.parse_append(AppendRequest().SerializeToString())[2].events == 0
