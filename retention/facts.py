"""What planning has to know of a store: numbers and dates of months, read by the engine in one moment.

No name of a person comes in here, so none can come out in a plan. Nothing in it depends on the policy: rows are told by
type, and which class a type belongs to is the policy's word on the day of the plan.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from retention.month import Month
from retention.policy import Claim

RAW = ""
"""The profile of rows that went through none."""


class FactsError(ValueError):
    """The facts contradict themselves. Nothing may be planned on them."""


@dataclass(frozen=True, slots=True)
class Held:
    """Rows under holds. A row may be under several, so `rows` is what at least one of them holds."""

    rows: int = 0
    by: tuple[tuple[str, int], ...] = ()
    """(code of the hold, rows), sorted."""

    def __post_init__(self) -> None:
        counts = [rows for _, rows in self.by]
        if self.by != tuple(sorted(self.by)) or not max(counts, default=0) <= self.rows <= sum(counts):
            raise FactsError(f"{self.rows} rows cannot be held by {self.by}")


NOTHING_HELD = Held()


@dataclass(frozen=True, slots=True)
class Stock:
    """Live rows of one month and type in one form."""

    event_type: str
    rows: int
    bytes: int
    profile: str = RAW
    """Digest of the profile that the rows went through; RAW for none."""
    claim: Claim = Claim.PSEUDONYMOUS
    """What is true of them today, not what the profile hoped for: ANONYMOUS only if the check passed and no archive,
    backup or hold has the originals any more."""
    held: Held = NOTHING_HELD

    def __post_init__(self) -> None:
        if self.rows <= 0 or self.bytes < 0 or self.held.rows > self.rows:
            raise FactsError(
                f"{self.event_type}: {self.rows} rows in {self.bytes} bytes, {self.held.rows} of them held"
            )
        if self.profile == RAW and self.claim is Claim.ANONYMOUS:
            raise FactsError(f"{self.event_type}: rows without a profile cannot be anonymous")


class CopyKind(StrEnum):
    """Copies of a month's rows beside the live ones."""

    ARCHIVE = "archive"
    RESTORED = "restored"
    EXPORT = "export"


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of rows of a month."""

    kind: CopyKind
    name: str
    """Unique in the month, for good; goes into plans and evidence."""
    types: tuple[str, ...]
    """Which event types it has rows of, sorted."""
    rows: int
    bytes: int
    created_ms: int
    target: str = ""
    """Of an archive: the name of its target."""
    complete: bool = True
    """Made of rows that had gone through no profile: with all their fields."""
    anonymous: bool = False
    """Made of rows whose label was "anonymous"."""
    whole: bool = True
    """Has all that it was made with. One that was cut down to held rows is no archive any more."""
    verified: bool = False
    """Was read back and compared. An archive that was not does not count as one, but is a copy."""
    until_ms: int | None = None
    """Of a restored copy or an export: when it expires."""
    held: Held = NOTHING_HELD

    def __post_init__(self) -> None:
        if not self.types or self.types != tuple(sorted(set(self.types))) or not 0 <= self.held.rows <= self.rows:
            raise FactsError(f"copy {self.name}: types {self.types}, {self.rows} rows, {self.held.rows} of them held")
        if (self.kind is CopyKind.ARCHIVE) is not bool(self.target) or (self.complete and self.anonymous):
            raise FactsError(f"copy {self.name}: {self.kind} at {self.target!r}")


@dataclass(frozen=True, slots=True)
class MonthFacts:
    """One month."""

    month: Month
    generation: int
    digest: str
    """Of the content of a sealed month; "" while it is open."""
    sealed: bool
    stocks: tuple[Stock, ...] = ()
    """Types that have live rows, at most one stock per (type, profile)."""
    min_ms: int | None = None
    max_ms: int | None = None
    """Event times of the live rows, as measured; None where there are none."""
    late_events: bool = False
    """It is open again for late events that a class takes."""
    frozen: frozenset[str] = frozenset()
    """Types whose numbers are frozen."""
    gone: tuple[tuple[str, int], ...] = ()
    """(type, time when its last row that is not anonymous was taken from the live ones), sorted."""
    copies: tuple[Copy, ...] = ()

    def __post_init__(self) -> None:
        where = f"month {self.month}"
        if self.sealed is not bool(self.digest):
            raise FactsError(f"{where}: sealed months have a digest, open ones have none")
        forms = [(stock.event_type, stock.profile) for stock in self.stocks]
        if len(set(forms)) < len(forms):
            raise FactsError(f"{where}: two stocks of one type and form")
        if len({copy.name for copy in self.copies}) < len(self.copies):
            raise FactsError(f"{where}: two copies of one name")
        if (self.min_ms is None) is not (not self.stocks) or (self.max_ms is None) is not (not self.stocks):
            raise FactsError(f"{where}: there are event times where there are rows, and nowhere else")
        if self.min_ms is not None and self.max_ms is not None:
            within = self.month.start_ms <= self.min_ms <= self.max_ms < self.month.end_ms
            if not within:
                raise FactsError(f"{where}: has events of {self.min_ms} to {self.max_ms}, which are not of that month")

    @property
    def rows(self) -> int:
        """Live rows."""
        return sum(stock.rows for stock in self.stocks)


@dataclass(frozen=True, slots=True)
class Facts:
    """The store as a whole."""

    months: tuple[MonthFacts, ...]
    """Each month once, in any order."""
    clock_accepted_ms: int | None = None
    """Plan.clock_to_record_ms of the last run, or the time at which an operator accepted the clock; None: never."""
    ingest_active: bool = False
    """Whether events come in these days."""
    importing: bool = False
    """Whether a history is imported: months stay open until that is done."""
    oldest_backup_ms: int | None = None
    """When the oldest backup that still exists was made."""

    def __post_init__(self) -> None:
        if len({one.month for one in self.months}) < len(self.months):
            raise FactsError("a month is listed twice")

    @property
    def rows(self) -> int:
        """Live rows."""
        return sum(one.rows for one in self.months)

    @property
    def newest_ms(self) -> int | None:
        """Time of the newest live event."""
        return max((one.max_ms for one in self.months if one.max_ms is not None), default=None)


class State(StrEnum):
    """Where a class is within a month."""

    OPEN = "open"
    SEALED = "sealed"
    ANONYMIZED = "anonymized"
    ARCHIVED = "archived"
    DROPPED = "dropped"
    CLOSED = "closed"


def state_of(facts: MonthFacts, types: Iterable[str], *, oldest_backup_ms: int | None = None) -> State | None:
    """The state of the types of a class in a month; None if it never had events of them.

    A class is as far as the least of its rows, held ones aside. CLOSED: no other copy can still exist.
    """
    wanted = frozenset(types)
    stocks = [one for one in facts.stocks if one.event_type in wanted]
    copies = [one for one in facts.copies if wanted & set(one.types)]
    if stocks:
        if not facts.sealed:
            return State.OPEN
        free = [one for one in stocks if one.rows > one.held.rows] or stocks
        archived = {name for one in copies if one.kind is CopyKind.ARCHIVE and one.verified for name in one.types}
        if archived >= {one.event_type for one in free}:
            return State.ARCHIVED
        return State.ANONYMIZED if all(one.profile != RAW for one in free) else State.SEALED
    gone = [at_ms for name, at_ms in facts.gone if name in wanted]
    if not gone and not copies:
        return None
    in_backup = oldest_backup_ms is not None and any(oldest_backup_ms < at_ms for at_ms in gone)
    return State.DROPPED if copies or in_backup else State.CLOSED
