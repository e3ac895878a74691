"""The period before a period, and which rows of the two belong together."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo

from server.errors import Invalid
from server.question import Table
from server.time_buckets import DAY_MS, date_start, offset_ms

_EPOCH = dt.date(1970, 1, 1)
CALENDAR_START_MS = (dt.date(1, 1, 3) - _EPOCH).days * DAY_MS
CALENDAR_END_MS = (dt.date(9999, 12, 29) - _EPOCH).days * DAY_MS
"""Between the two, every zone has dates; two days from the ends of the calendar, because zones differ by about one."""


def judge_calendar(instant_ms: int, path: str) -> None:
    """Invalid(RANGE_INVALID) if there is no date for an end of a range."""
    if not CALENDAR_START_MS <= instant_ms <= CALENDAR_END_MS:
        raise Invalid(
            "RANGE_INVALID",
            f"{instant_ms} is outside of the calendar",
            hint="give milliseconds since the epoch, within the years 1 to 9999",
            field=path,
        )


def period_before(start_ms: int, end_ms: int, zone: ZoneInfo) -> tuple[int, int]:
    """As many months before, if the range is whole months of the zone; else days, if whole days; else milliseconds.

    Invalid(RANGE_INVALID) if the calendar does not go back so far.
    """
    first, behind = _date_at(start_ms, zone), _date_at(end_ms, zone)
    if first is None or behind is None:
        start = 2 * start_ms - end_ms
    elif first.day == behind.day == 1:
        start = _month_start(2 * _months(first) - _months(behind), zone)
    else:
        day = 2 * (first - _EPOCH).days - (behind - _EPOCH).days
        start = date_start(day, zone) if day * DAY_MS >= CALENDAR_START_MS else CALENDAR_START_MS - 1
    if start < CALENDAR_START_MS:
        raise Invalid("RANGE_INVALID", "the period before this one is outside of the calendar", field="start_ms")
    return start, start_ms


def _date_at(instant_ms: int, zone: ZoneInfo) -> dt.date | None:
    """The local date that begins at an instant, if one does."""
    day = (instant_ms + offset_ms(instant_ms, zone)) // DAY_MS
    return _EPOCH + dt.timedelta(days=day) if date_start(day, zone) == instant_ms else None


def _months(date: dt.date) -> int:
    return 12 * date.year + date.month - 1


def _month_start(months: int, zone: ZoneInfo) -> int:
    year, month = divmod(months, 12)
    if year <= 1:
        return CALENDAR_START_MS - 1
    return date_start((dt.date(year, month + 1, 1) - _EPOCH).days, zone)


def same_rows(
    keys: Sequence[Sequence[int | str | None]],
    rows: int,
    previous: Table,
    *,
    time_at: int | None,
    partners: Mapping[int, int],
) -> list[int | None]:
    """For each row of a table with these key columns, the row of the table of the period before that it belongs to.

    `time_at` is the place of the time dimension among the keys, and `partners` has for each bucket of the period before
    the one of this period with the same number.
    """
    if not keys:
        return [0] * rows
    earlier = list(previous.keys)
    if time_at is not None:
        earlier[time_at] = list(map(partners.get, earlier[time_at]))  # type: ignore[arg-type]  # time keys are ints
    places = {key: place for place, key in enumerate(zip(*earlier, strict=True))}
    return list(map(places.get, zip(*keys, strict=True)))
