"""What trackd speaks about: events, changes, batches, outcomes, questions. Frozen values that any layer may hold.

Words are those of the README's glossary. Times are milliseconds since the epoch, UTC. Text is never None: "" is absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import overload

from retention.month import Month

NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
"""What types and sources are called: they become metric labels, columns of tables and keys of policies."""


class Action(IntEnum):
    """What a change did to its row. The numbers are stored, and are those of the wire."""

    CREATE = 1
    UPDATE = 2
    DELETE = 3


class ChangeStatus(IntEnum):
    """Whether a change took effect. The numbers are stored, and are those of the wire."""

    SUCCESS = 1
    FAILED = 2


class Durability(StrEnum):
    """What an acknowledgement promises."""

    DURABLE = "durable"
    """On disk and visible."""
    ACCEPTED = "accepted"
    """In the queue; lost by a crash."""


class Role(StrEnum):
    """What a token, or a client certificate, allows its bearer."""

    INGEST = "ingest"
    """Send events."""
    READ = "read"
    """Ask, follow, list and describe types."""
    OPERATE = "operate"
    """Everything, what changes how the daemon works included."""


@dataclass(frozen=True, slots=True)
class Change:
    """The audit part of an event. Values are JSON object texts or ""."""

    table_name: str
    row_id: str
    action: Action
    old_values: str = ""
    new_values: str = ""
    status: ChangeStatus = ChangeStatus.SUCCESS
    rows_affected: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One stored event."""

    position: int
    id: bytes
    type: str
    user_id: str
    source: str
    timestamp_ms: int
    received_ms: int
    session_id: str = ""
    client_ip: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    metadata: str = ""
    change: Change | None = None


class Absent(Sequence[str]):
    """A column in which every text is "": no row has it. Whoever handles columns whole can leave it out."""

    __slots__ = ("_rows",)

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return self._rows

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Absent: ...
    def __getitem__(self, row: int | slice) -> str | Absent:
        if isinstance(row, slice):
            return Absent(len(range(*row.indices(self._rows))))
        if -self._rows <= row < self._rows:
            return ""
        raise IndexError(row)


@dataclass(frozen=True, slots=True)
class Batch:
    """Validated events of one message, as parallel columns of equal length (a row an event).

    Columns and not objects, because a row object an event would cost as much as writing the row. `tags` and `changes`
    are sparse: only rows that have any; columns that are often empty may be `Absent`. Every id is 16 bytes, every text
    valid and within limits.
    """

    source: str
    received_ms: int
    ids: Sequence[bytes]
    types: Sequence[str]
    user_ids: Sequence[str]
    timestamps_ms: Sequence[int]
    session_ids: Sequence[str]
    client_ips: Sequence[str]
    descriptions: Sequence[str]
    metadata: Sequence[str]
    tags: Mapping[int, tuple[str, ...]]
    changes: Mapping[int, Change]
    atomic: bool = False

    def __len__(self) -> int:
        return len(self.ids)


class Outcome(StrEnum):
    """What became of one event. Every event ends in exactly one."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Item:
    """One event of a batch that was not simply stored: a duplicate or a rejection with its reason."""

    index: int
    outcome: Outcome
    reason: str = ""
    message: str = ""
    field: str = ""
    retryable: bool = False
    existing_position: int | None = None


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of one batch. `items` holds every event that is not simply stored, ordered by index.

    `first_position` and `last_position` are the lowest and highest position of the accepted events, None without any.
    """

    accepted: int
    first_position: int | None
    last_position: int | None
    items: tuple[Item, ...] = ()

    @property
    def duplicate(self) -> int:
        """How many events were stored already."""
        return sum(item.outcome is Outcome.DUPLICATE for item in self.items)

    @property
    def rejected(self) -> int:
        """How many events were not stored."""
        return sum(item.outcome is Outcome.REJECTED for item in self.items)


@dataclass(frozen=True, slots=True)
class EventType:
    """One entry of the event-type registry."""

    name: str
    description: str
    registered_ms: int
    declared: bool
    dimensions: tuple[str, ...] = ()
    """Metadata keys that questions group and filter by, sorted: derived data covers them."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events: every part that is set must match, a part with several values matches any of them.

    `start_ms` is inclusive, `end_ms` exclusive; `after_position` exclusive, `up_to_position` inclusive.
    """

    start_ms: int | None = None
    end_ms: int | None = None
    types: tuple[str, ...] = ()
    user_ids: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    session_ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    after_position: int | None = None
    up_to_position: int | None = None

    def touches(self, month: Month) -> bool:
        """Whether an event of this month can match, judged by time alone."""
        return (self.start_ms is None or self.start_ms < month.end_ms) and (
            self.end_ms is None or self.end_ms > month.start_ms
        )


class Order(StrEnum):
    """The order of a list. Position decides between equal times, in the same direction."""

    TIME_ASC = "time_asc"
    TIME_DESC = "time_desc"
    POSITION_ASC = "position_asc"
    POSITION_DESC = "position_desc"

    @property
    def by_time(self) -> bool:
        """Whether event time leads."""
        return self in (Order.TIME_ASC, Order.TIME_DESC)

    @property
    def descending(self) -> bool:
        """Whether the last comes first."""
        return self in (Order.TIME_DESC, Order.POSITION_DESC)


@dataclass(frozen=True, slots=True)
class Keyset:
    """The place of one event in a list: a page goes on strictly behind it. Lists by position ignore the time."""

    timestamp_ms: int
    position: int


class Dimension(StrEnum):
    """What events are counted by."""

    TYPE = "type"
    MONTH = "month"
    SOURCE = "source"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Count:
    """Events in one group; `key` holds a text per dimension asked for, in that order (months as YYYY-MM)."""

    key: tuple[str, ...]
    events: int


class MonthState(StrEnum):
    """Where a month is in its life."""

    OPEN = "open"
    """Takes events."""
    SEALING = "sealing"
    """Takes no events any more (MONTH_SEALED), and is about to become one self-contained file."""
    SEALED = "sealed"
    """One self-contained file that does not change."""
    DROPPED = "dropped"
    """All its rows are gone (MONTH_DROPPED); frozen numbers stand for them."""
    DAMAGED = "damaged"
    """Cannot be read: refuses events and questions by name until it is restored; the other months serve."""


@dataclass(frozen=True, slots=True)
class MonthInfo:
    """One month of the store."""

    month: Month
    generation: int
    state: MonthState


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The next generation of a month, complete on disk, which nobody reads yet."""

    month: Month
    generation: int
    built_from: int
    """The generation that it was made from, and replaces."""
    state: MonthState
    """What the month will be."""
    removals: int
    """Events that were erased up to this generation of removals are not in it."""
    rows: int
    digest: str
    """Of its content (server.storage.digest); hexadecimal."""
    first_ms: int | None
    last_ms: int | None
    """The times of its first and last event; None without events."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much some months hold, as far as is known without asking them."""

    rows: int
    bytes: int
    """Of their files, without logs that are still to be folded back."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `check` found wrong: where, and what."""

    where: str
    problem: str
