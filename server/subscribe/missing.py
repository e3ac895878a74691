"""Months whose events cannot be delivered: damaged ones, and those that go while somebody follows."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from retention.month import Month
from server.model import EventFilter, MonthState
from server.storage.contract import Store
from server.subscribe.frames import GapReason


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a month is missing, and the position that none of its missing events lies behind; None if more may come."""

    reason: GapReason
    last: int | None


class Missing:
    """What is known to be missing, for all subscribers; kept until the daemon starts anew."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._guard = threading.Lock()
        head = store.head
        self._known = store.last_positions()
        self.months: Mapping[Month, Loss] = {
            info.month: Loss(GapReason.DAMAGED, head) for info in store.months() if info.state is MonthState.DAMAGED
        }
        """Replaced by a new mapping when one is added, so that any thread may read it."""

    def survey(self) -> Mapping[Month, int]:
        """The store's last positions. Months that were there at the last survey and are not any more are missing."""
        with self._guard:
            positions = self._store.last_positions()
            before, self._known = self._known, positions
            gone = before.keys() - positions.keys()
            if gone:
                damaged = {info.month for info in self._store.months() if info.state is MonthState.DAMAGED}
                losses = {
                    month: Loss(GapReason.DAMAGED if month in damaged else GapReason.DROPPED, before[month])
                    for month in gone
                }
                self.months = {**losses, **self.months}
        return positions

    def note_damage(self, month: Month) -> None:
        """A reader could not read this month, though the store took it for sound."""
        with self._guard:
            self.months = {**self.months, month: Loss(GapReason.DAMAGED, None)}

    def behind(self, position: int, where: EventFilter) -> Iterator[tuple[Month, GapReason]]:
        """The missing months that may hold events of this filter behind a position."""
        for month, loss in self.months.items():
            if (loss.last is None or loss.last > position) and where.touches(month):
                yield month, loss.reason
