"""Folding: a thread that moves the tail into the indexes, fills their gaps, applies removals and merges runs.

Everything it does is one transaction in one index with the new watermark. It holds the interpreter lock for little of
the time: sorting, gathering and SQLite give it up. If an index cannot be written, its month gets a gap that questions
read from the truth, and a new index; events are never held back for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import structlog

from retention.month import Month
from server.errors import TrackdError
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite.index.building import Built, Merged, Reduced, Zones
from server.storage.sqlite.index.file import IndexFile
from server.storage.sqlite.index.indexes import Indexes, OpenIndexes
from server.storage.sqlite.index.labelling import Dimensions, labels_of
from server.storage.sqlite.index.reading import RunInfo
from server.storage.sqlite.index.rows import Rows, TagStretch, distinct, joined
from server.storage.sqlite.index.tail import BLOCK_ROWS, Tail, month_of
from server.storage.sqlite.index.truth import Truth
from server.write_out import WriteOut

log = structlog.get_logger(__name__)

PARTIAL_AFTER_S = 1.0
"""A block that does not fill up is folded after this."""
TICK_S = 0.2
MERGE_RUNS = 8
"""So many runs of about the same size become one; two are enough while nothing comes in."""
MERGE_RATIO = 2
"""A run joins a merge if it is at most so many times as large as those behind it together: each row is rewritten only
as often as its run doubles."""
MERGE_ROWS_MAX = 2_000_000
"""Larger runs are left alone until their month is sealed: a merge is one transaction, and folding waits for it."""
FULL_MERGE_S = 30.0
"""So often at most, and only while nothing comes in, all runs of a month become one, whatever their sizes: late events
leave small runs behind that share nearly every cell of the rollups with the large one."""
BLOCKS_AT_ONCE = 2
"""Full ones become one run: who is behind makes fewer of them, which are fewer to merge."""
SYNC_AFTER_S = 60.0
"""An index that is left alone for so long is put on disk. By then the kernel has written nearly all of it by itself."""
WRITE_OUT_S = 5.0
"""In so many seconds each file that is not synced is handed to the disk once. More often, and a page that is written
again soon would be written in vain; less often, and there is more in one go."""
RETRY_S = 5.0


class Folder:
    """The one thread that writes indexes."""

    def __init__(
        self,
        tail: Tail,
        indexes: Indexes,
        truth: Truth,
        zones: Zones,
        dimensions: Callable[[], Dimensions],
        *,
        open_max: int,
    ) -> None:
        self._tail = tail
        self._indexes = indexes
        self._open = OpenIndexes(indexes, truth, open_max)
        self._truth = truth
        self._zones = zones
        self._dimensions = dimensions
        self._stopping = False
        self._busy = False
        self._partial_since: float | None = None
        self._unmerged: set[Month] = set()
        self._few_runs: set[Month] = set()
        """Too few to be merged while events come in."""
        self._to_remove: set[Month] = set()
        self._retry_at: dict[Month, float] = {}
        self._full_merge_at: dict[Month, float] = {}
        self._postponed: set[Month] = set()
        """Their next full merge is not due."""
        self.removal_lock = threading.Lock()
        """Held while a removal is committed and taken out of the tail, so that no fold sees one without the other."""
        self.removed: dict[Month, int] = {}
        """The generation of removals that the index of a month has applied: the writer purges the records up to it."""
        self._thread = threading.Thread(target=self._run, name="trackd-folder", daemon=True)
        self._write_out = WriteOut(self._open.unsynced_files, WRITE_OUT_S)

    def start(self) -> None:
        """Begins to work."""
        self._thread.start()
        self._write_out.start()

    def close(self) -> None:
        """Ends the thread after the step that it is in; what is not folded is found by the next start."""
        self._stopping = True
        self._tail.work.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._write_out.close()
        self._open.close()
        self._truth.close()

    def apply_removals(self, month: Month) -> None:
        """From any thread: takes a month's removals over into its index soon."""
        self._to_remove.add(month)
        self._tail.work.set()

    @property
    def merging(self) -> int:
        """Months whose runs are about to be merged."""
        return len(self._unmerged | self._few_runs)

    @property
    def idle(self) -> bool:
        """Whether everything is folded, merged and removed."""
        return not self._busy and not (
            len(self._tail) or self._tail.view.gaps or self._to_remove or self._unmerged or self._few_runs
        )

    def _run(self) -> None:
        while not self._stopping:
            self._tail.work.wait(TICK_S)
            self._tail.work.clear()
            self._busy = True
            while not self._stopping and self.step():
                pass
            self._busy = False

    def step(self) -> bool:
        """Does one piece of work, the most urgent first; False if there is none."""
        if self._fold_is_due():
            self._fold()
            return True
        for month in self._due(self._to_remove):
            with self._attempt(month):
                self._remove(month)
            return True
        for month in self._due(self._tail.view.gaps):
            with self._attempt(month):
                self._fill(month)
            return True
        if not len(self._tail):
            self._unmerged |= self._few_runs
            self._few_runs.clear()
            due = {month for month in self._postponed if self._full_merge_at[month] <= time.monotonic()}
            self._postponed -= due
            self._unmerged |= due
        for month in self._due(self._unmerged):
            with self._attempt(month):
                self._merge(month)
            return True
        for month in self._open.unsynced(SYNC_AFTER_S)[:1]:
            with self._attempt(month):
                self._open.sync(month)
            return True
        return False

    def _due(self, months: set[Month] | frozenset[Month]) -> list[Month]:
        """The newest of them that is not waiting after a failure."""
        now = time.monotonic()
        return sorted((month for month in months.copy() if self._retry_at.get(month, 0.0) <= now), reverse=True)[:1]

    @contextmanager
    def _attempt(self, month: Month) -> Iterator[None]:
        """Whatever goes wrong with an index costs its month the index, for a while, and nothing else."""
        try:
            yield
        except Exception as problem:
            if not isinstance(problem, TrackdError):
                log.exception("folding_failed", month=str(month))
            self._open.forget(month)
            self._retry_at[month] = time.monotonic() + RETRY_S
            self._unmerged.discard(month)
            self._indexes.distrust(month, problem)

    @contextmanager
    def _transaction(self, file: IndexFile) -> Iterator[None]:
        with sqlite.translated(file.path):
            file.leave_unsynced()
            file.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                file.connection.execute("COMMIT")
            except BaseException:
                if file.connection.in_transaction:
                    file.connection.execute("ROLLBACK")
                raise
            self._open.written(file.month)
            self._indexes.publish(file)

    # Folding the tail

    def _fold_is_due(self) -> bool:
        spans = self._tail.view.spans
        if not spans:
            self._partial_since = None
            return False
        if len(spans) > 1 or spans[0].is_full:
            return True
        now = time.monotonic()
        if self._partial_since is None:
            self._partial_since = now
        return self._tail.hurry or now - self._partial_since >= PARTIAL_AFTER_S

    def _fold(self) -> None:
        """Makes a run a month out of the oldest part of the tail. Months that have gaps get one more."""
        self._partial_since = None
        with self.removal_lock:
            view = self._tail.view
            if not view.spans:
                return
        first, *more = view.spans[:BLOCKS_AT_ONCE]
        spans = [first, *(span for span in more if span.is_full)]
        rows, ordinals = joined(span.rows for span in spans), np.concatenate([span.months for span in spans])
        up_to = int(rows.position[-1])
        tags = [stretch for span in spans for stretch in span.block.tags.copy()]
        watermarks: dict[Month, int] = {}
        for number in distinct(ordinals).tolist():
            month = month_of(number)
            if month in view.gaps:
                continue
            with self._attempt(month):
                file = self._open.get(month)
                if month in self._tail.view.gaps:
                    continue  # it is a new one, which lacks more than these
                mine = rows if (ordinals == number).all() else rows.take(ordinals == number)
                self._put(file, mine, tags, up_to)
                watermarks[month] = up_to
        self._tail.folded(up_to, watermarks)

    def _put(self, file: IndexFile, rows: Rows, tags: Sequence[TagStretch], watermark: int) -> None:
        """Adds rows as a run, and moves the watermark. `tags` may have other rows as well."""
        _old, removals = file.state()
        with self._transaction(file):
            if len(rows):
                labels, covered = labels_of(file, rows, tags, self._dimensions(), self._truth)
                file.put(Built(rows, labels, covered, file.month, self._zones))
            file.set_state(watermark, removals)
        self._unmerged.add(file.month)

    # Gaps

    def _fill(self, month: Month) -> None:
        """Indexes the next events of the truth below the floor that the index of a month lacks."""
        mark = self._tail.gap_mark(month)
        file = self._open.get(month)
        watermark, _removals = file.state()
        floor = self._tail.view.floor
        if watermark < floor:
            rows, tagged = self._truth.rows(month, watermark, floor, BLOCK_ROWS)
            tags = [TagStretch(0, dict(tagged))]
            if len(rows) == BLOCK_ROWS:
                self._put(file, rows, tags, int(rows.position[-1]))
                return
            if len(rows):
                watermark = floor
                self._put(file, rows, tags, watermark)
        # Nothing may have been written: then nobody was told yet what there is.
        self._indexes.publish(file)
        self._tail.gap_filled(month, watermark, floor=floor, mark=mark)
        if self._truth.removals_generation(month) > file.state()[1]:
            self._to_remove.add(month)

    # Removals

    def _remove(self, month: Month) -> None:
        """Makes the runs that hold removed rows anew without them."""
        self._to_remove.discard(month)
        file = self._open.get(month)
        watermark, applied = file.state()
        with self.removal_lock:
            generation, positions = self._truth.removals(month, applied)
        if generation > applied:
            with self._transaction(file):
                for info in file.runs():
                    mine = positions[(positions >= info.first) & (positions <= info.last)]
                    if not len(mine):
                        continue
                    kept = Reduced(file, info, mine, self._zones)
                    if len(kept) < info.rows:
                        if len(kept):
                            file.put(kept)
                        file.drop([info.run])
                file.set_state(watermark, generation)
        self.removed[month] = generation

    # Merging

    def _merge(self, month: Month) -> None:
        """Merges the newest runs of a month if enough have come together."""
        file = self._open.get(month)
        runs = file.runs()
        chosen = to_merge(runs, due=MERGE_RUNS if len(self._tail) else 2)
        mergeable = len(runs) > 1 and sum(run.rows for run in runs) <= MERGE_ROWS_MAX
        if not chosen and mergeable and not len(self._tail):
            now = time.monotonic()
            if now >= self._full_merge_at.get(month, 0.0):
                chosen = runs
                self._full_merge_at[month] = now + FULL_MERGE_S
            else:
                self._postponed.add(month)
        if not chosen:
            self._unmerged.discard(month)
            if len(self._tail):
                self._few_runs.add(month)
            return
        with self._transaction(file):
            file.put(Merged(file, chosen))
            file.drop([info.run for info in chosen])


def to_merge(runs: Sequence[RunInfo], *, due: int) -> Sequence[RunInfo]:
    """The runs to make one of: all from the oldest that is not much larger than those behind it together; or none."""
    total, behind, first = 0, 0, len(runs)
    for place in reversed(range(len(runs))):
        total += runs[place].rows
        if total > MERGE_ROWS_MAX:
            break
        if runs[place].rows <= MERGE_RATIO * behind:
            first = place
        behind = total
    return runs[first:] if len(runs) - first >= due else ()
