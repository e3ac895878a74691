"""Questions that would look at too much are refused before they look; those that rollups answer are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.config import Query, Storage
from server.errors import Exhausted
from server.question import Bucket, BucketUnit, Field, FieldKind, Metric, MetricKind, OneOf, Question
from server.storage.contract import Reader
from server.storage.sqlite.answers import aggregate
from server.storage.sqlite.store import SqliteStore
from tests.support.events import append, make_event

EVENTS = Metric(MetricKind.EVENTS)
USER, TYPE, SESSION = Field(FieldKind.USER), Field(FieldKind.TYPE), Field(FieldKind.SESSION)
ROWS = 300


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """Three months with a hundred events each, by fifty users; a question may look at 250 and make 40 groups."""
    opened = SqliteStore(tmp_path, Storage(disk_free_bytes_min=1), Query(rows_max=250, groups_max=40), months_max=10)
    for month in ("2025-09", "2025-10", "2025-11"):
        append(
            opened,
            *(
                make_event(number, month, number * 60_000, user_id=f"user-{number % 50}", metadata=f'{{"n":{number}}}')
                for number in range(ROWS // 3)
            ),
        )
    yield opened
    opened.close()


@pytest.fixture(params=["not folded", "folded"])
def reader(store: SqliteStore, request: pytest.FixtureRequest) -> Iterator[Reader]:
    """Over an index that has all, or nothing."""
    if request.param == "folded":
        assert store.settle()
    opened = store.reader()
    yield opened
    opened.close()


def refusal(reader: Reader, question: Question) -> Exhausted:
    """How a question is refused."""
    with pytest.raises(Exhausted) as caught:
        reader.aggregate([question])
    assert caught.value.retry_after_ms is None, "the same question fails again"
    return caught.value


@pytest.mark.parametrize(
    "question",
    [
        Question((Metric(MetricKind.SUM, "n"),)),
        Question((EVENTS,), (SESSION,)),
    ],
)
def test_a_question_that_has_to_read_all_events_is_refused_by_name(reader: Reader, question: Question) -> None:
    """With the limit, and what to do."""
    error = refusal(reader, question)
    assert (error.reason, "250 rows" in error.message) == ("QUESTION_TOO_LARGE", True)
    assert "query.rows_max" in error.hint


def test_rows_of_the_index_count_as_well(store: SqliteStore) -> None:
    """Users by hour are in no rollup. What is only in the tail is in memory and costs nothing."""
    question = Question((Metric(MetricKind.USERS),), (Bucket(BucketUnit.HOUR),))
    assert store.settle()
    reader = store.reader()
    assert refusal(reader, question).reason == "QUESTION_TOO_LARGE"
    reader.close()


def test_too_large_is_said_before_anything_is_read(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a month that alone is too much no event is looked at."""
    append(store, *(make_event(1_000 + number, "2025-12", number) for number in range(300)))
    assert store.settle()
    monkeypatch.setattr(aggregate, "scanned_columns", lambda *_args, **_named: pytest.fail("events were read"))
    reader = store.reader()
    question = Question((Metric(MetricKind.SUM, "n"),), start_ms=1_764_547_200_000)
    assert refusal(reader, question).reason == "QUESTION_TOO_LARGE"
    reader.close()


def test_rollups_and_lookups_are_not_too_large(store: SqliteStore) -> None:
    """A series by type over all months, and all that one user did."""
    assert store.settle()
    reader = store.reader()
    answer = reader.aggregate(
        [
            Question((EVENTS, Metric(MetricKind.USERS)), (Bucket(BucketUnit.MONTH), TYPE)),
            Question((Metric(MetricKind.SUM, "n"),), where=OneOf(USER, ("user-7",))),
        ]
    )
    assert [sum(table.values[0]) for table in answer.tables] == [ROWS, 3 * (7 + 57)]  # type: ignore[arg-type]
    reader.close()


def test_too_many_groups_are_refused(reader: Reader) -> None:
    """Fifty users, where forty groups are allowed."""
    month = {"start_ms": 1_761_955_200_000}
    error = refusal(reader, Question((EVENTS,), (USER,), **month))  # type: ignore[arg-type]
    assert (error.reason, "50 groups" in error.message) == ("QUESTION_TOO_LARGE", True)
