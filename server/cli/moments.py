"""Times as people write and read them, in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import typer

_MONTH = re.compile(r"^\d{4}-\d{2}$")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_moment(text: str) -> int:
    """Milliseconds since the epoch of YYYY-MM, YYYY-MM-DD or an ISO 8601 date and time; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(f"{text}-01" if _MONTH.match(text) else text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; write 2025-11, 2025-11-24 or 2025-11-24T18:30 (UTC unless it names a zone)"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def show_moment(timestamp_ms: int) -> str:
    """`2025-11-24 18:30:05`, UTC; the number itself where the calendar ends."""
    try:
        return f"{_EPOCH + timedelta(milliseconds=timestamp_ms):%Y-%m-%d %H:%M:%S}"
    except OverflowError:
        return str(timestamp_ms)
