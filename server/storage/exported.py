"""Rows of a month as columns, as they leave the store: into archives, and back out of them. Part of the contract.

Columns and not objects: a month is millions of rows, and an object for each would cost more than all the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

from retention.facts import RAW
from retention.month import Month
from server.errors import NotFound, Precondition
from server.model import Change, Event, MonthInfo, MonthState
from server.storage.digest import bucket_of

Integers: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """A column of texts: one after the other as UTF-8, and how many bytes each has."""

    data: bytes
    lengths: Integers

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """The column of these texts."""
        encoded = [text.encode() for text in texts]
        return cls(b"".join(encoded), np.fromiter(map(len, encoded), np.int64, len(encoded)))

    def __len__(self) -> int:
        return len(self.lengths)

    def listed(self) -> list[str]:
        """The texts, each by itself."""
        if not self.data:
            return [""] * len(self)
        ends = list(accumulate(self.lengths.tolist(), initial=0))
        return [self.data[start:end].decode() for start, end in pairwise(ends)]


@dataclass(frozen=True, slots=True, eq=False)
class ExportedChanges:
    """The changes among some rows, as columns of equal length."""

    rows: Integers
    """Which row of the batch each belongs to, rising."""
    table_names: Texts
    row_ids: Texts
    actions: Integers
    """Numbers of server.model.Action."""
    old_values: Texts
    new_values: Texts
    """JSON objects, or ""."""
    statuses: Integers
    """Numbers of server.model.ChangeStatus."""
    rows_affected: Integers
    """-1: not told."""


@dataclass(frozen=True, slots=True, eq=False)
class Exported:
    """Some rows in the order of positions, as columns of equal length; what they hold is said in server.model.Event."""

    positions: Integers
    ids: bytes
    """16 bytes a row, one after the other."""
    types: Texts
    user_ids: Texts
    sources: Texts
    forms: Texts
    """Digests of the profiles that rows went through; RAW for none."""
    timestamps_ms: Integers
    received_ms: Integers
    session_ids: Texts
    client_ips: Texts
    descriptions: Texts
    tags: Texts
    """JSON arrays of texts, or ""."""
    metadata: Texts
    """JSON objects, or ""."""
    buckets: Integers
    """Of the users (server.storage.digest)."""
    changes: ExportedChanges

    def __len__(self) -> int:
        return len(self.positions)


def to_export(month: Month, info: MonthInfo | None, generation: int | None) -> MonthInfo:
    """The month, if its rows can be had as Reader.sealed promises; None stands for one that nobody knows."""
    if info is None:
        raise NotFound("MONTH_UNKNOWN", f"there are no events of {month}", hint="list the months there are")
    if info.state is not MonthState.SEALED:
        raise Precondition("MONTH_STATE", f"{month} is {info.state.value}", hint="seal the month first")
    if generation not in (None, info.generation):
        raise Precondition("MONTH_CHANGED", f"{month} is in another generation by now", hint="plan again")
    return info


def exported_of(events: Sequence[Event], forms: Sequence[str] | None = None) -> Exported:
    """The columns of events in the order of positions. `forms` are those of the rows; all RAW by default."""
    return Exported(
        positions=_integers(event.position for event in events),
        ids=b"".join(event.id for event in events),
        types=Texts.of(event.type for event in events),
        user_ids=Texts.of(event.user_id for event in events),
        sources=Texts.of(event.source for event in events),
        forms=Texts.of([RAW] * len(events) if forms is None else forms),
        timestamps_ms=_integers(event.timestamp_ms for event in events),
        received_ms=_integers(event.received_ms for event in events),
        session_ids=Texts.of(event.session_id for event in events),
        client_ips=Texts.of(event.client_ip for event in events),
        descriptions=Texts.of(event.description for event in events),
        tags=Texts.of(orjson.dumps(event.tags).decode() if event.tags else "" for event in events),
        metadata=Texts.of(event.metadata for event in events),
        buckets=_integers(bucket_of(event.user_id) for event in events),
        changes=_changes([(row, event.change) for row, event in enumerate(events) if event.change]),
    )


def _changes(changes: Sequence[tuple[int, Change]]) -> ExportedChanges:
    return ExportedChanges(
        rows=_integers(row for row, _ in changes),
        table_names=Texts.of(change.table_name for _, change in changes),
        row_ids=Texts.of(change.row_id for _, change in changes),
        actions=_integers(change.action for _, change in changes),
        old_values=Texts.of(change.old_values for _, change in changes),
        new_values=Texts.of(change.new_values for _, change in changes),
        statuses=_integers(change.status for _, change in changes),
        rows_affected=_integers(-1 if change.rows_affected is None else change.rows_affected for _, change in changes),
    )


def _integers(values: Iterable[int]) -> Integers:
    return np.fromiter(values, np.int64)
