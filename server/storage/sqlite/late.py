"""Events for months that take none any more: those that are stored already are told so, all others are refused."""

from __future__ import annotations

from collections import OrderedDict

import apsw

from retention.month import Month
from server.model import Item, MonthInfo, MonthState, Outcome
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite.layout import Layout
from server.storage.sqlite.month_file import Slice, judge_stored

OPEN_MAX = 8
CACHE_BYTES = 1024 * 1024
IDS_MAX = 500


class Late:
    """Looks late events up. Belongs to the writer."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._open: OrderedDict[MonthInfo, apsw.Connection] = OrderedDict()

    def judge(self, info: MonthInfo, part: Slice) -> list[Item]:
        """What becomes of each event of a slice."""
        connection = self._connection(info)
        with sqlite.translated(self._layout.events(info.month, info.generation)):
            stored = judge_stored(connection, info.month, part, part.row_numbers())
        known = {item.index for item in stored}
        return stored + [_refused(row, info.month) for row in part.row_numbers() if row not in known]

    def _connection(self, info: MonthInfo) -> apsw.Connection:
        connection = self._open.pop(info, None)
        if connection is None:
            while len(self._open) >= OPEN_MAX:
                self._open.popitem(last=False)[1].close()
            path = self._layout.events(info.month, info.generation)
            connection = sqlite.open_reader(path, cache_bytes=CACHE_BYTES, immutable=info.state is MonthState.SEALED)
        self._open[info] = connection
        return connection

    def forget(self, info: MonthInfo) -> None:
        """The generation is replaced."""
        connection = self._open.pop(info, None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Closes all."""
        while self._open:
            self._open.popitem()[1].close()


def _refused(row: int, month: Month) -> Item:
    return Item(
        row,
        Outcome.REJECTED,
        "MONTH_SEALED",
        f"{month} is sealed and takes no more events; ask the operator to reopen it if this one matters",
        "timestamp_ms",
    )


def refused_of_dropped(row: int, month: Month) -> Item:
    """The event is too old: what there was of its month is gone, and with it the ids that were stored."""
    return Item(
        row,
        Outcome.REJECTED,
        "MONTH_DROPPED",
        f"the events of {month} were dropped as the retention policy says; events of it are too old to be stored",
        "timestamp_ms",
    )
