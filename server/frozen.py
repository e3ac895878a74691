"""Numbers that stay when rows change or go: counted from a sealed month before that, exactly, once. Frozen values.

Only numbers: a set of users would be personal data, so no two of these can be put together to distinct users of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from retention.month import Month
from server.errors import Precondition, TrackdError
from server.question import BucketUnit

ANY_TYPE = ""
"""Stands for events of all types together; no type is called so."""

GRAINS = (BucketUnit.DAY, BucketUnit.WEEK, BucketUnit.MONTH)
"""The buckets that users are counted by."""


@dataclass(frozen=True, slots=True)
class Quarters:
    """Events by quarter-hour of UTC and source: columns of equal length, ordered by both; only where there are any."""

    starts_ms: Sequence[int]
    sources: Sequence[str]
    events: Sequence[int]


@dataclass(frozen=True, slots=True)
class Cell:
    """A local day, week or month, as far as it lies in the UTC month. Nobody ("") is not a user."""

    zone: str
    grain: BucketUnit
    bucket_ms: int
    """What names the bucket (server.question.BucketUnit): it may lie before the month."""
    events: int
    users: int


@dataclass(frozen=True, slots=True)
class FrozenType:
    """The numbers of one type in one month."""

    quarters: Quarters
    cells: Sequence[Cell]
    """Where there are events, in the order of zone, grain and bucket."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """The numbers of some types in one month."""

    month: Month
    zones: tuple[str, ...]
    """The time zones of the cells; "UTC" is the first."""
    types: Mapping[str, FrozenType]
    """Also of types that have no events in the month."""
    together: Sequence[Cell] | None
    """Of all types of the month; None if they were frozen with other types before."""
    last_position: int
    """None of the month's events lies behind it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is frozen of a month, without the numbers."""

    zones: Mapping[str, tuple[str, ...]]
    """Type, ANY_TYPE among them -> the time zones of its cells."""
    last_position: int

    @property
    def types(self) -> frozenset[str]:
        """The types whose numbers are frozen."""
        return frozenset(self.zones) - {ANY_TYPE}


KeptMonths: TypeAlias = Mapping[Month, Kept]


def joined(frozen: Frozen, known: Kept | None) -> Kept:
    """What is frozen of a month once this is kept as well. Precondition(NUMBERS_FROZEN) for what is frozen already."""
    before = known.zones if known else {}
    names = [*frozen.types, *([] if frozen.together is None else [ANY_TYPE])]
    twice = sorted(before.keys() & set(names))
    if twice:
        raise already_frozen(frozen.month, twice)
    last = max(frozen.last_position, known.last_position if known else 0)
    return Kept({**before, **dict.fromkeys(names, frozen.zones)}, last)


def already_frozen(month: Month, types: Sequence[str]) -> TrackdError:
    """Numbers are never frozen twice: the rows may not be what they were."""
    return Precondition(
        "NUMBERS_FROZEN",
        f"the numbers of {', '.join(name or 'all types together' for name in types)} in {month} are frozen already",
        hint="they are kept for good: go on without freezing them again",
    )
