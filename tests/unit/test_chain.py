"""Evidence: whatever is done to a chain is found, and nothing personal fits in."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retention.canonical import canonical
from retention.chain import EMPTY, GENESIS, Damage, Deed, Head, Record, append, verify
from retention.faults import Misworded

DEED = Deed(
    time_ms=1_764_000_000_000,
    plan_id="a" * 64,
    policy_digest="b" * 64,
    actor="scheduler",
    action="drop",
    class_name="reviews",
    month="2025-06",
    generation=2,
    rows_before=10,
    rows_after=3,
    bytes_before=1_000,
    bytes_after=300,
    method="unlink",
    versions=(("sqlite", "3.53.0"), ("trackd", "0.1.0")),
    checks=(("rows", "ok"), ("totals", "ok")),
    withheld=(("H-1", 2), ("H-2", 3)),
)


def chain(length: int) -> list[bytes]:
    """Lines of so many records."""
    head, lines = EMPTY, []
    for number in range(length):
        record = append(head, replace(DEED, generation=number))
        lines.append(record.line())
        head = record.head
    return lines


def head_of(lines: list[bytes]) -> Head:
    """The head of a chain that is whole."""
    return Record.parse(lines[-1]).head if lines else EMPTY


def found(lines: list[bytes], known: Head = EMPTY) -> set[tuple[Damage, int]]:
    """What is wrong, without words."""
    return {(one.damage, one.sequence) for one in verify(lines, known)}


def forged(line: bytes, previous: str | None = None, **changes: Any) -> bytes:
    """A record with something else in it and a digest that fits."""
    record = Record.parse(line)
    return replace(record, previous=previous or record.previous, deed=replace(record.deed, **changes)).line()


def test_a_chain_as_it_was_written_is_sound() -> None:
    """Also an empty one, and one whose newest known head is older than its end."""
    lines = chain(5)
    assert verify([]) == []
    assert verify(lines) == []
    assert verify(lines, head_of(lines)) == []
    assert verify(lines, head_of(lines[:3])) == []


def test_a_record_is_read_as_it_was_written() -> None:
    """Its digest is SHA-256 of everything in it, in canonical JSON, so that others can check it."""
    (line,) = chain(1)
    record = Record.parse(line)
    assert record == Record(1, GENESIS, replace(DEED, generation=0))
    content = json.loads(line)
    digest = content.pop("digest")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert digest == record.digest == hashlib.sha256(text.encode()).hexdigest()


CHANGES: list[dict[str, Any]] = [
    {"rows_after": 4},
    {"time_ms": 0},
    {"actor": "uid:0"},
    {"withheld": ()},
    {"checks": (("rows", "failed"),)},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_a_changed_record_is_found(changes: dict[str, Any]) -> None:
    """Whether its digest was left alone or made anew."""
    lines = chain(4)
    content = json.loads(lines[1])
    content["deed"] |= json.loads(json.dumps(changes))
    assert found([lines[0], canonical(content), *lines[2:]]) == {(Damage.CHANGED, 2)}
    assert found([lines[0], forged(lines[1], **changes), *lines[2:]]) == {(Damage.CHANGED, 3)}


def test_a_chain_that_was_written_anew_is_found_by_a_known_head() -> None:
    """From the changed record to the end, all digests fitting: only somebody who knows a head can tell."""
    lines = chain(4)
    known = head_of(lines)
    anew = [lines[0], forged(lines[1], rows_after=0)]
    for line in lines[2:]:
        anew.append(forged(line, previous=Record.parse(anew[-1]).digest))
    assert verify(anew) == []
    assert found(anew, known) == {(Damage.CHANGED, 4)}


def test_a_missing_record_is_found() -> None:
    """By its number; the one behind it is not blamed."""
    lines = chain(5)
    assert found(lines[:2] + lines[3:]) == {(Damage.MISSING, 3)}
    assert found(lines[2:]) == {(Damage.MISSING, 1), (Damage.MISSING, 2)}


def test_records_in_another_order_are_found() -> None:
    """And one that stands there twice."""
    lines = chain(4)
    assert found([lines[0], lines[2], lines[1], lines[3]]) == {(Damage.REORDERED, 2)}
    assert found([*lines[:2], *lines[1:]]) == {(Damage.REORDERED, 2)}


def test_a_chain_that_was_cut_off_is_found_by_a_known_head() -> None:
    """Down to nothing at all."""
    lines = chain(4)
    known = head_of(lines)
    assert found(lines[:2]) == set()
    assert found(lines[:2], known) == {(Damage.TRUNCATED, 3)}
    assert found([], known) == {(Damage.TRUNCATED, 1)}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"1",
        b"\xff",
        b'{"deed":{},"digest":"","format":1,"previous":"","sequence":1}',
        b"[" * 100_000,
        b'{"sequence":"1"}',
    ],
)
def test_what_is_no_record_is_a_changed_one(line: bytes) -> None:
    """It stands for the record that was there."""
    lines = chain(3)
    assert found([lines[0], line, lines[2]]) == {(Damage.CHANGED, 2)}
    assert found([*lines[:2], line], head_of(lines)) == {(Damage.CHANGED, 3)}


def test_another_spelling_of_a_record_is_a_changed_one() -> None:
    """Spaces, another order of keys, a field more: the bytes are what was written or they are not."""
    lines = chain(1)
    content = json.loads(lines[0])
    assert found([json.dumps(content).encode()]) == {(Damage.CHANGED, 1)}
    assert found([canonical(content | {"more": 1})]) == {(Damage.CHANGED, 1)}


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 6), st.data())
def test_any_harm_to_a_chain_whose_head_is_known_is_found(length: int, data: st.DataObject) -> None:
    """A byte changed, lines taken away, doubled or mixed."""
    lines = chain(length)
    known = head_of(lines)
    place = data.draw(st.integers(0, length - 1))
    match data.draw(st.sampled_from(("byte", "away", "doubled", "mixed"))):
        case "byte":
            at = data.draw(st.integers(0, len(lines[place]) - 1))
            old = lines[place]
            harmed = [*lines]
            harmed[place] = old[:at] + bytes([old[at] ^ data.draw(st.integers(1, 255))]) + old[at + 1 :]
        case "away":
            harmed = lines[:place] + lines[place + 1 :]
        case "doubled":
            harmed = lines[: place + 1] + lines[place:]
        case _:
            harmed = data.draw(st.permutations(lines))
    assert (verify(harmed, known) == []) is (harmed == lines)


@pytest.mark.parametrize(
    "changes",
    [
        {"actor": "Ann Example"},
        {"actor": "ann@example.org"},
        {"actor": ""},
        {"method": "because ann asked"},
        {"class_name": "a b"},
        {"month": "June"},
        {"month": "2025-6"},
        {"plan_id": "abc"},
        {"policy_digest": "B" * 64},
        {"rows_after": -1},
        {"rows_after": 1.5},
        {"generation": True},
        {"checks": (("rows", "12 rows of ann"),)},
        {"checks": (("b", "ok"), ("a", "ok"))},
        {"withheld": (("H-1", -1),)},
    ],
)
def test_there_is_no_room_for_a_person_or_for_free_text(changes: dict[str, Any]) -> None:
    """Every text is a code, every number a count."""
    with pytest.raises((Misworded, ValueError)):
        replace(DEED, **changes)


def test_nothing_but_codes_is_in_a_record() -> None:
    """A new field of text has to be checked like the others."""
    for name, value in asdict(DEED).items():
        if isinstance(value, str):
            changes: dict[str, Any] = {name: "Ann Example asked for it"}
            with pytest.raises((Misworded, ValueError)):
                replace(DEED, **changes)
