"""What months answer whose rows changed or went: frozen numbers as parts of an answer, beside what rows still tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from retention.month import Month
from server.errors import TrackdError
from server.frozen import ANY_TYPE, Cell, KeptMonths
from server.model import MonthInfo
from server.question import Bucket, FieldKind, Question, Read
from server.rewriting import Losses
from server.storage.frozen_grain import Share, not_united, of_types, restricted, shares, without_users
from server.storage.sqlite import frozen_numbers
from server.storage.sqlite.answers.cells import Span
from server.storage.sqlite.answers.grouping import Ints, Numbers, Part
from server.storage.sqlite.answers.names import Names
from server.storage.sqlite.answers.selection import Columns, Matcher
from server.storage.sqlite.catalog import CatalogReader
from server.storage.sqlite.frozen_numbers import Counts
from server.storage.sqlite.index.held import Held
from server.storage.sqlite.zone_offsets import offsets_of
from server.time_buckets import QUARTER_MS, zone_of

CELL_BYTES = 200
"""Of a cell in memory."""
NO_NUMBERS = Numbers(np.zeros(0, np.int64), np.zeros(0))


@dataclass(frozen=True, slots=True)
class FrozenPeople:
    """Users of which only the number is known: they cannot be put together with others."""

    counts: Ints
    refusal: TrackdError

    def piece(self, group: int) -> Ints:
        """Refuses, since nobody knows who they were."""
        del group
        raise self.refusal.again()


@dataclass(frozen=True, slots=True)
class NoPeople:
    """Events whose users another part has."""

    counts: Ints

    def piece(self, group: int) -> Ints:
        """Nobody."""
        del group
        return np.zeros(0, np.int64)


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

    def parts(self, question: Question, share: Share, read: Read) -> list[Part]:
        """What the frozen numbers of a month have of the answer."""
        if share.types:
            read.frozen_months.add(share.month)
        parts = [self._events(question, share.month, name, read) for name in sorted(share.counted)]
        parts += [self._people(question, share, name, read) for name in sorted(share.people)]
        return parts

    # Numbers never change once they are kept, so what is held of them stays right.

    def _counts(self, month: Month, name: str) -> Counts:
        def load() -> Counts:
            return frozen_numbers.counts(self._catalog.rows, month, name)

        return self._held.get(("frozen counts", month, name), load, lambda counts: counts.bytes)

    def _cells(self, month: Month, name: str) -> Sequence[Cell]:
        def load() -> Sequence[Cell]:
            return frozen_numbers.cells(self._catalog.rows, month, name)

        return self._held.get(("frozen cells", month, name), load, lambda cells: CELL_BYTES * len(cells))

    def _events(self, question: Question, month: Month, name: str, read: Read) -> Part:
        counts = self._counts(month, name)
        span = Span.of(question, month.start_ms, month.end_ms)
        low, high = ((at - month.start_ms) // QUARTER_MS for at in (span.start_ms, span.end_ms))
        chosen = (counts.slot >= low) & (counts.slot < high)
        keys_of = self._names.keys_of(FieldKind.SOURCE)
        sources = np.array([keys_of[source] for source in counts.sources] or [0], np.uint32)[counts.source]
        left = restricted(question.where, name)
        if not isinstance(left, bool):
            matcher = Matcher(left, self._names, ())
            chosen &= matcher.mask(Columns(len(sources), {FieldKind.SOURCE: sources}))
        slots, sources, events = counts.slot[chosen], sources[chosen].astype(np.int64), counts.events[chosen]
        kind = self._names.keys_of(FieldKind.TYPE)[name]
        keys: list[Ints] = []
        for entry in question.by:
            if isinstance(entry, Bucket):
                offsets = offsets_of(zone_of(question.time_zone), month.start_ms, month.end_ms)
                begins = np.arange(month.start_ms, month.end_ms, QUARTER_MS, dtype=np.int64)
                keys.append(offsets.buckets(begins, entry.unit)[slots])
            else:
                keys.append(sources if entry.kind is FieldKind.SOURCE else np.full(len(slots), kind, np.int64))
        read.frozen += len(events)
        return _part(question, keys, events, NoPeople(np.zeros(len(events), np.int64)))

    def _people(self, question: Question, share: Share, name: str, read: Read) -> Part:
        found = (
            [cell for cell in share.cells.among(self._cells(share.month, name)) if cell.users] if share.cells else []
        )
        read.frozen += len(found)
        kind = self._names.keys_of(FieldKind.TYPE).get(name, 0)
        keys = [
            np.array([cell.bucket_ms if isinstance(entry, Bucket) else kind for cell in found], np.int64)
            for entry in question.by
        ]
        people = FrozenPeople(np.array([cell.users for cell in found], np.int64), not_united(share, self.kept()))
        return _part(question, keys, np.zeros(len(found), np.int64), people)


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


def with_nobody(parts: Sequence[Part]) -> list[Part]:
    """Parts whose users another part has."""
    return [part if part.people else replace(part, people=NoPeople(np.zeros(len(part), np.int64))) for part in parts]
