"""Computing one table from events, said as plainly as it can be: every event is looked at, every group is a list.

Nothing here is clever on purpose. Engines that are clever are compared with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from operator import itemgetter
from typing import Any, TypeAlias

from retention.month import Month
from server.errors import TrackdError
from server.frozen import Cell, FrozenType
from server.model import Event
from server.question import (
    AllOf,
    AnyOf,
    Bucket,
    Field,
    FieldKind,
    GroupBy,
    Metric,
    MetricKind,
    Not,
    OneOf,
    Predicate,
    Present,
    Question,
    Ranking,
    StartsWith,
    Table,
)
from server.storage.frozen_grain import Share
from server.time_buckets import bucket_of, zone_of

Key: TypeAlias = int | str | None
Value: TypeAlias = int | float | None


@dataclass
class Group:
    """What lies in one group."""

    events: list[Event] = field(default_factory=list)
    frozen: int = 0
    """Events of which only the number is known."""
    people: set[str] = field(default_factory=set)
    """Users of the events, but for those whose users come from a cell."""
    cells: list[int] = field(default_factory=list)
    """Numbers of users of which only that is known."""


@dataclass(frozen=True)
class FrozenPart:
    """How a month that lost something answers, with its numbers."""

    share: Share
    numbers: Mapping[str, FrozenType]
    refusal: TrackdError
    """What to raise if its users had to be put together with others."""


def table(question: Question, events: Iterable[Event], parts: Mapping[Month, FrozenPart] | None = None) -> Table:
    """The answer to a question about these events, and about the frozen parts of months.

    Raises the refusal of a part whose users would have to be counted together with others.
    """
    groups = gathered(question, events, parts or {})
    rows = [keys + tuple(measured(metric, group) for metric in question.metrics) for keys, group in groups.items()]
    rows = ordered(rows, [*question.order, *(Ranking(column) for column in range(len(question.by)))])
    shown = rows[: question.limit] if question.limit else rows
    columns = tuple(tuple(row[column] for row in shown) for column in range(len(question.by) + len(question.metrics)))
    return Table(
        keys=columns[: len(question.by)],  # type: ignore[arg-type]  # keys come first in a row
        values=columns[len(question.by) :],  # type: ignore[arg-type]
        rows=len(shown),
        more=len(shown) < len(rows),
    )


def gathered(
    question: Question, events: Iterable[Event], parts: Mapping[Month, FrozenPart]
) -> dict[tuple[Key, ...], Group]:
    """All groups, each with what lies in it."""
    groups: dict[tuple[Key, ...], Group] = {}
    if not question.by:
        groups[()] = Group()
    for event in events:
        part = parts.get(Month.of(event.timestamp_ms))
        if is_asked_for(question, event) and not (part and event.type in part.share.counted):
            for keys in all_keys(question, event):
                group = groups.setdefault(keys, Group())
                group.events.append(event)
                if event.user_id and (part is None or part.share.users_of_rows(event.type)):
                    group.people.add(event.user_id)
    for part in parts.values():
        _add_frozen(question, part, groups)
    return groups


def _add_frozen(question: Question, part: FrozenPart, groups: dict[tuple[Key, ...], Group]) -> None:
    """Rows are in the groups already."""
    for stand_in, number in counted(part):
        for keys in all_keys(question, stand_in) if is_asked_for(question, stand_in) else ():
            groups.setdefault(keys, Group()).frozen += number
    for keys, cell in cells_of(question, part, part.share.coarse):
        groups.setdefault(keys, Group()).frozen += cell.events
    for keys, cell in cells_of(question, part, part.share.people):
        if cell.users:
            groups[keys].cells.append(cell.users)
            if len(groups[keys].cells) + bool(groups[keys].people) > 1:
                raise part.refusal


def ordered(rows: Sequence[tuple[Any, ...]], ranking: Sequence[Ranking]) -> list[tuple[Any, ...]]:
    """The rows by the first part of the ranking, equal ones by the second, and so on; None last in both directions."""
    result = list(rows)
    # Sorting keeps the order of equals, also of descending ones: so the part that decides first sorts last.
    for part in reversed(ranking):
        present = [row for row in result if row[part.column] is not None]
        absent = [row for row in result if row[part.column] is None]
        result = sorted(present, key=itemgetter(part.column), reverse=part.descending) + absent
    return result


# Which events


def is_asked_for(question: Question, event: Event) -> bool:
    """Whether the event lies in the time range of the question and matches its filter."""
    return (
        (question.start_ms is None or event.timestamp_ms >= question.start_ms)
        and (question.end_ms is None or event.timestamp_ms < question.end_ms)
        and holds(question.where, event)
    )


def holds(predicate: Predicate, event: Event) -> bool:
    """Whether the predicate is true of the event."""
    match predicate:
        case OneOf(field, texts):
            return any(value in texts for value in values_of(event, field))
        case StartsWith(field, prefixes):
            return any(value.startswith(prefix) for value in values_of(event, field) for prefix in prefixes)
        case Present(field):
            nothing = [""] if field.kind in (FieldKind.USER, FieldKind.SESSION) else []
            return values_of(event, field) != nothing
        case AllOf(parts):
            return all(holds(part, event) for part in parts)
        case AnyOf(parts):
            return any(holds(part, event) for part in parts)
        case Not(part):
            return not holds(part, event)


# Which groups


def all_keys(question: Question, event: Event) -> Iterable[tuple[Key, ...]]:
    """The groups that the event lies in."""
    return product(*(keys_of(event, by, question.time_zone) for by in question.by))


def counted(part: FrozenPart) -> Iterator[tuple[Event, int]]:
    """For each frozen quarter-hour an event that stands for all of it, and how many there were."""
    for name in part.share.counted - part.share.coarse:
        quarters = part.numbers[name].quarters
        for start_ms, source, number in zip(quarters.starts_ms, quarters.sources, quarters.events, strict=True):
            yield Event(0, b"", name, "", source, start_ms, 0), number


def cells_of(question: Question, part: FrozenPart, types: Iterable[str]) -> Iterator[tuple[tuple[Key, ...], Cell]]:
    """The groups that are frozen cells of these types, with the cells."""
    for name in types:
        for cell in part.share.among(part.numbers[name].cells):
            yield tuple(cell.bucket_ms if isinstance(by, Bucket) else name for by in question.by), cell


def keys_of(event: Event, by: GroupBy, time_zone: str) -> Sequence[Key]:
    """All keys that the event has in one dimension: at least one, None if it has no value."""
    if isinstance(by, Bucket):
        return [bucket_of(event.timestamp_ms, by.unit, zone_of(time_zone))]
    return values_of(event, by) or [None]


def values_of(event: Event, field: Field) -> list[str]:
    """The values of a field: several of tags, none of what is absent."""
    match field.kind:
        case FieldKind.TYPE:
            return [event.type]
        case FieldKind.SOURCE:
            return [event.source]
        case FieldKind.USER:
            return [event.user_id]
        case FieldKind.SESSION:
            return [event.session_id]
        case FieldKind.TAG:
            return list(dict.fromkeys(event.tags))
        case FieldKind.METADATA:
            return _texts(_metadata(event).get(field.key))


# What to compute


def measured(metric: Metric, group: Group) -> Value:
    """One metric over one group."""
    if metric.kind is MetricKind.EVENTS:
        return len(group.events) + group.frozen
    if metric.kind is MetricKind.USERS:
        return len(group.people) + sum(group.cells)
    numbers = sorted(number for event in group.events for number in _numbers(_metadata(event).get(metric.key)))
    return computed(metric.kind, numbers) if numbers else None


def computed(kind: MetricKind, numbers: Sequence[float]) -> float:
    """A metric of numbers: at least one, rising."""
    share = kind.percentile
    if share is not None:
        return percentile(numbers, share)
    if kind is MetricKind.MIN:
        return numbers[0]
    if kind is MetricKind.MAX:
        return numbers[-1]
    total = sum(map(Fraction, numbers), Fraction())
    return _double(total / len(numbers) if kind is MetricKind.AVG else total)


def percentile(numbers: Sequence[float], share: float) -> float:
    """The number at `share` of the way from the first (0) to the last (1), between two of them interpolated."""
    place = share * (len(numbers) - 1)
    below = numbers[math.floor(place)]
    above = numbers[math.ceil(place)]
    return below + (above - below) * (place - math.floor(place))


def _double(exact: Fraction) -> float:
    """The nearest double; infinite beyond them."""
    try:
        return float(exact)
    except OverflowError:
        return math.copysign(math.inf, exact)


# Metadata


class _Number(str):
    """A JSON number, as the text that was sent."""

    __slots__ = ()


def _first_of_each_key(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))


_DECODER = json.JSONDecoder(object_pairs_hook=_first_of_each_key, parse_int=_Number, parse_float=_Number)


def _metadata(event: Event) -> dict[str, Any]:
    """The top-level keys of the metadata with their values: texts, _Number, bool, None, and whatever is nested."""
    value: dict[str, Any] = _DECODER.decode(event.metadata) if event.metadata else {}
    return value


def _texts(value: Any) -> list[str]:
    """The value as a filter and a dimension see it."""
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [str(value)] if isinstance(value, str) else []


def _numbers(value: Any) -> list[float]:
    """The value as a metric sees it."""
    number = float(value) if isinstance(value, _Number) else math.inf
    return [number] if math.isfinite(number) else []
