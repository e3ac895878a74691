"""One group of batches on its way into the months: which rows go where, and what becomes of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from retention.month import Month
from server.model import Appended, Batch, Item, Outcome
from server.storage.sqlite.index.tail import Added
from server.storage.sqlite.month_file import Keys, MonthFile, Slice


@dataclass(slots=True)
class Answer:
    """What is known so far about one batch of the group under way."""

    base: int
    size: int
    items: list[Item] = field(default_factory=list)

    def finish(self) -> Appended:
        """The answer, now that all is known."""
        self.items.sort(key=lambda item: item.index)
        accepted = self.size - len(self.items)
        if not accepted:
            return Appended(0, None, None, tuple(self.items))
        if not self.items:
            return Appended(accepted, self.base, self.base + self.size - 1)
        taken = {item.index for item in self.items}
        first = next(row for row in range(self.size) if row not in taken)
        last = next(row for row in reversed(range(self.size)) if row not in taken)
        return Appended(accepted, self.base + first, self.base + last, tuple(self.items))


def insert(file: MonthFile, slices: Sequence[Slice], answers: Sequence[Answer]) -> None:
    """Inserts one month's slices in their order; atomic ones each by itself, the others together."""
    run: list[Slice] = []
    for part in slices:
        if part.batch.atomic:
            _note(answers, file.append(run))
            run = []
            note_atomic(answers[part.number], part, file.append_atomic(part))
        else:
            run.append(part)
    _note(answers, file.append(run))


def added(batches: Sequence[Batch], keyed: Sequence[Keys], answers: Sequence[Answer]) -> Iterator[Added]:
    """What the tail takes over of a group that is committed. `keyed` are the keys of the batches that have rows."""
    keys = iter(keyed)
    for batch, answer in zip(batches, answers, strict=True):
        if len(batch):
            own = next(keys)
            excluded = [item.index for item in answer.items]
            if len(excluded) < len(batch):
                yield Added(answer.base, batch.timestamps_ms, own.types, own.users, own.source, batch.tags, excluded)


def rows_by_month(batch: Batch) -> dict[Month, Sequence[int] | None]:
    """The months of a batch, each with its rows; None where one month has all of them, as nearly always."""
    first = Month.of(min(batch.timestamps_ms))
    if max(batch.timestamps_ms) < first.end_ms:
        return {first: None}
    rows: dict[Month, list[int]] = {}
    for row, timestamp_ms in enumerate(batch.timestamps_ms):
        rows.setdefault(Month.of(timestamp_ms), []).append(row)
    return dict(rows)


def _note(answers: Sequence[Answer], found: dict[int, list[Item]]) -> None:
    for number, items in found.items():
        answers[number].items += items


def _without_own_position(item: Item, base: int) -> Item:
    """A conflict with an event of the same aborted batch names no position: that event is not stored either."""
    return replace(item, existing_position=None) if (item.existing_position or 0) >= base else item


def note_atomic(answer: Answer, part: Slice, items: Sequence[Item]) -> None:
    """An atomic batch with a conflict stores nothing: what was not at fault itself is rejected along with it."""
    faults = {item.index: _without_own_position(item, part.base) for item in items if item.outcome is Outcome.REJECTED}
    if not faults:
        answer.items += items
        return
    message = "nothing of this atomic batch was stored because other events of it were rejected"
    answer.items += [
        faults.get(row) or Item(row, Outcome.REJECTED, "ATOMIC_ABORTED", message, retryable=True)
        for row in part.row_numbers()
    ]
