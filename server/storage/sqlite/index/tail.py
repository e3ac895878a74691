"""The tail: the events that are committed and not folded yet, as columns in memory.

The writer adds to it, the folder takes from it, readers look at an immutable view. Rows lie in blocks in the order of
their positions; a block is only ever written behind what a view can see, so views need no copies.

What a view promises, for every month outside of `gaps`: an index of the month whose watermark is at least
`required[month]`, together with the rows of the view above that watermark, is every event with `position <= head`.
For a month in `gaps` that holds with the truth's own rows up to `floor` added.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from retention.month import Month
from server.storage.sqlite.index.rows import Keys, Rows, TagStretch, distinct, joined

BLOCK_ROWS = 65_536
"""Folded at once: the size of the smallest runs. 20 ms of work."""


def ordinal(month: Month) -> int:
    """A month as one number."""
    return month.year * 12 + month.month - 1


def month_of(number: int) -> Month:
    """The month of an ordinal."""
    return Month(number // 12, number % 12 + 1)


class Block:
    """Columns of a fixed size that fill up; what was written never changes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0
        self.months: tuple[int, int] | None = None
        """The first and last of the months of its rows, as ordinals."""
        self.month = np.empty(size, np.int32)
        self.position = np.empty(size, np.int64)
        self.timestamp_ms = np.empty(size, np.int64)
        self.type = np.empty(size, np.uint32)
        self.user = np.empty(size, np.uint32)
        self.source = np.empty(size, np.uint32)
        self.tags: list[TagStretch] = []
        """Of those that have any: as they came, batch by batch."""

    def rows(self, low: int, high: int) -> Rows:
        """A stretch of the block; shares its memory."""
        part = slice(low, high)
        return Rows(self.position[part], self.timestamp_ms[part], self.type[part], self.user[part], self.source[part])

    def without(self, positions: Sequence[int]) -> Block:
        """A full copy without these positions."""
        kept = np.flatnonzero(~np.isin(self.position[: self.used], np.asarray(positions, np.int64)))
        copy = Block(len(kept))
        copy.used = len(kept)
        copy.months = self.months
        for name in ("month", "position", "timestamp_ms", "type", "user", "source"):
            getattr(copy, name)[:] = getattr(self, name)[kept]
        gone = set(positions)
        copy.tags = [part.without(gone) for part in self.tags]
        return copy


@dataclass(frozen=True, slots=True)
class Span:
    """The part of a block that a view sees."""

    block: Block
    low: int
    high: int

    def __len__(self) -> int:
        return self.high - self.low

    @property
    def is_full(self) -> bool:
        """Whether its block takes no more."""
        return self.high == self.block.size

    def may_hold(self, months: Iterable[int]) -> bool:
        """False if it has no events of these months, which are ordinals."""
        within = self.block.months if len(self) else None
        return within is not None and any(within[0] <= month <= within[1] for month in months)

    @property
    def rows(self) -> Rows:
        """Its rows."""
        return self.block.rows(self.low, self.high)

    @property
    def months(self) -> NDArray[np.int32]:
        """The ordinal of each row's month."""
        return self.block.month[self.low : self.high]


@dataclass(frozen=True, slots=True)
class TailView:
    """The tail at one moment."""

    head: int = 0
    floor: int = 0
    """Every event above it is in the spans."""
    spans: tuple[Span, ...] = ()
    required: Mapping[Month, int] = field(default_factory=dict)
    """What watermark the index of a month has at least; 0 where a month is not named."""
    gaps: frozenset[Month] = frozenset()
    """Months that may have events below the floor that no index covers."""

    def __len__(self) -> int:
        return sum(map(len, self.spans))

    def rows(self, watermarks: Mapping[Month, int]) -> Rows:
        """The events of these months above the watermark of each."""
        wanted = {ordinal(month): watermark for month, watermark in watermarks.items()}
        return joined(part.rows.take(_above(part, wanted)) for part in self.spans if part.may_hold(wanted))

    def rows_of(self, users: Keys, watermarks: Mapping[Month, int]) -> Rows:
        """The events of a few users in these months above the watermark of each."""
        wanted = {ordinal(month): watermark for month, watermark in watermarks.items()}
        found = []
        for part in self.spans:
            if part.may_hold(wanted):
                column = part.rows.user
                places = np.flatnonzero(column == users[0] if len(users) == 1 else np.isin(column, users))
                if len(places):
                    months, positions = part.months[places].tolist(), part.rows.position[places].tolist()
                    above = [
                        month in wanted and position > wanted[month]
                        for month, position in zip(months, positions, strict=True)
                    ]
                    found.append(part.rows.take(places[np.array(above, np.bool_)]))
        return joined(found)

    def tags(self, positions: NDArray[np.int64]) -> Iterable[tuple[int, tuple[str, ...]]]:
        """(position, tags) of those of the positions that have any."""
        wanted = set(positions.tolist())
        stretches = [stretch for part in self.spans for stretch in part.block.tags.copy()]
        return [entry for stretch in stretches for entry in stretch.items() if entry[0] in wanted]


def _above(part: Span, watermarks: Mapping[int, int]) -> NDArray[np.bool_]:
    months, positions = part.months, part.block.position[part.low : part.high]
    first = int(months.min())
    # Everything is above the highest position for a month that was not asked for.
    limits = np.full(int(months.max()) - first + 1, np.iinfo(np.int64).max)
    for month, watermark in watermarks.items():
        if 0 <= month - first < len(limits):
            limits[month - first] = watermark
    return positions > limits[months - first]


@dataclass(frozen=True, slots=True)
class Added:
    """The accepted rows of one batch: columns of the whole batch, and which rows of it were not accepted."""

    base: int
    timestamps_ms: Sequence[int]
    types: Sequence[int]
    users: Sequence[int]
    source: int
    tags: Mapping[int, tuple[str, ...]]
    excluded: Sequence[int]


class Tail:
    """Holds the current view; everything else about it is between the writer and the folder."""

    def __init__(self, head: int, months: Iterable[Month], *, rows_max: int) -> None:
        """After a start nothing is known of the indexes: every month may have a gap below the head."""
        self._rows_max = rows_max
        self._block_rows = max(1, min(BLOCK_ROWS, rows_max // 4))
        self._changed = threading.Condition()
        self._current = Block(self._block_rows)
        self._gap_marks: dict[Month, int] = {}
        self.view = TailView(head=head, floor=head, gaps=frozenset(months))
        self.work = threading.Event()
        """Set when there is something to fold at once."""
        self.hurry = False
        """Somebody waits: also a block that is not full is folded at once."""

    def __len__(self) -> int:
        return len(self.view)

    # The writer

    def wait_for_room(self, rows: int, timeout_s: float) -> bool:
        """Waits until so many more rows stay within the bound; False if that takes too long."""
        if len(self.view) + rows <= self._rows_max:
            return True
        self.hurry = True
        self.work.set()
        with self._changed:
            in_time = self._changed.wait_for(
                lambda: not len(self.view) or len(self.view) + rows <= self._rows_max, timeout_s
            )
        self.hurry = False
        return in_time

    def add(self, batches: Iterable[Added], head: int) -> None:
        """Takes over what a group has committed, and lets readers see it."""
        with self._changed:
            spans = self.view.spans
            for batch in batches:
                spans = self._add(batch, spans)
            # All of the group at once: nobody sees rows above the head.
            self.view = replace(self.view, head=head, spans=self._with_current(spans))

    def give_up(self, head: int, months: Iterable[Month]) -> None:
        """A group failed half way: lets go of all rows, and says that their months have gaps below `head`."""
        with self._changed:
            held = {month_of(number) for part in self.view.spans for number in distinct(part.months).tolist()}
            self._current = Block(self._block_rows)
            held |= set(months)
            gaps = self.view.gaps | held
            for month in held:
                self._gap_marks[month] = self.gap_mark(month) + 1
            self.view = replace(self.view, head=head, floor=head, spans=(), gaps=gaps)
            self._changed.notify_all()
        self.work.set()

    def remove(self, positions: Sequence[int]) -> None:
        """Forgets events that are erased."""
        with self._changed:
            spans = []
            for part in self.view.spans:
                folded = part.block.position[part.low - 1] if part.low else 0
                block = part.block.without(positions)
                low = int(np.searchsorted(block.position, folded, side="right"))
                spans.append(Span(block, low, block.used))
            self._current = Block(self._block_rows)
            self.view = replace(self.view, spans=tuple(part for part in spans if len(part)))

    def _add(self, batch: Added, spans: tuple[Span, ...]) -> tuple[Span, ...]:
        """Writes rows into blocks; the spans with those blocks that are full."""
        stamps = np.array(batch.timestamps_ms, np.int64)
        kept = np.arange(len(stamps))
        if batch.excluded:
            kept = np.setdiff1d(kept, np.asarray(batch.excluded), assume_unique=True)
        months = _ordinals(stamps)
        types, users = np.array(batch.types, np.uint32), np.array(batch.users, np.uint32)
        done = 0
        while done < len(kept):
            block = self._current
            if block.used == block.size:
                spans = self._with_current(spans)
                self._current = Block(self._block_rows)
                continue
            some = kept[done : done + block.size - block.used]
            part = slice(block.used, block.used + len(some))
            mine = months[some]
            low, high = block.months or (int(mine[0]), int(mine[0]))
            block.months = (min(low, int(mine.min())), max(high, int(mine.max())))
            block.month[part] = mine
            block.position[part] = some + batch.base
            block.timestamp_ms[part] = stamps[some]
            block.type[part] = types[some]
            block.user[part] = users[some]
            block.source[part] = batch.source
            if batch.tags:
                tags = batch.tags
                if len(some) < len(stamps):
                    tags = {row: tags[row] for row in filter(tags.__contains__, some.tolist())}
                block.tags.append(TagStretch(batch.base, tags))
            block.used += len(some)
            done += len(some)
        if self._current.used == self._current.size:
            self.work.set()
        return spans

    def _with_current(self, spans: tuple[Span, ...]) -> tuple[Span, ...]:
        """Spans with all that is in the current block, which is the last one of them or is not there."""
        block = self._current
        if not block.used:
            return spans
        if spans and spans[-1].block is block:
            return (*spans[:-1], Span(block, spans[-1].low, block.used))
        # Not there: it is new, or all that it had is folded.
        low = int(np.searchsorted(block.position[: block.used], self.view.floor, side="right"))
        return (*spans, Span(block, low, block.used)) if low < block.used else spans

    # The folder

    def folded(self, up_to: int, watermarks: Mapping[Month, int]) -> None:
        """Everything up to a position is in the indexes, whose watermarks are these; lets go of it."""
        with self._changed:
            spans = []
            for part in self.view.spans:
                low = int(np.searchsorted(part.block.position[: part.high], up_to, side="right"))
                if low < part.high:
                    spans.append(Span(part.block, max(low, part.low), part.high))
            self.view = replace(
                self.view,
                floor=max(self.view.floor, up_to),
                spans=tuple(spans),
                required={**self.view.required, **watermarks},
            )
            self._changed.notify_all()

    def gap_mark(self, month: Month) -> int:
        """Changes whenever the month gets a gap anew."""
        return self._gap_marks.get(month, 0)

    def gap_filled(self, month: Month, watermark: int, *, floor: int, mark: int) -> None:
        """An index with this watermark has every event of the month up to `floor`.

        If that is still the floor and no new gap was found since `mark`, the month has none any more.
        """
        with self._changed:
            if mark == self.gap_mark(month) and floor == self.view.floor:
                self.view = replace(
                    self.view, gaps=self.view.gaps - {month}, required={**self.view.required, month: watermark}
                )

    def gap_closed(self, month: Month) -> None:
        """There is nothing of the month any more."""
        with self._changed:
            self._gap_marks[month] = self.gap_mark(month) + 1
            required = {other: watermark for other, watermark in self.view.required.items() if other != month}
            self.view = replace(self.view, gaps=self.view.gaps - {month}, required=required)

    def gap_found(self, month: Month) -> None:
        """The month's index is of no use any more."""
        with self._changed:
            self._gap_marks[month] = self.gap_mark(month) + 1
            required = {other: watermark for other, watermark in self.view.required.items() if other != month}
            self.view = replace(self.view, gaps=self.view.gaps | {month}, required=required)
        self.work.set()


def _ordinals(stamps: NDArray[np.int64]) -> NDArray[np.int32]:
    first = Month.of(int(stamps.min()))
    if int(stamps.max()) < first.end_ms:
        return np.full(len(stamps), ordinal(first), np.int32)
    months = stamps.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)
    return (months + 1970 * 12).astype(np.int32)
