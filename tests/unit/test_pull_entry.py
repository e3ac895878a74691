"""Entries of a stream become events: deterministic ones, or a refusal that says why."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
import trackd
from hypothesis import given, settings
from hypothesis import strategies as st

from server.cli.importing.jsonl import BadLine
from server.cli.importing.lines import LINE_BYTES_MAX
from server.cli.pulling.entry import Entry, event_of

ID = "1764000000123-7"
TS = 1_764_000_000_123
UUID7 = UUID("019abcde-f012-7abc-8def-0123456789ab")
UUID4 = UUID("2b3c4d5e-6f70-4a1b-8c2d-3e4f5a6b7c8d")


def event(content: list[bytes], *, stream: str = "s", identifier: str = ID, origin: str = "") -> trackd.Event:
    """The event of an entry."""
    return event_of(Entry(stream, identifier, content), origin)


def flat(**fields: str) -> list[bytes]:
    """The content of an entry with these fields."""
    return [part.encode() for pair in fields.items() for part in pair]


def test_fields_and_a_line_of_json_mean_the_same() -> None:
    """The keys of `trackd import`, each as a field of its own or all within the field `event`."""
    change = {"table_name": "t", "row_id": "7", "action": "update", "old_values": {"a": 1}}
    fields = flat(
        type="t",
        user_id="ann",
        timestamp_ms="17",
        session_id="x",
        client_ip="::1",
        description="d",
        tags='["a","b"]',
        metadata='{"pr": 1.00000000000000000001}',
        change=json.dumps(change),
    )
    line = {"type": "t", "user_id": "ann", "timestamp_ms": 17, "session_id": "x", "client_ip": "::1"}
    line |= {"description": "d", "tags": ["a", "b"], "metadata": '{"pr": 1.00000000000000000001}', "change": change}
    assert event(fields) == event(flat(event=json.dumps(line)))
    assert event(fields).metadata == '{"pr": 1.00000000000000000001}'
    assert event(fields).change.action == 2
    assert list(event(flat(ts="17", type="t", user="5", data="{}", tags="a,b")).tags) == ["a", "b"]


def test_an_entry_without_a_time_happened_when_it_was_added() -> None:
    """The milliseconds of its id; and the id of the event is a UUIDv8 that carries them."""
    made = event(flat(type="t"))
    assert made.timestamp_ms == TS
    assert UUID(bytes=made.id).version == 8
    assert int.from_bytes(made.id[:6], "big") == TS
    assert int.from_bytes(event(flat(type="t", timestamp_ms="17")).id[:6], "big") == 17


@settings(deadline=None)
@given(milliseconds=st.integers(0, (1 << 48) - 1), sequence=st.integers(0, 1 << 63), stream=st.text(), kind=st.text())
def test_an_entry_read_again_is_the_same_event_and_every_other_is_another(
    milliseconds: int, sequence: int, stream: str, kind: str
) -> None:
    """Name of the stream, id and origin decide, not the content: two people may do the same at the same time."""
    stream, kind = stream.encode(errors="replace").decode(), kind.encode(errors="replace").decode()
    identifier, content = f"{milliseconds}-{sequence}", flat(type=kind)
    first = event(content, stream=stream, identifier=identifier)
    assert first == event(content, stream=stream, identifier=identifier)
    others = [
        event(content, stream=stream, identifier=f"{milliseconds}-{sequence + 1}"),
        event(content, stream=stream + "x", identifier=identifier),
        event(content, stream=stream, identifier=identifier, origin="x"),
    ]
    assert len({first.id, *(other.id for other in others)}) == 4


def test_an_id_of_its_own_is_kept_and_gets_a_time_that_stays() -> None:
    """That within a UUIDv7, else that of the entry; never the moment of reading."""
    assert event(flat(type="t", id=str(UUID7))) == trackd.Event(id=UUID7.bytes, type="t")
    assert event(flat(type="t", id=str(UUID4))) == trackd.Event(id=UUID4.bytes, type="t", timestamp_ms=TS)
    assert event(flat(type="t", id=str(UUID4), ts="5")).timestamp_ms == 5


def test_an_empty_field_says_nothing() -> None:
    """Whoever writes fields cannot write null."""
    fields = dict.fromkeys(("user_id", "timestamp_ms", "tags", "metadata", "change", "id", "session_id"), "")
    assert event(flat(type="t", **fields)) == event(flat(type="t"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (flat(foo="secret"), "unknown field `foo`"),
        (flat(type="t", event="{}"), "beside the field event"),
        (flat(event="secret"), "malformed"),
        (flat(event='{"type":"t","ts":"secret"}'), "timestampMs is not a whole number"),
        (flat(type="t", timestamp_ms="secret"), "timestampMs is not a whole number"),
        (flat(type="t", timestamp_ms="-1"), "outside of what an id can carry"),
        (flat(type="t", id="secret"), "neither a UUID nor 16 bytes"),
        (flat(type="t", change="secret"), "change is not JSON"),
        (flat(type="t", change='{"action":"secret"}'), "none of create, update, delete"),
        (flat(type="t", change='{},"user":"secret"'), "change is not JSON"),
        (flat(type="t", tags='["secret'), "tags is not JSON"),
        (flat(type="t", metadata="secret", data="secret"), "metadata is given under two names"),
        ([b"type", b"t", b"type", b"secret"], "a field is there twice"),
        ([b"type", b"secret\xff"], "not UTF-8"),
        ([b"\xff", b"secret"], "not UTF-8"),
        (flat(event="x" * (LINE_BYTES_MAX + 1)), "longer than"),
        (flat(type="t", user="x" * (LINE_BYTES_MAX + 1)), "longer than"),
    ],
)
def test_what_is_no_event_is_refused_with_a_reason_that_quotes_nothing(content: list[bytes], why: str) -> None:
    """`why` goes to logs, so no value may be in it."""
    with pytest.raises(BadLine, match=why) as refused:
        event(content)
    assert "secret" not in refused.value.why


def test_the_text_for_people_quotes_what_is_wrong() -> None:
    """That of `trackd import`, and that of a dead letter."""
    with pytest.raises(BadLine, match="timestampMs is not a whole number: 'soon'"):
        event(flat(type="t", ts="soon"))


def test_an_entry_id_beyond_any_date_is_refused() -> None:
    """Redis takes 64 bits of milliseconds, an event's id 48."""
    with pytest.raises(BadLine, match="outside"):
        event(flat(type="t"), identifier=f"{1 << 60}-0")
