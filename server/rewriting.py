"""What retention does to the rows of a sealed month, and what is known of them afterwards. Frozen values.

A month's rows are told by type and *form*: the digest of the profile that they went through, RAW ("") for none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from retention.chain import Deed
from retention.facts import Stock
from retention.hold import Hold
from retention.month import Month
from retention.policy import Claim, Profile, Treatment
from server.model import MonthState, Rebuilt


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows of a month: those of these types that have one of these forms."""

    types: tuple[str, ...]
    forms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Rows of a sealed month go through a profile, or go (profile None). Rows under `holds` stay as they are.

    Only rows as they were sent are held: those that went through a profile are nobody's as far as a hold can tell.
    """

    rows: Selection
    profile: Profile | None
    holds: tuple[Hold, ...] = ()


@dataclass(frozen=True, slots=True)
class Loss:
    """What questions cannot learn from the rows of a type in a month any more, because of what was done to them."""

    gone: bool = False
    """Rows were dropped: none is left, or only held ones. Frozen numbers stand for all that there were."""
    users: bool = False
    """Distinct users are not those of the rows: the frozen numbers have them."""
    grain_ms: int = 0
    """Times are rounded down to whole multiples of this; 0: they are as they were."""
    since_ms: int = 0
    """When that was done."""
    source: bool = False
    """Sources are not those of the rows."""

    def joined(self, later: Loss) -> Loss:
        """Both, one after the other. When is what the later one says."""
        return Loss(
            self.gone or later.gone,
            self.users or later.users,
            max(self.grain_ms, later.grain_ms),
            later.since_ms,
            self.source or later.source,
        )


Losses = Mapping[str, Loss]
"""Type -> what was lost of it; types without an entry are whole."""


def dated(lost: Losses, deed: Deed | None) -> Losses:
    """Losses that say when: those that do not yet are of this deed."""
    now_ms = deed.time_ms if deed else 0
    return {name: loss if loss.since_ms else replace(loss, since_ms=now_ms) for name, loss in lost.items()}


def losses_of(change: Rewrite, lost: Losses) -> Losses:
    """What a month lacks after a change, if it lacked that before. When is left to `dated`."""
    if change.profile is None:
        fresh = Loss(gone=True)
    else:
        time = change.profile.rule("timestamp")
        users = change.profile.rule("user_id").treatment is not Treatment.KEEP
        source = change.profile.rule("source").treatment is not Treatment.KEEP
        fresh = Loss(users=users, grain_ms=time.grain_ms if time.treatment is Treatment.ROUND else 0, source=source)
    return {**lost, **{name: lost.get(name, Loss()).joined(fresh) for name in change.rows.types}}


@dataclass(frozen=True, slots=True)
class Claimed:
    """Types that are called anonymous: each number that is kept of them has to stand for k users at least."""

    types: tuple[str, ...]
    k: int


def claimed_by(change: Rewrite) -> Claimed | None:
    """What is called anonymous if the check of the rows passes."""
    if change.profile is None or change.profile.claim is not Claim.ANONYMOUS:
        return None
    return Claimed(change.rows.types, max(change.profile.k, 1))


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The next generation of a sealed month with a rewrite done, complete on disk, which nobody reads yet."""

    rebuilt: Rebuilt
    rows_before: int
    treated: int
    """Rows that went through the profile, or went."""
    withheld: tuple[tuple[str, int], ...]
    """(code of the hold, rows that it kept as they were), by code."""
    bytes_before: int
    bytes_after: int
    claimed: Claimed | None
    """Set if the claim of the profile is "anonymous" and its check passed."""
    checks: tuple[tuple[str, str], ...]
    """(what was compared before it was believed, "ok" or "failed"), by name."""
    lost: Losses = field(default_factory=dict)
    """What the generation lacks, with what was lost before."""

    @property
    def anonymous(self) -> bool:
        """Whether that is what the rows may be called, if nothing else has their originals."""
        return self.claimed is not None


@dataclass(frozen=True, slots=True)
class MonthStocks:
    """What one month holds, as planning has to know it."""

    month: Month
    generation: int
    state: MonthState
    digest: str
    """Of a sealed month; "" otherwise."""
    stocks: tuple[Stock, ...]
    first_ms: int | None
    last_ms: int | None


T = TypeVar("T")


class OnWriter(Protocol):
    """Runs something where the writer runs, between two groups, and gives back what it gave back."""

    def __call__(self, action: Callable[[], T], /) -> T: ...


Heard = Callable[[int], None]
"""Told how many rows are done, now and then; what it raises ends the work."""


def nobody(_rows: int) -> None:
    """Who is told where nobody wants to know."""
