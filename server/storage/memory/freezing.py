"""Numbers of months: counted from their events, and looked up for questions. Said as plainly as it can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from retention.month import Month
from server.errors import NotFound, Precondition
from server.frozen import GRAINS, Cell, Frozen, FrozenType, Quarters
from server.model import Event, EventFilter, MonthInfo, MonthState
from server.question import BucketUnit, Question, Read
from server.storage.frozen_grain import not_united, shares
from server.storage.memory.aggregation import FrozenPart
from server.storage.memory.records import MemoryRecords
from server.storage.records import check_freezing
from server.time_buckets import QUARTER_MS, bucket_of, zone_of


def frozen_parts(
    question: Question, months: Iterable[MonthInfo], records: MemoryRecords, read: Read
) -> Mapping[Month, FrozenPart]:
    """How the months that lost something answer a question."""
    time_range = EventFilter(start_ms=question.start_ms, end_ms=question.end_ms)
    touched = [info.month for info in months if time_range.touches(info.month)]
    parts = {}
    kept, numbers = records.told
    found = shares(question, touched, records.losses, kept)
    refusal = not_united(found.values(), kept)
    for month, share in found.items():
        parts[month] = FrozenPart(share, numbers.get(month, {}), refusal)
        if share.types:
            read.frozen_months.add(month)
            read.frozen += sum(len(numbers[month][name].quarters.events) for name in share.counted - share.coarse)
            read.frozen += sum(1 for name in share.coarse for _ in share.among(numbers[month][name].cells))
    return parts


def freeze(
    info: MonthInfo | None,
    month: Month,
    types: Sequence[str],
    events: Iterable[Event],
    records: MemoryRecords,
    zones: tuple[str, ...],
) -> Frozen:
    """See the contract."""
    if info is None:
        raise NotFound("MONTH_UNKNOWN", f"there are no events of {month}", hint="list the months there are")
    if info.state is not MonthState.SEALED:
        raise Precondition("MONTH_STATE", f"{month} is {info.state.value}", hint="seal it first")
    kept = records.frozen.get(month)
    check_freezing(month, types, records.losses.get(month, {}), kept)
    mine = [event for event in events if Month.of(event.timestamp_ms) == month]
    return Frozen(
        month,
        zones,
        {name: _of_type([event for event in mine if event.type == name], zones) for name in types},
        list(_cells(mine, zones)) if kept is None else None,
        max((event.position for event in mine), default=0),
    )


def _of_type(events: Sequence[Event], zones: Sequence[str]) -> FrozenType:
    counts = Counter((event.timestamp_ms // QUARTER_MS * QUARTER_MS, event.source) for event in events)
    keys = sorted(counts)
    quarters = Quarters([start for start, _ in keys], [source for _, source in keys], [counts[key] for key in keys])
    return FrozenType(quarters, list(_cells(events, zones)))


def _cells(events: Iterable[Event], zones: Sequence[str]) -> Iterator[Cell]:
    groups: dict[tuple[int, int, int], list[Event]] = {}
    for event in events:
        for place, zone in enumerate(zones):
            for size, grain in enumerate(GRAINS):
                bucket = bucket_of(event.timestamp_ms, grain, zone_of(zone))
                groups.setdefault((place, size, bucket), []).append(event)
    for (place, size, bucket), group in sorted(groups.items(), key=lambda entry: entry[0]):
        users = {event.user_id for event in group if event.user_id}
        yield Cell(zones[place], BucketUnit(GRAINS[size]), bucket, len(group), len(users))
