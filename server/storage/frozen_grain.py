"""Which questions a month can still answer after its rows changed or went, and from what: the same for every engine.

A question touches a type of a month if the filter can hold for it. Of a type that lost something, events come from the
frozen quarter-hours wherever these can tell, otherwise from the rows, if there are any that can. Distinct users come
from one frozen cell, or not at all: numbers of users cannot be put together. What neither can tell is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from retention.month import Month
from server.errors import Precondition, TrackdError
from server.frozen import ANY_TYPE, GRAINS, Cell, Kept, KeptMonths
from server.model import Dimension, EventFilter
from server.question import (
    AllOf,
    AnyOf,
    Bucket,
    BucketUnit,
    Field,
    FieldKind,
    MetricKind,
    Not,
    OneOf,
    Predicate,
    Present,
    Question,
    StartsWith,
)
from server.rewriting import Losses
from server.time_buckets import DAY_MS, HOUR_MS, QUARTER_MS, bucket_of, offset_ms, zone_of

_WIDTHS_MS = {BucketUnit.QUARTER_HOUR: QUARTER_MS, BucketUnit.HOUR: HOUR_MS}
"""Wall clocks show the begins of the others at whole days."""
_COUNTED = frozenset({FieldKind.TYPE, FieldKind.SOURCE})
NAMES_MAX = 5
"""So many types are named in a refusal."""

_TYPE = Field(FieldKind.TYPE)


@dataclass(frozen=True, slots=True)
class Cells:
    """The frozen cells that are groups of a question: one zone and grain, buckets from the first to the last."""

    zone: str
    grain: BucketUnit
    first_ms: int
    last_ms: int

    def among(self, cells: Iterable[Cell]) -> Iterator[Cell]:
        """Those of a type."""
        for cell in cells:
            if (cell.zone, cell.grain) == (self.zone, self.grain) and self.first_ms <= cell.bucket_ms <= self.last_ms:
                yield cell


@dataclass(frozen=True, slots=True)
class Share:
    """How a month that lost something answers a question. Types that are in neither place are read as ever."""

    month: Month
    counted: frozenset[str] = frozenset()
    """Types whose events come from the frozen quarter-hours: their rows are left out."""
    people: frozenset[str] = frozenset()
    """Types whose users come from the cells; with ANY_TYPE alone those of all types do, whole ones too."""
    cells: Cells | None = None
    """Set if there are `people`; otherwise if the groups of some types are cells. Their events are the same."""

    @property
    def types(self) -> frozenset[str]:
        """Of what frozen numbers are needed."""
        return self.counted | self.people

    def users_of_rows(self, event_type: str) -> bool:
        """Whether the users of this type's rows count."""
        return not self.people & {event_type, ANY_TYPE}


def shares(
    question: Question, months: Iterable[Month], losses: Mapping[Month, Losses], kept: KeptMonths
) -> dict[Month, Share]:
    """The shares of those of the months, all in the question's time range, that cannot answer it from rows alone.

    Raises Precondition(FROZEN_GRAIN) if there is a month that cannot answer it at all.
    """
    found: dict[Month, Share] = {}
    refused: dict[Month, list[str]] = {}
    left: dict[str, Predicate | bool] = {}
    nothing = question.start_ms is not None and question.end_ms is not None and question.start_ms >= question.end_ms
    for month in months:
        lost = losses.get(month)
        if lost and not nothing:
            ruling = _Ruling(question, month, lost, kept.get(month), left)
            if ruling.refused:
                refused[month] = ruling.refused
            elif ruling.touched:
                found[month] = ruling.share()
    if refused:
        names = sorted({name for types in refused.values() for name in types})
        raise frozen_grain(refused, names, kept)
    return found


def frozen_grain(months: Iterable[Month], types: Sequence[str], kept: KeptMonths) -> TrackdError:
    """The refusal: what cannot be told, and what can."""
    months = sorted(months)
    zones = list(dict.fromkeys(zone for month in months if month in kept for zone in _zones(kept[month])))
    named = ", ".join([*types[:NAMES_MAX], *([f"{len(types) - NAMES_MAX} more"] if len(types) > NAMES_MAX else [])])
    message = (
        f"neither the rows of {spans(months)} ({named or 'all types'}), which retention changed or dropped, nor their "
        "frozen numbers can tell this"
    )
    if zones:
        message += (
            "; frozen are events by type, source and quarter-hour of UTC, and distinct users of one type or of all in "
            f"a day, week or month ({', '.join(zones)}) inside of one UTC month"
        )
    return Precondition(
        "FROZEN_GRAIN",
        message,
        hint="ask for what is frozen, or leave these months out by a range of time, or these types by a filter",
    )


def not_united(found: Iterable[Share], kept: KeptMonths) -> TrackdError:
    """The refusal of a group that has users of several frozen cells, or of one and of rows."""
    numbered = [share for share in found if share.people]
    types = {name for share in numbered for name in share.types} - {ANY_TYPE}
    return frozen_grain([share.month for share in numbered], sorted(types), kept)


def check_rows_tell(
    where: EventFilter,
    by: Sequence[Dimension],
    months: Iterable[Month],
    losses: Mapping[Month, Losses],
    kept: KeptMonths,
) -> None:
    """Raises Precondition(FROZEN_GRAIN) if counts of rows would not be those of the events that there were."""
    refused: dict[Month, list[str]] = {}
    of_users = bool(where.user_ids) or Dimension.USER in by
    for month in filter(where.touches, months):
        for name, loss in losses.get(month, {}).items():
            cut = [at for at in (where.start_ms, where.end_ms) if at is not None and month.start_ms < at < month.end_ms]
            rounded = bool(loss.grain_ms) and any(at % loss.grain_ms for at in cut)
            if (not where.types or name in where.types) and (loss.gone or (loss.users and of_users) or rounded):
                refused.setdefault(month, []).append(name)
    if refused:
        raise frozen_grain(refused, sorted({name for types in refused.values() for name in types}), kept)


def _zones(kept: Kept) -> Iterator[str]:
    for zones in kept.zones.values():
        yield from zones


def spans(months: Sequence[Month]) -> str:
    """Rising months as text; those that follow each other as one span."""
    runs: list[list[Month]] = []
    for month in months:
        if runs and runs[-1][-1].end_ms == month.start_ms:
            runs[-1].append(month)
        else:
            runs.append([month])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


# One month


@dataclass(slots=True)
class _Ruling:
    """One question and one month. `touched` has what is left of the filter for each type that lost something.

    `left` is the same for all months, filled as they are looked at.
    """

    question: Question
    month: Month
    losses: Losses
    kept: Kept | None
    left: dict[str, Predicate | bool]
    touched: dict[str, Predicate | bool] = field(default_factory=dict)
    counted: set[str] = field(default_factory=set)
    people: set[str] = field(default_factory=set)
    cells: Cells | None = None
    refused: list[str] = field(default_factory=list)
    told: dict[int, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.losses:
            if name not in self.left:
                self.left[name] = restricted(self.question.where, name)
            if self.left[name] is not False:
                self.touched[name] = self.left[name]
        if not self.touched:
            return
        for name in self.touched:
            if self._countable(name):
                self.counted.add(name)
            elif not self._told_by_rows(name):
                self.refused.append(name)
        if any(metric.kind is MetricKind.USERS for metric in self.question.metrics):
            self._find_people()

    def share(self) -> Share:
        for name in self.counted if self.cells is None else ():
            if self._kinds(name) <= {FieldKind.TYPE} and self._find_cells(name):
                break
        return Share(self.month, frozenset(self.counted), frozenset(self.people), self.cells)

    # Events

    def _countable(self, name: str) -> bool:
        """Whether frozen quarter-hours tell all that is asked, but for users."""
        return (
            self.kept is not None
            and name in self.kept.types
            and self._kinds(name) <= _COUNTED
            and not any(metric.kind.of_numbers for metric in self.question.metrics)
            and self._told_at(QUARTER_MS)
        )

    def _told_by_rows(self, name: str) -> bool:
        """Whether the rows as they are now have the events in question, in the right groups."""
        loss = self.losses[name]
        if loss.gone or (loss.users and FieldKind.USER in self._kinds(name)):
            return False
        return not loss.grain_ms or self._told_at(loss.grain_ms)

    def _kinds(self, name: str) -> set[FieldKind]:
        """What the question looks at in events of this type, besides time."""
        left = self.touched[name]
        kinds = {entry.kind for entry in self.question.by if isinstance(entry, Field)}
        return kinds if isinstance(left, bool) else kinds | {entry.kind for entry in fields_of(left)}

    def _told_at(self, grain_ms: int) -> bool:
        """Whether times that are rounded down to a grain lie in the same groups as before."""
        if grain_ms not in self.told:
            unit, zone = self._unit(), self.question.time_zone
            self.told[grain_ms] = not any(bound % grain_ms for bound in self._bounds()) and (
                unit is None or one_bucket_a_grain(self.month, zone, unit, grain_ms)
            )
        return self.told[grain_ms]

    def _bounds(self) -> Iterator[int]:
        """The ends of the time range that lie inside of the month."""
        for bound in (self.question.start_ms, self.question.end_ms):
            if bound is not None and self.month.start_ms < bound < self.month.end_ms:
                yield bound

    def _unit(self) -> BucketUnit | None:
        return next((entry.unit for entry in self.question.by if isinstance(entry, Bucket)), None)

    # Users

    def _find_people(self) -> None:
        lacking = [name for name in self.touched if not self._has_users(name)]
        if not lacking:
            # Events and users of one type come from the same place.
            self.counted.clear()
            return
        fields = fields_of(self.question.where).union(by for by in self.question.by if isinstance(by, Field))
        if not fields and ANY_TYPE in self._zones and self._find_cells(ANY_TYPE):
            self.people = {ANY_TYPE}
            return
        self.counted.intersection_update(lacking)
        for name in lacking:
            if self._kinds(name) <= {FieldKind.TYPE} and name in self._zones and self._find_cells(name):
                self.people.add(name)
            elif name not in self.refused:
                self.refused.append(name)

    def _has_users(self, name: str) -> bool:
        return not self.losses[name].users and self._told_by_rows(name)

    @property
    def _zones(self) -> Mapping[str, tuple[str, ...]]:
        return self.kept.zones if self.kept else {}

    def _find_cells(self, name: str) -> bool:
        """Whether each group of the question is a frozen cell, as far as it lies in this month."""
        zones = self._zones[name]
        unit = self._unit()
        if unit is None:
            self.cells = self.cells or self._one_cell(zones)
            return self.cells is not None and self.cells.zone in zones
        zone = self.question.time_zone
        if zone not in zones or unit not in GRAINS or not all(begins(at, unit, zone) for at in self._bounds()):
            return False
        self.cells = self._from_to(zone, unit)
        return True

    def _one_cell(self, zones: Sequence[str]) -> Cells | None:
        """The cell that is the time range, as far as it lies in this month; the month as a whole, if it is that."""
        for zone in zones:
            for unit in reversed(GRAINS):
                cells = self._from_to(zone, unit)
                if cells.first_ms == cells.last_ms and all(begins(at, unit, zone) for at in self._bounds()):
                    return cells
        return None

    def _from_to(self, zone: str, unit: BucketUnit) -> Cells:
        start_ms, end_ms = self.month.start_ms, self.month.end_ms
        if self.question.start_ms is not None:
            start_ms = max(start_ms, self.question.start_ms)
        if self.question.end_ms is not None:
            end_ms = min(end_ms, self.question.end_ms)
        where = zone_of(zone)
        return Cells(zone, unit, bucket_of(start_ms, unit, where), bucket_of(end_ms - 1, unit, where))


def begins(instant_ms: int, unit: BucketUnit, time_zone: str) -> bool:
    """Whether a local day, week or month begins here, and is not left again: clocks may go back over midnight."""
    zone = zone_of(time_zone)
    if bucket_of(instant_ms, unit, zone) != instant_ms:
        return False
    later_ms = instant_ms + 3 * HOUR_MS
    if offset_ms(later_ms, zone) >= offset_ms(instant_ms, zone):
        return True
    return all(bucket_of(at, BucketUnit.DAY, zone) >= instant_ms for at in range(instant_ms, later_ms, 60_000))


@lru_cache(maxsize=16_384)
def one_bucket_a_grain(month: Month, time_zone: str, unit: BucketUnit, grain_ms: int) -> bool:
    """Whether in this month all instants between two multiples of `grain_ms` lie in one bucket."""
    zone = zone_of(time_zone)
    fits = _WIDTHS_MS.get(unit, DAY_MS) % grain_ms == 0
    for day in range(month.start_ms, month.end_ms, DAY_MS):
        # The zone is asked for each stretch only where clocks change: no zone does so twice within a day.
        offset = offset_ms(day, zone)
        if fits and offset % grain_ms == 0 and offset == offset_ms(day + DAY_MS, zone):
            continue
        for at in range(day // grain_ms * grain_ms, day + DAY_MS, grain_ms):
            low, high = max(at, month.start_ms), min(at + grain_ms, month.end_ms) - 1
            # Each minute where it is on the hop: a local day can be left again for the one before.
            inside = range(low, high, 60_000) if offset_ms(low, zone) != offset_ms(high, zone) else (low,)
            bucket = bucket_of(high, unit, zone)
            if any(bucket_of(instant, unit, zone) != bucket for instant in inside):
                return False
    return True


# Filters


def restricted(where: Predicate, event_type: str) -> Predicate | bool:
    """What is left of a filter for events of one type: True or False where nothing else of them matters."""
    match where:
        case AllOf(parts):
            left = [restricted(part, event_type) for part in parts]
            open_parts = tuple(one for one in left if not isinstance(one, bool))
            return False if False in left else AllOf(open_parts) if open_parts else True
        case AnyOf(parts):
            left = [restricted(part, event_type) for part in parts]
            open_parts = tuple(one for one in left if not isinstance(one, bool))
            return True if True in left else AnyOf(open_parts) if open_parts else False
        case Not(part):
            one = restricted(part, event_type)
            return not one if isinstance(one, bool) else Not(one)
        case OneOf(entry, values):
            return event_type in values if entry == _TYPE else where
        case StartsWith(entry, prefixes):
            return event_type.startswith(prefixes) if entry == _TYPE else where
        case Present(entry):
            return True if entry == _TYPE else where


def fields_of(where: Predicate) -> set[Field]:
    """All fields that a predicate looks at."""
    if isinstance(where, AllOf | AnyOf):
        return set().union(*(fields_of(part) for part in where.parts))
    return fields_of(where.part) if isinstance(where, Not) else {where.field}


def without_users(question: Question) -> Question:
    """The same without the metric `users`; for engines that put an answer together from several places."""
    metrics = tuple(metric for metric in question.metrics if metric.kind is not MetricKind.USERS)
    return Question(metrics, question.by, question.where, question.start_ms, question.end_ms, question.time_zone)


def of_types(question: Question, types: Iterable[str], *, among: bool) -> Question:
    """The same about events of these types alone, or of all others."""
    named = tuple(sorted(types))
    if not named and not among:
        return question
    test = OneOf(_TYPE, named)
    where = AllOf((question.where, test if among else Not(test)))
    return Question(question.metrics, question.by, where, question.start_ms, question.end_ms, question.time_zone)


def lost_types(lost: Losses) -> list[str]:
    """The types whose rows are gone."""
    return sorted(name for name, loss in lost.items() if loss.gone)
