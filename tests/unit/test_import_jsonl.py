"""Lines of JSON become events, or are refused with a reason that names what is wrong."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import UUID

import pytest
import trackd

from server.cli.importing.identity import Ordinals
from server.cli.importing.jsonl import BadLine, parse

ID = UUID("0190b8f0-7b3a-7cc0-9d1e-3c2b1a000001")
TS = 1_700_000_000_000


def event(line: Any, ordinals: Ordinals | None = None) -> trackd.Event:
    """The event of a line given as text or as what to write as JSON."""
    text = line if isinstance(line, str) else json.dumps(line)
    return parse(text.encode(), ordinals or Ordinals())


def test_names_of_the_contract_in_both_spellings_and_the_short_ones_mean_the_same() -> None:
    """One event, written three ways, is one event: also its id."""
    proto = event({"type": "t", "userId": "ann", "timestampMs": str(TS), "tags": ["a"], "metadata": {"x": 1}})
    snake = event({"type": "t", "user_id": "ann", "timestamp_ms": TS, "tags": ["a"], "metadata": '{ "x": 1 }'})
    short = event({"ts": TS, "type": "t", "user": "ann", "tags": ["a"], "data": {"x": 1}})
    assert proto == trackd.Event(id=proto.id, type="t", user_id="ann", timestamp_ms=TS, tags=["a"], metadata='{"x": 1}')
    assert proto.id == snake.id == short.id


def test_everything_an_event_can_say_is_taken_over() -> None:
    """All fields, with the change in proto JSON names."""
    change = {"tableName": "t", "rowId": "7", "action": "CHANGE_ACTION_UPDATE", "oldValues": {"a": 1}}
    change |= {"newValues": '{"a":2}', "status": "failed", "rowsAffected": "3"}
    line = {"id": str(ID), "type": "t", "sessionId": "s", "clientIp": "::1", "description": "d", "change": change}
    assert event(line) == trackd.Event(
        id=ID.bytes,
        type="t",
        session_id="s",
        client_ip="::1",
        description="d",
        change=trackd.new_change(
            "t", "7", "update", old_values='{"a": 1}', new_values='{"a":2}', failed=True, rows_affected=3
        ),
    )


@pytest.mark.parametrize(
    "text",
    [
        str(ID),
        ID.hex,
        base64.b64encode(ID.bytes).decode(),
        base64.urlsafe_b64encode(ID.bytes).decode().rstrip("="),
    ],
)
def test_ids_are_taken_as_uuid_or_base64(text: str) -> None:
    """Proto JSON writes bytes in base64, people write UUIDs."""
    assert event({"id": text, "type": "t"}).id == ID.bytes


def test_numbers_in_metadata_keep_every_digit() -> None:
    """The text goes through as it stands; nothing is rounded to a double on the way."""
    text = '{"big":123456789012345678901234567890,"exact":0.10000000000000000001}'
    assert event(f'{{"ts":{TS},"type":"t","data":{text}}}').metadata == text


def test_a_number_as_user_becomes_text() -> None:
    """The shared data writes users as numbers."""
    assert event({"ts": TS, "type": "t", "user": 2946085515}).user_id == "2946085515"


def test_null_is_absent() -> None:
    """As proto JSON has it."""
    line = {"ts": TS, "type": "t", "user": None, "tags": None, "data": None, "change": None, "id": None}
    assert event(line) == trackd.Event(id=event(line).id, type="t", timestamp_ms=TS)


def test_identical_lines_get_different_ids_and_other_content_other_ones() -> None:
    """The ordinal counts within a file; every field of the content counts."""
    ordinals = Ordinals()
    lines = [{"ts": TS, "type": "t"}, {"ts": TS, "type": "t"}, {"ts": TS, "type": "u"}]
    lines += [{"ts": TS, "type": "t", name: "1"} for name in ("user", "sessionId", "clientIp", "description")]
    lines += [{"ts": TS, "type": "t", "tags": ["1"]}, {"ts": TS, "type": "t", "data": {"a": 1}}]
    lines += [{"ts": TS, "type": "t", "change": {"tableName": "x", "rowsAffected": n}} for n in (None, 0, 1)]
    assert len({event(line, ordinals).id for line in lines}) == len(lines)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"ts": TS, "type": "t", "foo": 1}, "foo"),
        ({"ts": TS, "type": "t", "change": {"foo": 1}}, "foo"),
        ({"ts": TS, "type": 7}, "type"),
        ({"ts": "soon", "type": "t"}, "timestampMs is not a whole number"),
        ({"ts": 1.5, "type": "t"}, "ts"),
        ({"ts": 1 << 70, "type": "t"}, "64 bits"),
        ({"ts": -1, "type": "t"}, "outside of what an id can carry"),
        ({"ts": TS, "timestampMs": TS, "type": "t"}, "timestampMs is given under two names"),
        ({"ts": TS, "type": "t", "data": {}, "metadata": {}}, "metadata is given under two names"),
        ({"ts": TS, "type": "t", "data": [1]}, "metadata must be a JSON object"),
        ({"ts": TS, "type": "t", "tags": "a"}, "tags"),
        ({"ts": TS, "type": "t", "id": "short"}, "neither a UUID nor 16 bytes in base64"),
        ({"ts": TS, "type": "t", "change": {"action": "explode"}}, "none of create, update, delete"),
        ({"ts": TS, "type": "t", "change": {"action": 1 << 40}}, "32 bits"),
        ({"type": "t"}, "neither an id nor a time"),
        ("not json", "malformed"),
        ("[1]", "object"),
        ('{"ts":1,"type":"t"', "truncated"),
        ('{"ts":1,"type":"\\ud800"}', "truncated|surrogate"),
        ('{"ts":1,"type":"t","data":{"a":"b"}} x', "trailing"),
    ],
)
def test_a_bad_line_is_refused_with_its_reason(line: Any, why: str) -> None:
    """Whatever is wrong is said, unknown keys by name."""
    with pytest.raises(BadLine, match=why):
        event(line)


def test_invalid_utf8_is_refused() -> None:
    """Also within metadata, which is otherwise passed on as it stands."""
    with pytest.raises(BadLine):
        parse(b'{"ts":1,"type":"t","data":{"a":"\xff"}}', Ordinals())
    with pytest.raises(BadLine):
        parse(b'{"ts":1,"type":"\xff"}', Ordinals())
