"""What months answer whose rows changed or went: frozen numbers as parts of an answer, beside what rows still tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from retention.month import Month
from server.errors import TrackdError
from server.frozen import ANY_TYPE, Cell, KeptMonths
from server.model import MonthInfo
from server.question import Bucket, Field, FieldKind, MetricKind, Question, Read
from server.rewriting import Losses
from server.storage.frozen_grain import Share, not_united, shares
from server.storage.narrowed import of_types, restricted, without_users
from server.storage.sqlite import frozen_numbers
from server.storage.sqlite.answers.cells import Span
from server.storage.sqlite.answers.grouping import Ints, Numbers, Part
from server.storage.sqlite.answers.names import Names
from server.storage.sqlite.answers.selection import Columns, Matcher
from server.storage.sqlite.catalog import CatalogReader
from server.storage.sqlite.frozen_numbers import Counts
from server.storage.sqlite.index.held import Held
from server.storage.sqlite.index.rows import Keys
from server.storage.sqlite.zone_offsets import offsets_of
from server.time_buckets import QUARTER_MS, zone_of

CELL_BYTES = 200
"""Of a cell in memory."""
NO_NUMBERS = Numbers(np.zeros(0, np.int64), np.zeros(0))


class NumbersReplaced(Exception):
    """Frozen numbers have become coarse since it was decided what they tell: decide again."""


@dataclass(frozen=True, slots=True)
class FrozenPeople:
    """Users of which only the number is known: they cannot be put together with others."""

    counts: Ints
    refusal: TrackdError

    def piece(self, group: int) -> Keys:
        """Refuses, since nobody knows who they were."""
        del group
        raise self.refusal.again()


@dataclass(frozen=True, slots=True)
class NoPeople:
    """Events whose users another part has."""

    counts: Ints

    def piece(self, group: int) -> Keys:
        """Nobody."""
        del group
        return np.zeros(0, np.uint32)


class FrozenMonths:
    """The frozen numbers as one reader sees them; what was read lately is in memory for all readers."""

    def __init__(
        self,
        catalog: CatalogReader,
        names: Names,
        held: Held,
        losses: Callable[[], Mapping[Month, Losses]],
        kept: Callable[[], KeptMonths],
    ) -> None:
        self._catalog = catalog
        self._names = names
        self._held = held
        self.losses = losses
        self.kept = kept

    def shares(self, question: Question, months: Sequence[MonthInfo]) -> dict[Month, Share]:
        """How those of the months that lost something answer. Precondition(FROZEN_GRAIN) if they cannot."""
        losses = self.losses()
        if losses.keys().isdisjoint(info.month for info in months):
            return {}
        return shares(question, (info.month for info in months), losses, self.kept())

    def refusal(self, found: Mapping[Month, Share]) -> TrackdError:
        """What to raise where users of frozen cells would have to be put together with others."""
        return not_united(found.values(), self.kept())

    def parts(self, question: Question, share: Share, read: Read, refusal: TrackdError) -> list[Part]:
        """What the frozen numbers of a month have of the answer."""
        if share.types:
            read.frozen_months.add(share.month)
        summed = self._summed(question, share)
        parts = [self._of_quarters(question, share, name, read) for name in sorted(share.counted - summed)]
        if summed:
            cells = self._cells(share, summed, read)
            events = np.array([cell.events for _name, cell in cells], np.int64)
            parts.append(_part(question, self._keys(question, cells), events, NoPeople(np.zeros(len(cells), np.int64))))
        if share.people:
            cells = [(name, cell) for name, cell in self._cells(share, share.people, read) if cell.users]
            people = FrozenPeople(np.array([cell.users for _name, cell in cells], np.int64), refusal)
            parts.append(_part(question, self._keys(question, cells), np.zeros(len(cells), np.int64), people))
        return parts

    def _summed(self, question: Question, share: Share) -> frozenset[str]:
        """Types whose events are told by a few cells where quarter-hours would be thousands."""
        if share.cells is None or Field(FieldKind.SOURCE) in question.by:
            return frozenset()
        details, zone = self.kept()[share.month].details, share.cells.zone
        alike = (
            name for name in share.counted if zone in details[name].zones and restricted(question.where, name) is True
        )
        return share.coarse.union(alike)

    # Numbers never change once they are kept, they only become fewer: then none of those in memory are looked for.

    def _counts(self, share: Share, name: str) -> Counts:
        def load() -> Counts:
            found = frozen_numbers.counts(self._catalog.rows, share.month, name)
            self._check_still(share)
            return found

        return self._held.get(("frozen counts", share.month, name), load, lambda counts: counts.bytes)

    def _check_still(self, share: Share) -> None:
        if frozen_numbers.fewest(self._catalog.rows, share.month) != share.k:
            raise NumbersReplaced

    def _cells(self, share: Share, names: Iterable[str], read: Read) -> list[tuple[str, Cell]]:
        """The cells of these types that are groups of the question."""
        month = share.month

        def load() -> Mapping[str, Sequence[Cell]]:
            found = frozen_numbers.cells(self._catalog.rows, month)
            self._check_still(share)
            return found

        def size(found: Mapping[str, Sequence[Cell]]) -> int:
            return CELL_BYTES * sum(map(len, found.values()))

        # Types may be frozen one after the other: with each there is more. And what is coarse is less.
        key = ("frozen cells", month, len(self.kept()[month].details), tuple(sorted(share.k.items())))
        held = self._held.get(key, load, size)
        cells = [(name, cell) for name in sorted(names) for cell in share.among(held.get(name, ()))]
        read.frozen += len(cells)
        return cells

    def _keys(self, question: Question, cells: Sequence[tuple[str, Cell]]) -> list[Ints]:
        kinds = self._names.keys_of(FieldKind.TYPE)
        return [
            np.array([cell.bucket_ms if isinstance(entry, Bucket) else kinds[name] for name, cell in cells], np.int64)
            for entry in question.by
        ]

    def _of_quarters(self, question: Question, share: Share, name: str, read: Read) -> Part:
        month, counts = share.month, self._counts(share, name)
        span = Span.of(question, month.start_ms, month.end_ms)
        low, high = ((at - month.start_ms) // QUARTER_MS for at in (span.start_ms, span.end_ms))
        chosen = (counts.slot >= low) & (counts.slot < high)
        keys_of = self._names.keys_of(FieldKind.SOURCE)
        source_keys = np.array([keys_of[source] for source in counts.sources], np.uint32)[counts.source]
        left = restricted(question.where, name)
        if not isinstance(left, bool):
            matcher = Matcher(left, self._names, ())
            chosen &= matcher.mask(Columns(len(source_keys), {FieldKind.SOURCE: source_keys}))
        slots, sources, events = counts.slot[chosen], source_keys[chosen].astype(np.int64), counts.events[chosen]
        kind = self._names.keys_of(FieldKind.TYPE)[name]
        keys: list[Ints] = []
        for entry in question.by:
            if isinstance(entry, Bucket):
                offsets = offsets_of(zone_of(question.time_zone), month.start_ms, month.end_ms)
                keys.append(offsets.of_quarters(entry.unit)[slots])
            elif entry.kind is FieldKind.SOURCE:
                keys.append(sources.astype(np.int64))
            else:
                keys.append(np.full(len(slots), kind, np.int64))
        read.frozen += len(events)
        return _part(question, keys, events, NoPeople(np.zeros(len(events), np.int64)))


def _part(question: Question, keys: Sequence[Ints], events: Ints, people: FrozenPeople | NoPeople) -> Part:
    """Groups may come several times in it."""
    numbers = {metric.key: NO_NUMBERS for metric in question.metrics if metric.kind.of_numbers}
    return Part(tuple(keys), events, people, numbers)


def of_rows(question: Question, share: Share) -> Iterator[Question]:
    """What to ask the rows of a month that lost something."""
    if ANY_TYPE in share.people:
        yield without_users(of_types(question, share.counted, among=False))
        return
    yield of_types(question, share.counted | share.people, among=False)
    if share.people - share.counted:
        yield without_users(of_types(question, share.people - share.counted, among=True))


def told(question: Question, parts: Sequence[Part]) -> Sequence[Part]:
    """What rows told; nobody where they were not asked about users, whatever they know."""
    if any(metric.kind is MetricKind.USERS for metric in question.metrics):
        return parts
    return [replace(part, people=NoPeople(np.zeros(len(part), np.int64))) for part in parts]
