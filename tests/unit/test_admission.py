"""Judging batches: what is taken, what is rejected, and that every event keeps its place."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retention.month import Month
from server.config import Limits
from server.errors import Precondition
from server.ingest.admission import Admission, Admitted
from server.ingest.event_types import EventTypes
from server.ingest.offered import Offered, OfferedChange
from server.ingest.rules import NIL_ID, Fault, is_uuid7, new_uuid7, uuid7_time_ms
from server.model import Absent, Batch, EventType, Item, Outcome

NOW_MS = Month.parse("2025-11").start_ms + 3_000_000
LIMITS = Limits(
    user_id_bytes_max=16,
    session_id_bytes_max=16,
    description_bytes_max=16,
    metadata_bytes_max=200,
    metadata_depth_max=3,
    tags_max=2,
    tag_bytes_max=8,
    row_id_bytes_max=8,
    future_skew_max_ms=1_000,
    oldest_month="2025-01",
)
OLDEST_MS = LIMITS.oldest_timestamp_ms
COLUMNS = [field.name for field in fields(Offered)][:8]

Row = dict[str, Any]

TEXTS = st.sampled_from(["", "ann", "李雷", "x" * 16, "é" * 8, "a\0", "x" * 17, "é" * 9, "\0"])
METADATA = st.sampled_from([
    "", "{}", '{"a":1}', '{"a":{"b":{}}}', '{"a":[[1]]}', '{"a":"{[{[{["}', '{"a":"\\\\u0000"}', '{"a":1e999}',
    '{"a":"' + "x" * 190 + '"}',
    '{"a":{"b":{"c":{}}}}', '{"a":[[[]]]}', '{"a":"\\u0000"}', "[]", "1", "{", "{} ", "{}{}",
    '{"a":"' + "x" * 200 + '"}',
])  # fmt: skip
CHANGES = st.builds(
    OfferedChange,
    table_name=st.sampled_from(["pulls", "pulls", "", "x" * 9, "a\0"]),
    row_id=st.sampled_from(["7", "7", "", "x" * 9]),
    action=st.sampled_from([1, 2, 3, 3, 0, 4]),
    old_values=METADATA,
    new_values=METADATA,
    status=st.sampled_from([0, 1, 2, 2, 3]),
    rows_affected=st.sampled_from([None, 0, 1, 2, -1]),
)
IDS = (
    st.binary(min_size=16, max_size=16)
    | st.sampled_from([b"", new_uuid7(NOW_MS), new_uuid7(NOW_MS + 1_001), new_uuid7(OLDEST_MS - 1)])
    | st.sampled_from([NIL_ID, b"\x01", bytes(range(15)), bytes(range(17))])
)
TIMES = st.sampled_from([None, NOW_MS, OLDEST_MS, NOW_MS + 1_000, NOW_MS + 1_001, OLDEST_MS - 1, 0, -1, 2**63 - 1])


@st.composite
def events(draw: st.DrawFn) -> Row:
    """A good event, most often with one odd value."""
    row: Row = {
        "ids": new_uuid7(NOW_MS), "types": "known", "user_ids": "ann", "timestamps_ms": NOW_MS, "session_ids": "",
        "client_ips": "", "descriptions": "", "metadata": draw(st.sampled_from(["", "", '{"a":1}'])),
        "tags": (), "changes": None,
    }  # fmt: skip
    odd: dict[str, st.SearchStrategy[Any]] = {
        "ids": IDS,
        "types": st.sampled_from(["known", "unknown", "", "a b", "known\n", "x" * 129]),
        "user_ids": TEXTS,
        "timestamps_ms": TIMES,
        "session_ids": TEXTS,
        "client_ips": st.sampled_from(["", "::1", "10.0.0.1", "localhost", "::1%" + "x" * 60, "::1\0"]),
        "descriptions": TEXTS,
        "metadata": METADATA,
        "tags": st.sampled_from([("a", "b"), ("é" * 4,), ("a", "a"), ("a", "b", "c"), ("",), ("x" * 9,), ("\0",)]),
        "changes": CHANGES,
    }
    for name in draw(st.lists(st.sampled_from(sorted(odd)), max_size=2)):
        row[name] = draw(odd[name])
    return row


GOOD: Row = {
    "ids": new_uuid7(NOW_MS), "types": "known", "user_ids": "ann", "timestamps_ms": NOW_MS, "session_ids": "",
    "client_ips": "", "descriptions": "", "metadata": "", "tags": (), "changes": None,
}  # fmt: skip
BATCHES = st.lists(st.just(GOOD) | events(), max_size=8)


def offered(rows: list[Row]) -> Offered:
    """Rows as columns, as the decoder would give them: what no row has is absent."""
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in COLUMNS}
    for name in ("session_ids", "client_ips", "descriptions"):
        if not any(columns[name]):
            columns[name] = Absent(len(rows))
    tags = {number: row["tags"] for number, row in enumerate(rows) if row["tags"]}
    changes = {number: row["changes"] for number, row in enumerate(rows) if row["changes"]}
    return Offered(**columns, tags=tags, changes=changes)


def admission(*, open_registry: bool = False, types_max: int = 10) -> Admission:
    """A fresh judge who knows one type."""
    known = [EventType("known", "", 0, declared=True)]
    return Admission(LIMITS, EventTypes(known, open_registry=open_registry, types_max=types_max), lambda: NOW_MS)


def admit(rows: list[Row], *, atomic: bool = False, faults: dict[int, Fault] | None = None) -> Admitted:
    """The verdict of a fresh judge."""
    return admission().admit(offered(rows), source="tests", atomic=atomic, faults=faults)


def said(items: tuple[Item, ...]) -> dict[int, tuple[str, str]]:
    """Reason and field of each rejected event."""
    assert [item.index for item in items] == sorted({item.index for item in items})
    assert all(item.outcome is Outcome.REJECTED and item.message for item in items)
    return {item.index: (item.reason, item.field) for item in items}


def taken(admitted: Admitted) -> list[int]:
    """Which of the offered events are taken."""
    return list(range(len(admitted.batch)) if admitted.rows is None else admitted.rows)


@settings(max_examples=200, deadline=None)
@given(BATCHES, st.sets(st.integers(0, 7)))
def test_what_is_taken_is_what_was_offered(rows: list[Row], undecodable: set[int]) -> None:
    """Each row of the batch is the offered event that it says it is, with its tags and change; none is lost."""
    faults = {row: Fault("TEXT_NOT_UTF8", "told by the decoder", "type") for row in undecodable if row < len(rows)}
    admitted = admit(rows, faults=faults)
    batch, places = admitted.batch, taken(admitted)
    assert sorted((*places, *said(admitted.rejected))) == list(range(len(rows)))
    assert all(said(admitted.rejected)[row] == ("TEXT_NOT_UTF8", "type") for row in faults)
    assert (batch.source, batch.received_ms, batch.atomic) == ("tests", NOW_MS, False)
    for new, old in enumerate(places):
        assert_same(batch, new, rows[old])
    assert set(batch.tags) | set(batch.changes) <= set(range(len(places)))


def assert_same(batch: Batch, new: int, row: Row) -> None:
    """A row of a batch is this offered event, with what the server fills in."""
    plain = ("types", "user_ids", "session_ids", "client_ips", "descriptions", "metadata")
    assert [getattr(batch, name)[new] for name in plain] == [row[name] for name in plain]
    assert batch.tags.get(new, ()) == row["tags"]
    if row["ids"]:
        assert batch.ids[new] == row["ids"]
    else:
        assert is_uuid7(batch.ids[new])
        assert uuid7_time_ms(batch.ids[new]) == batch.timestamps_ms[new]
    sent = row["timestamps_ms"]
    assert batch.timestamps_ms[new] == (
        sent if sent is not None else uuid7_time_ms(row["ids"]) if row["ids"] else NOW_MS
    )
    change: OfferedChange | None = row["changes"]
    stored = batch.changes.get(new)
    assert (stored is None) == (change is None)
    if stored and change:
        assert (stored.table_name, stored.row_id, stored.action) == (change.table_name, change.row_id, change.action)
        assert (stored.old_values, stored.new_values) == (change.old_values, change.new_values)
        assert (stored.status, stored.rows_affected) == (change.status or 1, change.rows_affected)


@settings(max_examples=200, deadline=None)
@given(BATCHES)
def test_an_atomic_batch_is_taken_whole_or_lists_every_event(rows: list[Row]) -> None:
    """The same faults as in a partial batch; every other event is aborted. Good ones of two months are refused."""
    faults = said(admit(rows).rejected)
    try:
        admitted = admit(rows, atomic=True)
    except Precondition as refused:
        reason = refused.reason
        months = {Month.of(timestamp_ms) for timestamp_ms in admit(rows).batch.timestamps_ms}
        assert (reason, faults, len(months)) == ("ATOMIC_SPANS_MONTHS", {}, 2)
        return
    assert admitted.batch.atomic
    if not faults:
        assert taken(admitted) == list(range(len(rows)))
        return
    assert len(admitted.batch) == 0
    assert said(admitted.rejected) == {row: faults.get(row, ("ATOMIC_ABORTED", "")) for row in range(len(rows))}
    assert [item.retryable for item in admitted.rejected] == [row not in faults for row in range(len(rows))]


@pytest.mark.parametrize("bad", [{}, {"ids": NIL_ID}])
def test_an_open_registry_takes_new_types_up_to_its_limit(bad: Row) -> None:
    """Also beside an event that is rejected; names of rejected events do not count."""
    judge = admission(open_registry=True, types_max=3)
    rows = [GOOD | {"types": "spoilt"} | (bad or {"ids": b"x"}), *(GOOD | {"types": name} for name in "abcab")]
    admitted = judge.admit(offered(rows), source="tests", atomic=False)
    assert said(admitted.rejected) == {0: ("ID_INVALID", "id"), 3: ("TYPE_LIMIT", "type")}
    assert taken(admitted) == [1, 2, 4, 5]


def test_time_decides_by_the_clock_of_the_moment() -> None:
    """The same event is too early, then fine: nothing about it is remembered."""
    clock = [NOW_MS]
    judge = Admission(LIMITS, EventTypes([], open_registry=True, types_max=10), lambda: clock[0])
    early = offered([GOOD | {"timestamps_ms": NOW_MS + 1_001}])
    assert said(judge.admit(early, source="tests", atomic=False).rejected) == {
        0: ("TIMESTAMP_IN_FUTURE", "timestamp_ms")
    }
    clock[0] += 1
    assert taken(judge.admit(early, source="tests", atomic=False)) == [0]


def test_an_offered_batch_is_not_altered() -> None:
    """Filling in ids and times makes new columns: the decoder's may be shared."""
    rows = [GOOD | {"ids": b"", "timestamps_ms": None}, GOOD]
    given = offered(rows)
    admission().admit(given, source="tests", atomic=False)
    assert (given.ids, given.timestamps_ms) == ([b"", GOOD["ids"]], [None, NOW_MS])
