"""Months whose events cannot be delivered: damaged ones, those that go while somebody follows, and dropped rows."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from retention.month import Month
from server.model import EventFilter, MonthState
from server.rewriting import Losses
from server.storage.contract import Store
from server.storage.frozen_grain import lost_types
from server.subscribe.frames import GapReason


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a month is missing, and the position that none of its missing events lies behind; None if more may come."""

    reason: GapReason
    last: int | None


@dataclass(frozen=True, slots=True)
class Thinned:
    """The types whose rows retention dropped, and a position that none of them lay behind. Other rows may be left."""

    types: frozenset[str]
    last: int


class Missing:
    """What is known to be missing, for all subscribers; kept until the daemon starts anew."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._guard = threading.Lock()
        head = store.head
        self._known = store.last_positions()
        self._losses: Mapping[Month, Losses] = {}
        self._thinned: Mapping[Month, Thinned] = {}
        self._note_losses()
        self.months: Mapping[Month, Loss] = {
            info.month: Loss(_REASONS[info.state], head)
            for info in store.months()
            if info.state in _REASONS and info.month not in self._thinned
        }
        """Of which nothing can be read. Replaced by a new mapping when one is added, so that any thread may read it."""

    @property
    def damaged(self) -> bool:
        """Whether a month is missing that may come back."""
        return any(loss.reason is GapReason.DAMAGED for loss in self.months.values())

    def survey(self) -> Mapping[Month, int]:
        """The store's last positions. Months that were there at the last survey and are not any more are missing."""
        with self._guard:
            positions = self._store.last_positions()
            # After the positions: the rows of a month that is not among them any more are known to be dropped by now.
            self._note_losses()
            before, self._known = self._known, positions
            gone = before.keys() - positions.keys()
            if gone:
                damaged = {info.month for info in self._store.months() if info.state is MonthState.DAMAGED}
                losses = {
                    month: Loss(GapReason.DAMAGED if month in damaged else GapReason.DROPPED, before[month])
                    for month in gone
                    if month in damaged or month not in self._thinned
                }
                self.months = {**losses, **self.months}
        return positions

    def survey_again(self) -> None:
        """After reading: what was dropped meanwhile may be missing in what was read."""
        if self._store.records.losses is not self._losses:
            self.survey()

    def _note_losses(self) -> None:
        losses = self._store.records.losses
        if losses is not self._losses:
            frozen, head = self._store.records.frozen, self._store.head
            self._thinned = {
                month: Thinned(frozenset(types), frozen[month].last_position if month in frozen else head)
                for month, lost in losses.items()
                if (types := lost_types(lost))
            }
            self._losses = losses

    def note_damage(self, month: Month) -> None:
        """A reader could not read this month, though the store took it for sound."""
        with self._guard:
            self.months = {**self.months, month: Loss(GapReason.DAMAGED, None)}

    def behind(self, position: int, where: EventFilter) -> Iterator[tuple[Month, GapReason]]:
        """The missing months that may have held events of this filter behind a position."""
        for month, loss in self.months.items():
            if (loss.last is None or loss.last > position) and where.touches(month):
                yield month, loss.reason
        for month, thinned in self._thinned.items():
            wanted = not where.types or not thinned.types.isdisjoint(where.types)
            if wanted and thinned.last > position and where.touches(month) and month not in self.months:
                yield month, GapReason.DROPPED


_REASONS = {MonthState.DAMAGED: GapReason.DAMAGED, MonthState.DROPPED: GapReason.DROPPED}
