"""Numbers that stay when rows change or go: counted from a sealed month before that, exactly, once. Frozen values.

Only numbers: a set of users would be personal data, so no two of these can be put together to distinct users of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from retention.month import Month
from server.errors import Precondition, TrackdError
from server.question import BucketUnit

ANY_TYPE = ""
"""Stands for events of all types together; no type is called so."""

GRAINS = (BucketUnit.DAY, BucketUnit.WEEK, BucketUnit.MONTH)
"""The buckets that users are counted by: each is made of whole ones of those before it, inside of a month."""
UTC = "UTC"


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
    """The time zones of the cells; UTC is the first."""
    types: Mapping[str, FrozenType]
    """Also of types that have no events in the month."""
    together: Sequence[Cell] | None
    """Of all types of the month; None if they were frozen with other types before."""
    last_position: int
    """None of the month's events lies behind it."""


@dataclass(frozen=True, slots=True)
class Detail:
    """How fine the frozen numbers of one type, or of all together, are."""

    zones: tuple[str, ...]
    """The time zones of the cells."""
    users: tuple[BucketUnit, ...] = GRAINS
    """The buckets whose users are told: what is left of GRAINS from one of them on."""
    k: int = 0
    """In each cell that is left are no users at all or so many at least; 0: nothing was taken away."""

    @property
    def grains(self) -> tuple[BucketUnit, ...]:
        """The buckets whose events are told: those of the whole month always."""
        return self.users or GRAINS[-1:]

    @property
    def quarters(self) -> bool:
        """Whether events are told by source and quarter-hour as well; never of all types together."""
        return not self.k


@dataclass(frozen=True, slots=True)
class Kept:
    """What is frozen of a month, without the numbers."""

    details: Mapping[str, Detail]
    """Of each type, ANY_TYPE among them."""
    last_position: int

    @property
    def types(self) -> frozenset[str]:
        """The types whose numbers are frozen."""
        return frozenset(self.details) - {ANY_TYPE}


KeptMonths: TypeAlias = Mapping[Month, Kept]


def joined(frozen: Frozen, known: Kept | None) -> Kept:
    """What is frozen of a month once this is kept as well. Precondition(NUMBERS_FROZEN) for what is frozen already."""
    before = known.details if known else {}
    names = [*frozen.types, *([] if frozen.together is None else [ANY_TYPE])]
    twice = sorted(before.keys() & set(names))
    if twice:
        raise already_frozen(frozen.month, twice)
    last = max(frozen.last_position, known.last_position if known else 0)
    return Kept({**before, **dict.fromkeys(names, Detail(frozen.zones))}, last)


def coarsened(kept: Kept, cells: Mapping[str, Sequence[Cell]], types: Iterable[str], k: int) -> dict[str, Detail]:
    """What may still be told of these types, and of all together, where each number stands for k users at least.

    Cells are not hidden one by one: what is left out of a sum can be had from the sum and the others. So all buckets of
    a grain stay or none, in UTC alone (a local day less a UTC day is an hour), and quarter-hours and sources go. Those
    of all types together keep only what each type has, for the same reason. Events of whole months always stay. Of
    distinct users, which do not add up, each number is of k at least; how two of them differ may tell of fewer.
    """
    coarse = {name: _coarser(kept.details[name], cells.get(name, ()), k) for name in kept.types.intersection(types)}
    if ANY_TYPE in kept.details:
        every = {name: coarse.get(name) or _coarser(kept.details[name], cells.get(name, ()), k) for name in kept.types}
        every[ANY_TYPE] = _coarser(kept.details[ANY_TYPE], cells.get(ANY_TYPE, ()), k)
        common = set(every[ANY_TYPE].users)
        if sum(_events(cells.get(name, ())) for name in kept.types) == _events(cells.get(ANY_TYPE, ())):
            common.intersection_update(*(set(one.users) for one in every.values()))
        else:  # nobody can say how many users the others have
            common.clear()
        coarse[ANY_TYPE] = replace(every[ANY_TYPE], users=tuple(grain for grain in GRAINS if grain in common))
    return coarse


def _coarser(detail: Detail, cells: Sequence[Cell], k: int) -> Detail:
    few = {cell.grain for cell in cells if cell.zone == UTC and 0 < cell.users < k}
    return Detail((UTC,), tuple(grain for grain in detail.users if grain not in few), max(k, detail.k))


def _events(cells: Sequence[Cell]) -> int:
    return sum(cell.events for cell in cells if (cell.zone, cell.grain) == (UTC, GRAINS[-1]))


def already_frozen(month: Month, types: Sequence[str]) -> TrackdError:
    """Numbers are never frozen twice: the rows may not be what they were."""
    return Precondition(
        "NUMBERS_FROZEN",
        f"the numbers of {', '.join(name or 'all types together' for name in types)} in {month} are frozen already",
        hint="they are kept for good: go on without freezing them again",
    )
