"""What is left of a filter for one type, which grains tell times apart, and where local days begin once and for all."""

from __future__ import annotations

import random

import pytest

from retention.month import Month
from server.question import EVERYTHING, AllOf, AnyOf, BucketUnit, Not, OneOf, Predicate, Present, StartsWith
from server.storage.frozen_grain import begins, one_bucket_a_grain, spans
from server.storage.memory.aggregation import holds
from server.storage.memory.store import MemoryStore
from server.storage.narrowed import restricted
from server.time_buckets import QUARTER_MS, bucket_of, zone_of
from tests.differential.population import CLOCK_CHANGES, make_events, vocabulary
from tests.support.answers import SOURCE, TYPE, USER, instant
from tests.support.events import append, read
from tests.support.questions import random_question

ANN, WEB = OneOf(USER, ("ann",)), OneOf(SOURCE, ("web",))


@pytest.mark.parametrize(
    ("where", "left"),
    [
        (EVERYTHING, True),
        (OneOf(TYPE, ("a", "b")), True),
        (OneOf(TYPE, ("b",)), False),
        (StartsWith(TYPE, ("x", "a")), True),
        (Present(TYPE), True),
        (Not(OneOf(TYPE, ("a",))), False),
        (AnyOf((OneOf(TYPE, ("a",)), ANN)), True),
        (AnyOf((OneOf(TYPE, ("b",)), ANN)), AnyOf((ANN,))),
        (AllOf((OneOf(TYPE, ("b",)), ANN)), False),
        (AllOf((OneOf(TYPE, ("a",)), Not(AnyOf((ANN, WEB))))), AllOf((Not(AnyOf((ANN, WEB))),))),
        (AnyOf(()), False),
    ],
)
def test_a_filter_is_narrowed_to_a_type(where: Predicate, left: Predicate | bool) -> None:
    """What other fields say does not matter where the type decides."""
    assert restricted(where, "a") == left


def test_what_is_left_holds_where_the_filter_does() -> None:
    """Of random filters and events: the narrowed filter is true of the same events of the type."""
    chance = random.Random(3)
    made = make_events(chance, 80)
    store = MemoryStore()
    append(store, *(one.sent for one in made))
    words = vocabulary(made)
    for _ in range(200):
        where = random_question(chance, words).where
        for event in read(store):
            left = restricted(where, event.type)
            assert (left if isinstance(left, bool) else holds(left, event)) == holds(where, event)


@pytest.mark.parametrize("zone", CLOCK_CHANGES)
@pytest.mark.parametrize("unit", [BucketUnit.HOUR, BucketUnit.DAY])
def test_a_grain_tells_times_apart_or_does_not(zone: str, unit: BucketUnit) -> None:
    """As trying every minute of the month says, also where clocks change at odd times or go back over midnight."""
    month = Month.parse(CLOCK_CHANGES[zone][-1][:7])
    minutes = range(month.start_ms, month.end_ms, 60_000)
    buckets = [bucket_of(at, unit, zone_of(zone)) for at in minutes]
    for grain_ms in (60_000, QUARTER_MS, 3_600_000, 86_400_000):
        size = grain_ms // 60_000
        whole = all(len(set(buckets[low : low + size])) == 1 for low in range(0, len(buckets), size))
        assert one_bucket_a_grain(month, zone, unit, grain_ms) == whole, grain_ms


def test_a_day_that_is_left_again_has_not_begun() -> None:
    """St John's, until 2011: one minute past midnight it was 23:01 of the day before, for an hour."""
    assert not begins(instant("2010-11-07T02:30Z"), BucketUnit.DAY, "America/St_Johns")
    assert begins(instant("2010-11-08T03:30Z"), BucketUnit.DAY, "America/St_Johns")
    assert begins(instant("2025-10-26T22:00Z") + 3_600_000, BucketUnit.DAY, "Europe/Berlin")
    assert not begins(instant("2025-10-26T22:00Z"), BucketUnit.DAY, "Europe/Berlin")
    assert begins(instant("2025-10-27T00:00Z"), BucketUnit.WEEK, "UTC")


def test_months_that_follow_each_other_are_a_span() -> None:
    """Over the end of a year, too."""
    months = [Month(2024, 11), Month(2024, 12), Month(2025, 1), Month(2025, 3)]
    assert spans(months) == "2024-11 to 2025-01, 2025-03"
