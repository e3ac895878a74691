"""Columns of numbers: sorted, merged and counted as a list of tuples would be."""

from __future__ import annotations

import random

import numpy as np
import pytest

from server.storage.sqlite.index import rollup
from server.storage.sqlite.index.building import cuts
from server.storage.sqlite.index.reading import Chunk
from server.storage.sqlite.index.rollup import count_days, count_quarters, decode_people
from server.storage.sqlite.index.rows import Rows, Sorted, distinct, merge, sort
from server.storage.sqlite.zone_offsets import offsets_of
from server.time_buckets import DAY_MS, QUARTER_MS, zone_of

START_MS = 1_761_955_200_000
END_MS = START_MS + 30 * DAY_MS


def some_rows(seed: int, first: int = 1, count: int = 500) -> Rows:
    """Rows of few users and times, so that many are equal but for their positions."""
    rng = random.Random(seed)
    return Rows(
        np.arange(first, first + count, dtype=np.int64),
        np.array([START_MS + rng.choice((0, 1, rng.randrange(30 * DAY_MS))) for _ in range(count)], np.int64),
        np.array([rng.choice((1, 2, 70_000)) for _ in range(count)], np.uint32),
        np.array([rng.choice((0, 1, 2, 2**32 - 1, rng.randrange(100))) for _ in range(count)], np.uint32),
        np.array([rng.randrange(3) for _ in range(count)], np.uint32),
    )


def listed(found: Sorted) -> list[tuple[int, ...]]:
    """Lead, time, position and the rest of each row."""
    rows = found.rows
    columns = (found.lead, rows.timestamp_ms, rows.position, rows.type, rows.user, rows.source)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_rows_are_sorted_by_lead_time_and_position(seed: int) -> None:
    """Whatever is equal; and merged runs are what sorting all of them gives."""
    one, other = some_rows(seed), some_rows(seed + 100, first=501)
    found = listed(sort(one.user, one, START_MS))
    assert found == sorted(found)
    assert sorted(row[2] for row in found) == one.position.tolist()
    merged = listed(merge([sort(one.user, one, START_MS), sort(other.user, other, START_MS)], START_MS))
    assert merged == sorted(merged)
    assert len(merged) == 1_000


def test_each_number_once() -> None:
    """Rising; also of none."""
    numbers = np.array([5, 3, 5, 2**63, 3], np.uint64)
    assert distinct(numbers).tolist() == [3, 5, 2**63]
    assert distinct(numbers).dtype == np.uint64
    assert distinct(np.empty(0, np.int32)).tolist() == []


@pytest.mark.parametrize("counted", [1 << 20, 0])
def test_rollups_are_counts_of_the_rows(monkeypatch: pytest.MonkeyPatch, counted: int) -> None:
    """With a counter for each cell, and with so many possible cells that rows are sorted."""
    monkeypatch.setattr(rollup, "CELLS_COUNTED_MAX", counted)
    rows = some_rows(9)
    by_type = sort(rows.type, rows, START_MS)
    events = list(
        zip(*(column.tolist() for column in (rows.type, rows.timestamp_ms, rows.user, rows.source)), strict=True)
    )
    quarters = count_quarters(by_type, START_MS)
    expected_quarters: dict[tuple[int, int, int], int] = {}
    expected_days: dict[tuple[int, int], list[int]] = {}
    for kind, at, user, source in events:
        cell = (kind, (at - START_MS) // QUARTER_MS, source)
        expected_quarters[cell] = expected_quarters.get(cell, 0) + 1
        for either in (kind, rollup.ANY_TYPE):
            expected_days.setdefault((either, at // DAY_MS), []).append(user)
    columns = (quarters.type, quarters.slot, quarters.source)
    cells = list(zip(*(column.tolist() for column in columns), strict=True))
    assert cells == sorted(expected_quarters)
    assert quarters.events.tolist() == [expected_quarters[cell] for cell in cells]
    days = count_days(by_type, offsets_of(zone_of("UTC"), START_MS, END_MS))
    places = list(zip(days.type.tolist(), days.day.tolist(), strict=True))
    assert places == sorted(expected_days)
    for place, count, users, people in zip(places, days.events.tolist(), days.users.tolist(), days.people, strict=True):
        assert count == len(expected_days[place])
        assert set(decode_people(people, users)) == set(expected_days[place]) - {0}


def test_a_merge_is_cut_between_leads() -> None:
    """Pieces of about so many rows; what belongs to one lead is never torn apart, however many rows it has."""
    chunks = [
        Chunk(low, high, 0, 0, 10, 0) for low, high in ((0, 3), (3, 3), (3, 3), (3, 5), (6, 9), (0, 4), (5, 5), (9, 9))
    ]
    assert list(cuts(chunks, 1_000)) == []
    assert list(cuts(chunks, 30)) == [3, 6]
    assert list(cuts(chunks, 1)) == [3, 5, 6, 9]
