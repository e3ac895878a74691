"""Which questions a month can still answer after its rows changed or went, and from what: the same for every engine.

A question touches a type of a month if the filter can hold for it. Of a type that lost something, events come from the
frozen quarter-hours wherever these can tell, or from cells where quarter-hours are not told any more; otherwise from
the rows, if there are any that can. Distinct users come from one frozen cell, or not at all: numbers of users cannot be
put together. What none of them can tell is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from retention.month import Month
from server.errors import Precondition, TrackdError
from server.frozen import ANY_TYPE, GRAINS, Cell, Detail, Kept, KeptMonths
from server.model import Dimension, EventFilter
from server.question import Bucket, BucketUnit, Field, FieldKind, MetricKind, Predicate, Question
from server.rewriting import Losses
from server.storage.narrowed import fields_of, restricted
from server.time_buckets import DAY_MS, HOUR_MS, QUARTER_MS, bucket_of, offset_ms, zone_of

_WIDTHS_MS = {BucketUnit.QUARTER_HOUR: QUARTER_MS, BucketUnit.HOUR: HOUR_MS}
"""Wall clocks show the begins of the others at whole days."""
_COUNTED = frozenset({FieldKind.TYPE, FieldKind.SOURCE})
NAMES_MAX = 5
"""So many types are named in a refusal."""


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
    """Types whose events come from the frozen numbers: their rows are left out."""
    coarse: frozenset[str] = frozenset()
    """Those of `counted` whose events only `cells` tell; of the others the quarter-hours do."""
    people: frozenset[str] = frozenset()
    """Types whose users come from the cells; with ANY_TYPE alone those of all types do, whole ones too."""
    cells: Cells | None = None
    """Set if there are `people` or `coarse` types; otherwise if the groups of some types are cells. Their events are
    those of the quarter-hours."""
    k: Mapping[str, int] = field(default_factory=dict)
    """Types whose numbers were coarse when this was decided, and how coarse (server.frozen.Detail)."""

    @property
    def types(self) -> frozenset[str]:
        """Of what frozen numbers are needed."""
        return self.counted | self.people

    def among(self, cells: Iterable[Cell]) -> Iterator[Cell]:
        """Those of a type that are groups of the question."""
        return self.cells.among(cells) if self.cells else iter(())

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
    details = [detail for month in months if month in kept for detail in kept[month].details.values()]
    zones = list(dict.fromkeys(zone for detail in details for zone in detail.zones))
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
    if any(detail.k for detail in details):
        message += (
            ", but of types that are anonymous only by those days, weeks and months of UTC that all have users enough"
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
    of_sources = bool(where.sources) or Dimension.SOURCE in by
    for month in filter(where.touches, months):
        for name, loss in losses.get(month, {}).items():
            cut = [at for at in (where.start_ms, where.end_ms) if at is not None and month.start_ms < at < month.end_ms]
            rounded = bool(loss.grain_ms) and any(at % loss.grain_ms for at in cut)
            hidden = (loss.users and of_users) or (loss.source and of_sources)
            if (not where.types or name in where.types) and (loss.gone or hidden or rounded):
                refused.setdefault(month, []).append(name)
    if refused:
        raise frozen_grain(refused, sorted({name for types in refused.values() for name in types}), kept)


def spans(months: Sequence[Month]) -> str:
    """Rising months as text; those that follow each other as one span."""
    runs: list[list[Month]] = []
    for month in months:
        if runs and runs[-1][-1].end_ms == month.start_ms:
            runs[-1].append(month)
        else:
            runs.append([month])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def lost_types(lost: Losses) -> list[str]:
    """The types whose rows are gone."""
    return sorted(name for name, loss in lost.items() if loss.gone)


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
    coarse: set[str] = field(default_factory=set)
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
            elif self._countable_by_cells(name):
                self.counted.add(name)
                self.coarse.add(name)
            elif not self._told_by_rows(name):
                self.refused.append(name)
        if any(metric.kind is MetricKind.USERS for metric in self.question.metrics):
            self._find_people()

    def share(self) -> Share:
        for name in self.counted if self.cells is None else ():
            if self._kinds(name) <= {FieldKind.TYPE} and self._find_cells(name, self._details[name].grains):
                break
        coarse = frozenset(self.coarse & self.counted)
        k = {name: detail.k for name, detail in self._details.items() if detail.k}
        return Share(self.month, frozenset(self.counted), coarse, frozenset(self.people), self.cells, k)

    # Events

    def _countable(self, name: str) -> bool:
        """Whether frozen quarter-hours tell all that is asked, but for users."""
        return (
            name in self._details
            and self._details[name].quarters
            and self._kinds(name) <= _COUNTED
            and not any(metric.kind.of_numbers for metric in self.question.metrics)
            and self._told_at(QUARTER_MS)
        )

    def _countable_by_cells(self, name: str) -> bool:
        """Whether frozen cells do, of which a type that has no quarter-hours any more has the only numbers."""
        return (
            name in self._details
            and not self._details[name].quarters
            and self._kinds(name) <= {FieldKind.TYPE}
            and not any(metric.kind.of_numbers for metric in self.question.metrics)
            and self._find_cells(name, self._details[name].grains)
        )

    def _told_by_rows(self, name: str) -> bool:
        """Whether the rows as they are now have the events in question, in the right groups."""
        loss = self.losses[name]
        kinds = self._kinds(name)
        if loss.gone or (loss.users and FieldKind.USER in kinds):
            return False
        # Plain counts by source are what they were, or refused; other questions see the rows as they are now.
        if loss.source and FieldKind.SOURCE in kinds <= _COUNTED:
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
        if not fields and self._find_users(ANY_TYPE):
            self.people = {ANY_TYPE}
            return
        self.counted.intersection_update(lacking)
        for name in lacking:
            if self._kinds(name) <= {FieldKind.TYPE} and self._find_users(name):
                self.people.add(name)
            elif name not in self.refused:
                self.refused.append(name)

    def _has_users(self, name: str) -> bool:
        return not self.losses[name].users and self._told_by_rows(name)

    @property
    def _details(self) -> Mapping[str, Detail]:
        return self.kept.details if self.kept else {}

    def _find_users(self, name: str) -> bool:
        return name in self._details and self._find_cells(name, self._details[name].users)

    def _find_cells(self, name: str, grains: Sequence[BucketUnit]) -> bool:
        """Whether each group of the question is a frozen cell of one of these grains, as far as it lies in this month.

        Where several are, it is the coarsest, which every type has that has a finer one.
        """
        zones = self._details[name].zones
        unit = self._unit()
        if unit is None:
            self.cells = self.cells or self._one_cell(zones)
            return self.cells is not None and self.cells.zone in zones and self.cells.grain in grains
        zone = self.question.time_zone
        if zone not in zones or unit not in grains or not all(begins(at, unit, zone) for at in self._bounds()):
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
