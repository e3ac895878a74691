"""Answers to aggregate questions, over the reference engine: empty buckets, periods, totals, one moment for all."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.config import Config
from server.errors import Exhausted
from server.query.aggregate import Aggregated, answer
from server.query.periods import period_before
from server.query.question_plan import Asked, plan_of
from server.question import EVERYTHING, AllOf, Answer, Field, FieldKind, OneOf, Question, Ranking, Read
from server.storage.contract import Reader, Store
from server.storage.factory import open_store
from server.storage.memory.aggregation import ordered
from server.time_buckets import buckets, date_start
from tests.support.events import Sent, append, make_event
from tests.support.readers import Mute

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [ZoneInfo(name) for name in ("UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia")]
ROWS_MAX = 500


def day_of(year: int, month: int, day: int) -> int:
    """A date as a number of days since the epoch."""
    return (date(year, month, day) - date(1970, 1, 1)).days


def at(year: int, month: int, day: int, zone: ZoneInfo = BERLIN) -> int:
    """The instant at which a date begins."""
    return date_start(day_of(year, month, day), zone)


class Stand(Mute):
    """A reader over the reference engine that keeps what it was asked, and lets things happen in between."""

    def __init__(self, store: Store, between: Sequence[Callable[[], object]] = ()) -> None:
        self._reader = store.reader()
        self._between = list(between)
        self.calls: list[list[Question]] = []

    def aggregate(self, questions: Sequence[Question]) -> Answer:
        self.calls.append(list(questions))
        answered = self._reader.aggregate(questions)
        if self._between:
            self._between.pop(0)()
        return replace(answered, read=Read(months=30))


def store_of(*events: Sent) -> Store:
    """The reference engine with these events."""
    store = open_store("memory", Config())
    append(store, *events)
    return store


def asked(reader: Store | Reader, *metrics: str, rows_max: int = ROWS_MAX, **parts: Any) -> Aggregated:
    """The answer to a question."""
    plan = plan_of(Asked(metrics or ("events",), **parts), answer_rows_max=rows_max)
    return answer(reader if isinstance(reader, Reader) else reader.reader(), plan)


def rows(answered: Aggregated) -> list[tuple[object, ...]]:
    """The answer by rows."""
    assert all(len(column.values) == answered.rows for column in answered.columns)
    return list(zip(*(column.values for column in answered.columns), strict=True))


def names(answered: Aggregated) -> list[str]:
    """The names of its columns."""
    return [column.name for column in answered.columns]


def event(number: int, timestamp_ms: int, **content: Any) -> Sent:
    """An event at an instant."""
    return replace(make_event(number, **content), timestamp_ms=timestamp_ms)


@dataclass(frozen=True)
class Scene:
    """A zone, a range of its time, and events in it, before it and behind it."""

    zone: ZoneInfo
    start_ms: int
    end_ms: int
    events: list[Sent]


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """A few events of a few kinds, around the days on which clocks change."""
    zone = draw(st.sampled_from(ZONES))
    year, month, day = draw(
        st.sampled_from([(2024, 3, 1), (2024, 3, 30), (2024, 10, 5), (2024, 10, 28), (2011, 12, 26)])
    )
    days = draw(st.integers(1, 9))
    start_ms = at(year, month, day, zone) + draw(st.sampled_from([0, 0, HOUR_MS, 90 * 60_000]))
    events = [
        event(
            number,
            start_ms + draw(st.integers(-days - 1, days)) * DAY_MS + draw(st.integers(0, 23)) * HOUR_MS,
            type=draw(st.sampled_from(["a", "b"])),
            user_id=draw(st.sampled_from(["", "ann", "ben"])),
            tags=tuple(draw(st.sets(st.sampled_from(["x", "y"])))),
            metadata=draw(st.sampled_from(["", json.dumps({"n": number, "k": "v"})])),
        )
        for number in range(1, draw(st.integers(2, 15)))
    ]
    return Scene(zone, start_ms, start_ms + days * DAY_MS, events)


dimension_lists = st.permutations(["type", "tag", "metadata:k", "time"]).flatmap(
    lambda order: st.integers(1, 4).map(lambda count: order[:count])
)
units = st.sampled_from(["hour", "day", "week", "month"])


@given(scenes(), dimension_lists, units, st.booleans())
def test_empty_buckets_are_all_that_are_missing(
    scene: Scene, dimensions: list[str], unit: str, descending: bool
) -> None:
    """Every bucket of the range for every combination that occurs, in the order asked for, and nothing else changes."""
    start_ms, end_ms, zone = scene.start_ms, scene.end_ms, scene.zone
    by = tuple(f"time:{unit}" if name == "time" else name for name in dimensions)
    by = by if "time" in dimensions else (*by, f"time:{unit}")
    common: dict[str, Any] = {"dimensions": by, "start_ms": start_ms, "end_ms": end_ms, "time_zone": zone.key}
    order_by = ((by[-1], descending), ("events", not descending))
    store = store_of(*scene.events)
    full = asked(store, "events", "sum(n)", rows_max=20_000, empty_buckets=True, order_by=order_by, **common)
    sparse = {row[: len(by)]: row for row in rows(asked(store, "events", "sum(n)", rows_max=20_000, **common))}
    time_at = by.index(f"time:{unit}")
    plan = plan_of(Asked(("events",), **common), answer_rows_max=1)
    assert plan.time
    all_buckets = list(buckets(start_ms, end_ms, plan.time.unit, zone))
    others = {key[:time_at] + key[time_at + 1 :] for key in sparse} if len(by) > 1 else {()}
    keys = [(*key[:time_at], bucket, *key[time_at:]) for key, bucket in product(others, all_buckets)]
    expected = [sparse.get(key, (*key, 0, None)) for key in keys]
    by_keys = [Ranking(place) for place in range(len(by))]
    ranking = [Ranking(len(by) - 1, descending), Ranking(len(by), not descending), *by_keys]
    assert rows(full) == ordered(expected, ranking)


@given(scenes(), dimension_lists, units, st.integers(0, 3), st.booleans())
def test_the_period_before_is_what_the_same_question_says_about_it(
    scene: Scene, dimensions: list[str], unit: str, limit: int, empty: bool
) -> None:
    """Row by row, bucket number by bucket number; counts are 0 where nothing happened, unless there was no bucket."""
    start_ms, end_ms, zone = scene.start_ms, scene.end_ms, scene.zone
    by = tuple(f"time:{unit}" if name == "time" else name for name in dimensions)
    common: dict[str, Any] = {"dimensions": by, "time_zone": zone.key, "rows_max": 20_000}
    store = store_of(*scene.events)
    compared = asked(
        store, "events", "max(n)", start_ms=start_ms, end_ms=end_ms, compare=True, limit=limit, totals=True,
        empty_buckets=empty and "time" in dimensions, **common,
    )  # fmt: skip
    before_ms, _ = period_before(start_ms, end_ms, zone)
    earlier = asked(store, "events", "max(n)", start_ms=before_ms, end_ms=start_ms, totals=True, **common)
    number: dict[object, object] = {}
    if "time" in dimensions:
        bucket = plan_of(Asked(("events",), by), answer_rows_max=1).time
        assert bucket
        now, then = (list(buckets(*two, bucket.unit, zone)) for two in ((start_ms, end_ms), (before_ms, start_ms)))
        number = dict(zip(now, then, strict=False)) | dict.fromkeys(now[len(then) :])
    known = {row[: len(by)]: row[len(by) :] for row in rows(earlier)}
    time_at = dimensions.index("time") if "time" in dimensions else None
    assert names(compared)[len(by) :] == ["events", "max(n)", "previous:events", "previous:max(n)"]
    for row in rows(compared):
        key = [number[part] if place == time_at else part for place, part in enumerate(row[: len(by)])]
        alone = time_at is not None and key[time_at] is None
        assert row[len(by) + 2 :] == known.get(tuple(key), (None if alone else 0, None))
    assert [column.values for column in compared.totals[2:]] == [column.values for column in earlier.totals]


@pytest.mark.parametrize(
    ("start", "end", "before"),
    [
        ((2024, 3, 1), (2024, 4, 1), (2024, 2, 1)),
        ((2024, 1, 1), (2025, 1, 1), (2023, 1, 1)),
        ((2024, 11, 1), (2025, 2, 1), (2024, 8, 1)),
        ((2024, 3, 25), (2024, 4, 1), (2024, 3, 18)),
        ((2024, 4, 1), (2024, 4, 2), (2024, 3, 31)),
        ((2024, 3, 31), (2024, 4, 1), (2024, 3, 30)),
    ],
)
def test_the_period_before_has_as_many_months_or_days(
    start: tuple[int, int, int], end: tuple[int, int, int], before: tuple[int, int, int]
) -> None:
    """By the calendar of the zone: a month is no number of days, and a day of 23 hours is a day."""
    assert period_before(at(*start), at(*end), BERLIN) == (at(*before), at(*start))


@given(st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)), st.timedeltas(timedelta(1e-3), timedelta(900)))  # noqa: DTZ001
def test_any_other_period_before_is_as_long(start: datetime, length: timedelta) -> None:
    """To the millisecond."""
    start_ms = round(start.replace(tzinfo=UTC).timestamp()) * 1000 + 1
    length_ms = length // timedelta(milliseconds=1)
    assert period_before(start_ms, start_ms + length_ms, BERLIN) == (start_ms - length_ms, start_ms)


def users(*counts: tuple[str, int], month: tuple[int, int], first: int = 1) -> list[Sent]:
    """Events of users in a month."""
    made = [name for name, count in counts for _ in range(count)]
    return [event(first + n, at(*month, 1, ZoneInfo("UTC")) + n, user_id=name) for n, name in enumerate(made)]


NOVEMBER: dict[str, Any] = {"start_ms": at(2025, 11, 1, ZoneInfo("UTC")), "end_ms": at(2025, 12, 1, ZoneInfo("UTC"))}
TOP: dict[str, Any] = {"dimensions": ("user",), "limit": 2, "compare": True, **NOVEMBER}


def test_of_the_period_before_only_the_users_of_this_one_are_asked() -> None:
    """A list of two among many users: the second question is about these two."""
    store = store_of(
        *users(("ann", 3), ("ben", 2), ("cem", 1), month=(2025, 11)),
        *users(("ben", 4), ("cem", 5), ("dee", 6), month=(2025, 10), first=100),
    )
    reader = Stand(store)
    answered = asked(reader, **TOP)
    assert rows(answered) == [("ann", 3, 0), ("ben", 2, 4)]
    assert (answered.more, answered.read.months) == (True, 60)
    ((current,), (previous,)) = reader.calls
    assert current.limit == 2
    assert previous.where == AllOf((EVERYTHING, OneOf(Field(FieldKind.USER), ("ann", "ben"))))


def test_events_that_come_between_the_two_questions_do_not_tear_the_answer() -> None:
    """All is asked again at once, and once more if the new events brought other users; the answer is of one moment."""
    store = store_of(*users(("ann", 3), ("ben", 2), month=(2025, 11)), *users(("dee", 7), month=(2025, 10), first=100))

    def more(first: int, *counts: tuple[str, int]) -> Callable[[], object]:
        return lambda: append(store, *users(*counts, month=(2025, 11), first=first))

    reader = Stand(store, [more(200, ("ben", 3)), lambda: None, lambda: None])
    assert rows(asked(reader, **TOP)) == [("ben", 5, 0), ("ann", 3, 0)]
    assert [len(call) for call in reader.calls] == [1, 1, 2]
    reader = Stand(store, [more(300, ("dee", 9)), lambda: None, lambda: None])
    answered = asked(reader, totals=True, **TOP)
    assert rows(answered) == [("dee", 9, 7), ("ben", 5, 0)]
    assert [(column.name, *column.values) for column in answered.totals] == [("events", 17), ("previous:events", 7)]
    assert [len(call) for call in reader.calls] == [3, 1, 4, 1]
    names_of = iter("efghijklmnop")
    restless = [more(1_000 * n, (next(names_of), 10 * n)) for n in range(1, 8)]
    answered = asked(Stand(store, restless), **TOP)
    assert [row[1] for row in rows(answered)] == [70, 60]


def test_without_rows_nothing_is_asked_about_the_period_before() -> None:
    """Nobody this month."""
    reader = Stand(store_of(*users(("dee", 7), month=(2025, 10))))
    assert rows(asked(reader, **TOP)) == []
    assert len(reader.calls) == 1


def test_without_dimensions_the_only_row_is_the_total() -> None:
    """It is asked once; both periods have one."""
    reader = Stand(store_of(*users(("ann", 3), month=(2025, 11)), *users(("dee", 7), month=(2025, 10), first=100)))
    answered = asked(reader, "events", "users", totals=True, compare=True, **NOVEMBER)
    assert rows(answered) == [(3, 1, 7, 1)]
    assert [column.values[0] for column in answered.totals] == [3, 1, 7, 1]
    assert [len(call) for call in reader.calls] == [2]


def test_people_are_told_what_they_might_not_expect() -> None:
    """Cut rows, unbounded questions, partial buckets, periods of another length, tags."""
    store = store_of(*users(("ann", 1), ("ben", 1), ("cem", 1), month=(2025, 11)))
    assert asked(Stand(store), "users").warnings == ("All 30 months were read: a range with a begin takes less.",)
    cut = asked(store, dimensions=("user",), rows_max=2)
    assert cut.more
    assert "at most 2" in cut.warnings[0]
    assert asked(store, dimensions=("user",), limit=2).warnings == ()
    partial = asked(store, dimensions=("time:week",), start_ms=at(2025, 11, 1), end_ms=at(2025, 12, 2))
    assert [warning[:14] for warning in partial.warnings] == ["The first week", "The last week "]
    march = {"start_ms": at(2025, 3, 1, ZoneInfo("UTC")), "end_ms": at(2025, 4, 1, ZoneInfo("UTC"))}
    compared = asked(store, dimensions=("time:day",), compare=True, empty_buckets=True, **march)
    assert compared.warnings == ("The period before has fewer buckets: the last 3 are compared with nothing.",)
    assert [row[2] for row in rows(compared)] == [0] * 28 + [None] * 3
    assert "several tags" in asked(store, dimensions=("tag",), totals=True).warnings[0]


def test_empty_buckets_of_too_many_groups_are_refused() -> None:
    """Never cut silently: three users in every hour of a month."""
    store = store_of(*users(("ann", 1), ("ben", 1), ("cem", 1), month=(2025, 11)))
    with pytest.raises(Exhausted, match="more than the 1,000 rows") as caught:
        asked(store, dimensions=("time:hour", "user"), empty_buckets=True, rows_max=1_000, **NOVEMBER)
    assert caught.value.reason == "ANSWER_TOO_LARGE"
    assert asked(store, dimensions=("time:hour",), empty_buckets=True, limit=24, rows_max=1_000, **NOVEMBER).more
