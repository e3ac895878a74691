"""What retention keeps beside the events: holds, copies, numbers, losses, the clock, and evidence of what it did.

Part of the storage contract. All of it is as durable as the events when a call returns, and each call is one commit:
what changes and the evidence that it was changed are there together or not at all.

Ownership. Belongs to the writer, like `Store.append`; only `losses` and what is frozen may be asked from any thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

from retention.chain import Deed, Head, Record
from retention.facts import Copy
from retention.hold import Hold
from retention.month import Month
from server.errors import NotFound, Precondition, TrackdError
from server.frozen import Frozen, Kept, KeptMonths, already_frozen
from server.rewriting import Losses


class Records(ABC):
    """See the module. Nothing in it is ever removed by itself."""

    # Evidence

    @property
    @abstractmethod
    def head(self) -> Head:
        """The end of the chain of evidence; retention.chain.EMPTY at first."""

    @abstractmethod
    def evidence(self, after: int = 0, limit: int = 1_000) -> Sequence[bytes]:
        """The lines of the records behind sequence number `after`, oldest first, as `retention.chain.Record` reads."""

    @abstractmethod
    def record(self, deed: Deed) -> Record:
        """Adds a deed to the chain."""

    # Holds

    @abstractmethod
    def holds(self) -> Sequence[Hold]:
        """All holds that were ever placed, by code; released ones too."""

    @abstractmethod
    def put_hold(self, hold: Hold, deed: Deed) -> None:
        """Places a hold, or releases one. Raises Precondition(HOLD_EXISTS) for a code that another hold has."""

    # Copies

    @abstractmethod
    def copies(self) -> Mapping[Month, Sequence[Copy]]:
        """What copies of which months there are, by name; `held` is not known here and empty."""

    @abstractmethod
    def put_copy(self, month: Month, copy: Copy, deed: Deed) -> None:
        """Notes a copy, or what changed about it."""

    @abstractmethod
    def remove_copy(self, month: Month, name: str, deed: Deed) -> None:
        """The copy is gone. Raises NotFound(COPY_UNKNOWN)."""

    # Numbers

    @abstractmethod
    def keep(self, frozen: Frozen, deed: Deed) -> None:
        """Keeps what `Reader.freeze` counted, for good. Raises Precondition(NUMBERS_FROZEN) if any of it is kept."""

    @property
    @abstractmethod
    def frozen(self) -> KeptMonths:
        """What is frozen of which months. A mapping that is replaced, never changed: any thread may read it."""

    @property
    def frozen_types(self) -> Mapping[Month, frozenset[str]]:
        """The types whose numbers are frozen, by month."""
        return {month: kept.types for month, kept in self.frozen.items()}

    # What was lost

    @property
    @abstractmethod
    def losses(self) -> Mapping[Month, Losses]:
        """Of months that lost something. A mapping that is replaced, never changed: any thread may read it."""

    # The clock

    @property
    @abstractmethod
    def clock_accepted_ms(self) -> int | None:
        """See retention.facts.Facts."""

    @abstractmethod
    def accept_clock(self, now_ms: int) -> None:
        """Takes this for the right time."""


# What every engine says alike


def check_hold(hold: Hold, known: Hold | None) -> None:
    """A hold is placed once and released once, and never changes otherwise."""
    if known is None or replace(known, released_ms=None) == replace(hold, released_ms=None):
        return
    raise Precondition(
        "HOLD_EXISTS",
        f"there is another hold with the code {hold.code}",
        hint="codes are never used twice: choose another; a hold is not changed, place a new one and release the old",
    )


def check_freezing(month: Month, types: Sequence[str], lost: Losses, kept: Kept | None) -> None:
    """Numbers are frozen once, and from rows as they came: those of all types together with the first of them."""
    twice = sorted(kept.types.intersection(types)) if kept else []
    if twice:
        raise already_frozen(month, twice)
    changed = sorted(lost if kept is None else lost.keys() & set(types))
    if changed:
        raise Precondition(
            "ROWS_CHANGED",
            f"rows of {', '.join(changed)} in {month} are not what they were: their numbers cannot be frozen any more",
            hint="numbers are frozen before rows change for the first time",
        )


def not_to_be_opened(month: Month) -> TrackdError:
    """More events would make the frozen numbers wrong."""
    return Precondition(
        "NUMBERS_FROZEN",
        f"{month} cannot be opened again: its numbers are frozen",
        hint="late events of this month can be stored no more",
    )


def copy_unknown(month: Month, name: str) -> TrackdError:
    """There is no such copy."""
    return NotFound("COPY_UNKNOWN", f"{month} has no copy {name}", hint="trackd archive list shows what there is")
