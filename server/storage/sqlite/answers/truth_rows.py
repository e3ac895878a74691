"""Rows that no index covers yet, read from the events: normally none."""

from __future__ import annotations

from collections.abc import Iterator

from server.storage.sqlite.answers.cut import MonthCut
from server.storage.sqlite.answers.files import Files
from server.storage.sqlite.index.rows import Rows
from server.storage.sqlite.index.truth import Tagged, rows_of, tagged_of
from server.storage.sqlite.schema import events_table

WINDOW_ROWS = 100_000


def gap_rows(files: Files, month: MonthCut) -> Iterator[tuple[Rows, Tagged]]:
    """The month's events in (watermark, gap_end], in the order of their positions, with their tags."""
    after = month.watermark
    while after < month.gap_end:
        found = list(
            files.rows(
                month.info,
                "SELECT position, timestamp_ms, type, user, source, tags "
                f"FROM {events_table(month.info.month)} "
                "WHERE position > ? AND position <= ? ORDER BY position LIMIT ?",
                (after, month.gap_end, WINDOW_ROWS),
            )
        )
        if found:
            yield rows_of(found), tagged_of(found)
        if len(found) < WINDOW_ROWS:
            return
        after = found[-1][0]
