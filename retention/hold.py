"""Legal holds: rows that must not be destroyed, whatever a policy says. They are data of the store, never of a file.

A hold may name people, so it stays where it is administered. Plans and evidence speak of it by its code alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from retention import globs
from retention.faults import Misworded
from retention.month import Month

CODE_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
REASON_PATTERN = r"[A-Z][A-Z0-9_]{0,63}"


@dataclass(frozen=True, slots=True)
class Hold:
    """Holds every row that all of its selectors match. A selector that is empty matches everything; one must not be.

    Raises Misworded for a code or reason code that is not one, and for selectors that cannot match as they are meant.
    """

    code: str
    """What plans and receipts call it. It must not tell who or what it is about."""
    reason: str
    """UPPER_SNAKE, such as LITIGATION."""
    placed_ms: int
    users: frozenset[str] = frozenset()
    types: tuple[str, ...] = ()
    """Globs."""
    sources: frozenset[str] = frozenset()
    first_month: Month | None = None
    last_month: Month | None = None
    """Both included."""
    released_ms: int | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(CODE_PATTERN, self.code):
            raise Misworded(f"{self.code!r} is no code of a hold", 'use letters, digits, ".", "_" and "-", at most 64')
        if not re.fullmatch(REASON_PATTERN, self.reason):
            raise Misworded(f"{self.reason!r} is no reason code", "write it as LITIGATION or TAX_AUDIT")
        if not (self.users or self.types or self.sources or self.first_month or self.last_month):
            raise Misworded("the hold selects nothing", "name users, types, sources or months")
        for glob in self.types:
            if not re.fullmatch(globs.GLOB_PATTERN, glob):
                raise Misworded(f"{glob!r} is no type", 'letters, digits and "_.:/-", with * for any run of them')
        if self.first_month and self.last_month and self.first_month > self.last_month:
            raise Misworded(f"{self.first_month} is after {self.last_month}", "name the earlier month first")
        if self.released_ms is not None and self.released_ms < self.placed_ms:
            raise Misworded("the hold is released before it is placed", "check the two times")

    @property
    def active(self) -> bool:
        """Whether it was not released. Holds have no date at which they end by themselves."""
        return self.released_ms is None

    def touches(self, month: Month, event_type: str) -> bool:
        """Whether rows of this month and type may be held: where it does not, none has to be looked at."""
        if (self.first_month and month < self.first_month) or (self.last_month and month > self.last_month):
            return False
        return not self.types or any(globs.matches(glob, event_type) for glob in self.types)

    def holds(self, *, user: str, event_type: str, source: str, month: Month) -> bool:
        """Whether the selectors match such a row. Says nothing about whether the hold is active."""
        return (
            self.touches(month, event_type)
            and (not self.users or user in self.users)
            and (not self.sources or source in self.sources)
        )


def holding(holds: Iterable[Hold], *, user: str, event_type: str, source: str, month: Month) -> tuple[str, ...]:
    """The codes of the active holds that hold such a row, in their order."""
    return tuple(
        sorted(
            hold.code
            for hold in holds
            if hold.active and hold.holds(user=user, event_type=event_type, source=source, month=month)
        )
    )
