"""Other tools read the folder as it is: no trackd, no manifest, only Parquet files in Hive's folders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import duckdb
import pytest

from retention.month import Month
from server.archive.folders import LocalFolder
from server.archive.making import Wanted
from server.model import Dimension, EventFilter
from server.rewriting import Selection
from server.storage.contract import Store
from tests.support.archives import made, stored_in
from tests.support.population import MONTHS, TYPES, populate
from tests.support.retaining import events_of, seal

EVENTS = "read_parquet('{}/archive/events/**/*.parquet', hive_partitioning = true)"


def archive_all(folder: LocalFolder, store: Store) -> None:
    """Every month, in two archives of different types."""
    for month in map(Month.parse, MONTHS):
        info = seal(store, month)
        for types in (TYPES[:1], TYPES[1:]):
            rows = Selection(tuple(types), ("",))
            wanted = Wanted(
                month=month, generation=info.generation, month_digest="d" * 64, rows=rows, target="local",
                plan_id="p" * 64, created_ms=0,
            )  # fmt: skip
            made(folder, store, wanted)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A store, and what DuckDB says to a question about `events`, which stands for the folder."""
    folder = LocalFolder(tmp_path_factory.mktemp("target"))
    with (
        stored_in(tmp_path_factory.mktemp("data")) as store,
        closing(duckdb.connect()) as duck,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("server.archive.columns.BUCKET_ROWS", 10)
        populate(store, events=300)
        archive_all(folder, store)
        duck.execute("SET TimeZone = 'UTC'")
        yield store, lambda sql: duck.execute(sql.replace("events", EVENTS.format(folder.url), 1)).fetchall()


def test_counts_by_type_and_month_are_those_of_the_store(asked: Any) -> None:
    """By the folders alone: the months are columns although no file has them."""
    store, ask = asked
    with closing(store.reader()) as reader:
        counts = reader.count_events(EventFilter(), [Dimension.MONTH, Dimension.TYPE], as_of=store.head)
    answered = ask("SELECT year || '-' || month, type, count(*) FROM events GROUP BY ALL ORDER BY ALL")
    assert answered == [(*one.key, one.events) for one in counts]


def test_columns_have_useful_types(asked: Any) -> None:
    """Times are times, tags are lists, metadata is taken by functions for JSON, ids are bytes."""
    store, ask = asked
    months = [Month.parse(name) for name in MONTHS]
    events = [event for month in months for event in events_of(store, month)]
    assert ask("SELECT count(*) FROM events WHERE metadata->>'$.a' = 'auth'") == [
        (sum('"auth"' in event.metadata for event in events),)
    ]
    assert ask("SELECT count(*) FROM events WHERE list_contains(tags, 'backend')") == [
        (sum("backend" in event.tags for event in events),)
    ]
    assert ask("SELECT count(*) FROM events WHERE epoch_ms(time) != timestamp_ms") == [(0,)]
    assert ask("SELECT count(*) FROM events WHERE strftime(time, '%Y-%m') = '2025-12'") == [
        (len(events_of(store, Month(2025, 12))),)
    ]
    assert ask("SELECT DISTINCT octet_length(id), typeof(position) FROM events") == [(16, "BIGINT")]


def test_one_user_is_in_one_bucket_and_in_order(asked: Any) -> None:
    """So that one person's rows are found, and can be taken out, without reading the others'."""
    store, ask = asked
    del store
    assert ask("SELECT count(*) FROM (SELECT user_id, year, month, type FROM events GROUP BY ALL HAVING count(DISTINCT bucket) > 1)") == [(0,)]  # fmt: skip  # noqa: E501
    rows = ask("SELECT filename, user_id, timestamp_ms, position FROM events ORDER BY filename, file_row_number")
    assert rows == sorted(rows, key=lambda row: (row[0], row[1].encode(), *row[2:]))
