"""Times as people write and read them, by the clocks of a time zone; UTC where none is named."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

import typer

FORMS = "2025, 2025-11, 2025-11-24, 2025-11-24T18:30, today, yesterday, now, or -7d (also min, h, w, mo, y)"
"""What can be written."""

_BEGIN = {4: "-01-01", 7: "-01"}
"""What a year and a month lack to be a date, by their length."""
_AGO = re.compile(r"^-?(\d{1,6})(min|h|d|w|mo|y)$")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_moment(text: str, zone: tzinfo = UTC, now: datetime | None = None) -> int:
    """Milliseconds since the epoch of a year, a month, a date, an ISO 8601 date and time, or a time told from now.

    What names no zone is of `zone`. "-7d" is the begin of the day seven days before today, "-3mo" that of the month
    three months before this one, and so on: whole ones, so that the first bucket of a series is not cut off.
    """
    try:
        moment = _told_from(now or datetime.now(UTC), text, zone)
        if moment is None:
            moment = datetime.fromisoformat(text + _BEGIN.get(len(text), ""))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone)
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is no time; write {FORMS}") from None


def _told_from(now: datetime, text: str, zone: tzinfo) -> datetime | None:
    """The moment if it is told from now; without a zone if it is a local date."""
    if text == "now":
        return now
    text = {"today": "0d", "yesterday": "1d"}.get(text, text)
    told = _AGO.match(text)
    if told is None:
        return None
    count, unit = int(told[1]), told[2]
    local = now.astimezone(zone)
    if unit in ("min", "h"):
        begin = local.replace(minute=0 if unit == "h" else local.minute, second=0, microsecond=0)
        # In UTC, because local clocks may have changed meanwhile.
        return begin.astimezone(UTC) - timedelta(minutes=count) * (60 if unit == "h" else 1)
    today = datetime(local.year, local.month, local.day)  # noqa: DTZ001  # the zone is put to the result
    if unit in ("d", "w"):
        back = count if unit == "d" else 7 * count + today.weekday()
        return today - timedelta(days=back)
    months = 12 * local.year + local.month - 1 - count if unit == "mo" else 12 * (local.year - count)
    return datetime(months // 12, months % 12 + 1, 1)  # noqa: DTZ001


def show_moment(timestamp_ms: int, zone: tzinfo = UTC) -> str:
    """`2025-11-24 18:30:05` by the clocks of a zone; the number itself where the calendar ends."""
    try:
        return f"{moment_of(timestamp_ms, zone):%Y-%m-%d %H:%M:%S}"
    except OverflowError:
        return str(timestamp_ms)


def moment_of(timestamp_ms: int, zone: tzinfo = UTC) -> datetime:
    """An instant by the clocks of a zone; OverflowError where the calendar ends."""
    return (_EPOCH + timedelta(milliseconds=timestamp_ms)).astimezone(zone)
