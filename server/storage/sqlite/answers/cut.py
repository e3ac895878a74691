"""The cut: one moment over many files.

First it is noted which runs every index has, then the tail's view is taken, whose head is the cut. The other way round,
events that are folded in between would be in neither. A fold may also finish between the two and take its rows out of
the tail; the view tells which watermarks it relies on, and an index that was noted too early is noted again. Events
above the head that a later note brings along are cut off by position.

Runs never change, so nothing needs to be pinned to read them: should one be replaced meanwhile, it is missing, and the
question is asked again; after some attempts with every index pinned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from server.model import MonthInfo
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite.answers.files import Files
from server.storage.sqlite.index.derived import Derived
from server.storage.sqlite.index.reading import IndexReader, RunInfo, Version
from server.storage.sqlite.index.rows import Positions
from server.storage.sqlite.index.tail import TailView
from server.storage.sqlite.removals import removals_since

NO_POSITIONS: Positions = np.empty(0, np.int64)
NO_VERSION = Version(Path(), 0, 0, ())


@dataclass(frozen=True, slots=True)
class MonthCut:
    """One month at the cut: `runs`, then the truth's rows in (watermark, gap_end], then the tail above both."""

    info: MonthInfo
    index: IndexReader | None
    version: Version
    gap_end: int
    """Up to here the truth is read for rows that no index covers; at most the watermark if there are none."""
    removed: Positions
    """Erased events that the index or the tail may still have."""

    @property
    def watermark(self) -> int:
        """The index has every event up to here, but for gaps."""
        return self.version.watermark

    @property
    def runs(self) -> Sequence[RunInfo]:
        """What the index is read from."""
        return self.version.runs

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


def take_cut(files: Files, derived: Derived, months: Sequence[MonthInfo], *, pin: bool = False) -> Cut:
    """Notes what the indexes of these months have and takes the view that belongs to it."""
    indexes: dict[MonthInfo, tuple[IndexReader, Version] | None] = {}
    removed: dict[MonthInfo, Positions] = {}
    to_note = list(months)
    view = derived.tail.view
    while to_note:
        for info in to_note:
            indexes[info] = files.index(info, pin=pin)
        view = derived.tail.view
        to_note = [
            info
            for info in months
            if (found := indexes[info]) is not None and found[1].watermark < view.required.get(info.month, 0)
        ]
        if not to_note:
            # After the view, so that nothing that is erased in between can be in the tail and unknown here.
            for info in derived.erased_of(months):
                index = indexes[info]
                truth = files.truth(info, pin=True)
                with sqlite.translated():
                    erased = removals_since(truth, None if index is None else index[1].removals)
                if erased is None:
                    to_note.append(info)
                else:
                    removed[info] = erased[1]
    return Cut([_month(info, indexes[info], view, removed.get(info, NO_POSITIONS)) for info in months], view)


def _month(info: MonthInfo, found: tuple[IndexReader, Version] | None, view: TailView, removed: Positions) -> MonthCut:
    index, version = found or (None, NO_VERSION)
    return MonthCut(info, index, version, view.floor if info.month in view.gaps or index is None else 0, removed)
