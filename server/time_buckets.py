"""Time buckets by the wall clock of any time zone (server.question.BucketUnit says which instant names a bucket)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from server.errors import Invalid
from server.question import BucketUnit

QUARTER_MS = 900_000
HOUR_MS = 4 * QUARTER_MS
DAY_MS = 24 * HOUR_MS
_EPOCH_DAY = dt.date(1970, 1, 1).toordinal()


@lru_cache(maxsize=64)
def zone_of(name: str) -> ZoneInfo:
    """The zone of an IANA name; Invalid(TIME_ZONE_UNKNOWN) if there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid(
            "TIME_ZONE_UNKNOWN",
            f"{name!r} is not a time zone",
            hint="give an IANA name such as Europe/Berlin or UTC",
            field="time_zone",
        ) from error


def offset_ms(instant_ms: int, zone: ZoneInfo) -> int:
    """How far the wall clock of the zone is ahead of UTC at an instant."""
    moment = dt.datetime.fromtimestamp(instant_ms // 1000, dt.UTC).astimezone(zone)
    offset = moment.utcoffset() or dt.timedelta()
    return round(offset.total_seconds() * 1000)


def bucket_of(instant_ms: int, unit: BucketUnit, zone: ZoneInfo) -> int:
    """The bucket that an instant lies in."""
    offset = offset_ms(instant_ms, zone)
    local = instant_ms + offset
    if unit is BucketUnit.QUARTER_HOUR:
        return local // QUARTER_MS * QUARTER_MS - offset
    if unit is BucketUnit.HOUR:
        return local // HOUR_MS * HOUR_MS - offset
    return date_start(first_date(local // DAY_MS, unit), zone)


def first_date(day: int, unit: BucketUnit) -> int:
    """The first day of the day, week or month that a day lies in. Days are counted from 1970-01-01."""
    if unit is BucketUnit.WEEK:
        return day - (day + 3) % 7  # 1970-01-01 was a Thursday
    if unit is BucketUnit.MONTH:
        return day - dt.date.fromordinal(day + _EPOCH_DAY).day + 1
    return day


@lru_cache(maxsize=65_536)
def date_start(day: int, zone: ZoneInfo) -> int:
    """The instant at which a local date begins. Where midnight is skipped, the first instant after it."""
    date = dt.date.fromordinal(day + _EPOCH_DAY)
    return round(dt.datetime(date.year, date.month, date.day, tzinfo=zone).timestamp()) * 1000


def buckets(start_ms: int, end_ms: int, unit: BucketUnit, zone: ZoneInfo) -> Iterator[int]:
    """Every bucket that has an instant in [start, end), rising."""
    if unit in (BucketUnit.QUARTER_HOUR, BucketUnit.HOUR):
        yield from _clock_buckets(start_ms, end_ms, unit, zone)
        return
    day = first_date((start_ms + offset_ms(start_ms, zone)) // DAY_MS, unit)
    seen = None
    while (start := date_start(day, zone)) < end_ms:
        if start != seen:  # A date that a zone left out begins when the next one does.
            yield start
        seen = start
        day = first_date(day + {BucketUnit.DAY: 1, BucketUnit.WEEK: 7, BucketUnit.MONTH: 31}[unit], unit)


def _clock_buckets(start_ms: int, end_ms: int, unit: BucketUnit, zone: ZoneInfo) -> Iterator[int]:
    """Day by day: the zone is asked for each quarter-hour only where clocks change (measured, a year: 50 and 5 ms)."""
    step = QUARTER_MS if unit is BucketUnit.QUARTER_HOUR else HOUR_MS
    seen = None
    for day in range(start_ms, end_ms, DAY_MS):
        until = min(day + DAY_MS, end_ms)
        found: Iterable[int]
        if offset_ms(day, zone) == offset_ms(until - 1, zone):
            found = range(bucket_of(day, unit, zone), until, step)
        else:  # Changes at one minute past (St John's until 2011) begin no bucket that no quarter-hour lies in.
            quarters = range(day // QUARTER_MS * QUARTER_MS + QUARTER_MS, until, QUARTER_MS)
            found = (bucket_of(instant, unit, zone) for instant in (day, *quarters))
        for bucket in found:
            if bucket != seen:
                yield bucket
            seen = bucket
