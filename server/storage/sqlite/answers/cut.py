"""The cut: one moment over many files.

First every index is pinned, then the tail's view is taken, whose head is the cut. Were it the other way round, events
that are folded in between would be in neither. A fold may also finish between the two and take its rows out of the
tail; the view tells which watermarks it relies on, and an index that was pinned too early is pinned again. Events above
the head that a later pin brings along are cut off by position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import apsw
import numpy as np

from server.errors import Corrupt
from server.model import MonthInfo
from server.storage.sqlite.answers.files import Files
from server.storage.sqlite.index.derived import Derived
from server.storage.sqlite.index.file import IndexFile, RunInfo
from server.storage.sqlite.index.rows import Positions
from server.storage.sqlite.index.tail import TailView
from server.storage.sqlite.removals import removals_since

NO_POSITIONS: Positions = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class MonthCut:
    """One month at the cut: `runs`, then the truth's rows in (watermark, gap_end], then the tail above both."""

    info: MonthInfo
    index: IndexFile | None
    watermark: int
    runs: Sequence[RunInfo]
    gap_end: int
    """Up to here the truth is read for rows that no index covers; at most the watermark if there are none."""
    removed: Positions
    """Erased events that the index or the tail may still have."""

    @property
    def tail_from(self) -> int:
        """The tail's rows of this month count above this position."""
        return max(self.watermark, self.gap_end)


@dataclass(frozen=True, slots=True)
class Cut:
    """All months of a question at one moment."""

    months: Sequence[MonthCut]
    tail: TailView

    @property
    def head(self) -> int:
        """The position that it is cut at."""
        return self.tail.head


def take_cut(files: Files, derived: Derived, months: Sequence[MonthInfo]) -> Cut:
    """Pins the indexes of these months and takes the view that belongs to them."""
    indexes: dict[MonthInfo, IndexFile | None] = {}
    states: dict[MonthInfo, tuple[int, int]] = {}
    runs: dict[MonthInfo, Sequence[RunInfo]] = {}
    removed: dict[MonthInfo, Positions] = {}
    to_pin = list(months)
    view = derived.tail.view
    while to_pin:
        for info in to_pin:
            indexes[info], states[info], runs[info] = _pinned(files, info)
        view = derived.tail.view
        to_pin = [info for info in months if indexes[info] and states[info][0] < view.required.get(info.month, 0)]
        if not to_pin:
            # After the view, so that nothing that is erased in between can be in the tail and unknown here.
            for info in derived.erased_of(months):
                known = states[info][1] if indexes[info] else None
                found = removals_since(files.truth(info, pin=True), known)
                if found is None:
                    to_pin.append(info)
                else:
                    removed[info] = found[1]
    return Cut(
        [
            MonthCut(
                info,
                indexes[info],
                states[info][0],
                runs[info],
                view.floor if info.month in view.gaps or indexes[info] is None else 0,
                removed.get(info, NO_POSITIONS),
            )
            for info in months
        ],
        view,
    )


def _pinned(files: Files, info: MonthInfo) -> tuple[IndexFile | None, tuple[int, int], Sequence[RunInfo]]:
    """The index of a month as it is now, with its watermark, the removals it has applied, and its runs."""
    file = files.index(info)
    if file is not None:
        try:
            watermark, removals, runs = file.snapshot()
        except (apsw.Error, Corrupt, ValueError, TypeError) as problem:
            files.give_up(info, file.path, problem)
        else:
            return file, (watermark, removals), runs
    return None, (0, 0), ()
