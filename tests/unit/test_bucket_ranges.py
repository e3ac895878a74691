"""All buckets of a range, compared with asking for the bucket of every quarter-hour in it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.question import BucketUnit
from server.time_buckets import QUARTER_MS, bucket_of, buckets, zone_of

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
)
FIRST_MS = int(datetime(2005, 1, 1, tzinfo=UTC).timestamp()) * 1000
SAMOA_MS = int(datetime(2011, 12, 28, tzinfo=UTC).timestamp()) * 1000
"""Two days later Samoa had none: it crossed the date line."""
LAST_MS = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1000


@pytest.mark.parametrize("zone_name", ZONES)
@example(start_ms=SAMOA_MS, length_ms=5 * 86_400_000, unit=BucketUnit.DAY)
@example(start_ms=SAMOA_MS, length_ms=5 * 86_400_000, unit=BucketUnit.HOUR)
@given(
    start_ms=st.integers(FIRST_MS, LAST_MS),
    length_ms=st.integers(1, 70 * 86_400_000),
    unit=st.sampled_from(BucketUnit),
)
def test_the_buckets_of_a_range_are_those_of_its_instants(
    zone_name: str, start_ms: int, length_ms: int, unit: BucketUnit
) -> None:
    """Each once and rising, also where clocks change, days are left out and the range begins inside of a bucket."""
    zone = zone_of(zone_name)
    end_ms = start_ms + length_ms
    quarters = range(start_ms // QUARTER_MS * QUARTER_MS + QUARTER_MS, end_ms, QUARTER_MS)
    expected = dict.fromkeys(bucket_of(instant, unit, zone) for instant in (start_ms, *quarters, end_ms - 1))
    found = list(buckets(start_ms, end_ms, unit, zone))
    assert found == list(expected) == sorted(expected)
