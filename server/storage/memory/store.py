"""The reference engine: the shortest code that keeps every sentence of the storage contract but durability.

Other engines are compared with this one by the model tests, so it prefers being obviously right to being fast: every
question looks at every event.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter

from retention.chain import Deed
from retention.hold import Hold
from retention.month import Month
from retention.policy import Claim
from server.errors import NotFound, Precondition, TrackdError
from server.model import (
    Appended,
    Batch,
    Event,
    EventType,
    Finding,
    Item,
    MonthInfo,
    MonthState,
    Outcome,
    Rebuilt,
    Size,
)
from server.rewriting import Heard, Losses, MonthStocks, OnWriter, Rewrite, Rewritten, claimed_by, dated, losses_of
from server.storage.contract import Store
from server.storage.digest import digest_of, line_of
from server.storage.memory.judging import (
    aborted,
    dropped,
    duplicate,
    event_of,
    item_of,
    month_limit,
    rebuilt_of,
    sealed,
)
from server.storage.memory.reader import MemoryReader
from server.storage.memory.records import MemoryRecords
from server.storage.memory.rewriting import Forms, Made, rewrite_rows, stocks
from server.storage.records import not_to_be_opened
from server.storage.treatment import DROPPED_SOURCE

_POSITION = attrgetter("position")
_REBUILDS = {(MonthState.SEALING, MonthState.SEALED), (MonthState.SEALED, MonthState.OPEN)}


class MemoryStore(Store):
    """Keeps everything in this process's memory and loses it with the process: nothing here is durable."""

    def __init__(self, *, months_max: int = 1200, reporting_time_zones: Sequence[str] = ()) -> None:
        self._months_max = months_max
        self._zones = tuple(dict.fromkeys(("UTC", *reporting_time_zones)))
        self._lock = threading.Lock()
        """Held for every look at the fields below and for every change of them; never while a question is worked on."""
        self._last_position = 0
        """The last one given out: also to events that were not stored in the end."""
        self._head = 0
        """The highest position that ever had an event."""
        self._log: list[Event] = []
        """All events in order of position. Appended to; replaced by a shorter one when events are removed."""
        self._months: dict[Month, dict[bytes, Event]] = {}
        """The same events by identity. A month is here once it has an event, and stays when its last one is removed."""
        self._infos: dict[Month, MonthInfo] = {}
        """Of months that are not as they began."""
        self._removals: Counter[Month] = Counter()
        """How often events of a month were removed."""
        self._types: dict[str, EventType] = {}
        self._sources: set[str] = set()
        self._records = MemoryRecords()
        self._forms: dict[Month, Forms] = {}
        self._made: dict[tuple[Month, int], Made] = {}
        """Rewritten months that nobody adopted yet."""

    @property
    def head(self) -> int:
        with self._lock:
            return self._head

    def append(self, batches: Sequence[Batch]) -> Sequence[Appended | TrackdError]:
        with self._lock:
            return [self._append_batch(batch) for batch in batches]

    def register_type(self, name: str, description: str, now_ms: int, *, dimensions: Sequence[str] = ()) -> EventType:
        with self._lock:
            known = self._types.get(name)
            since_ms = known.registered_ms if known else now_ms
            self._types[name] = EventType(name, description, since_ms, True, tuple(sorted(dimensions)))
            return self._types[name]

    def remove(self, month: Month, positions: Sequence[int]) -> int:
        with self._lock:
            held = self._months.get(month, {})
            if self._info(month).state is MonthState.SEALED:
                raise Precondition("MONTH_SEALED", f"{month} is sealed", hint="reopen the month first")
            removed = {event.position for event in held.values()}.intersection(positions)
            if removed:
                self._removals[month] += 1
                self._months[month] = {key: event for key, event in held.items() if event.position not in removed}
                self._log = [event for event in self._log if event.position not in removed]
            return len(removed)

    def fence(self, month: Month) -> MonthInfo:
        with self._lock:
            info = self._known(month)
            if info.state is MonthState.OPEN:
                self._infos[month] = replace(info, state=MonthState.SEALING)
            return self._info(month)

    def rebuild(self, month: Month, state: MonthState, heard: Callable[[int], None] | None = None) -> Rebuilt:
        with self._lock:
            info = self._known(month)
            if (info.state, state) not in _REBUILDS:
                raise Precondition("MONTH_STATE", f"{month} is {info.state.value}", hint="fence it first")
            if state is MonthState.OPEN and month in self._records.frozen:
                raise not_to_be_opened(month)
            if state is MonthState.OPEN and self._records.losses.get(month):
                raise Precondition("MONTH_REWRITTEN", f"{month} was rewritten", hint="late events are rejected")
            events = self._of_month(month)
            if heard is not None:
                heard(len(events))
            return rebuilt_of(info, info.generation + 1, state, self._removals[month], events)

    def rewrite(self, month: Month, change: Rewrite, on_writer: OnWriter, heard: Heard | None = None) -> Rewritten:
        with self._lock:
            info = self._known(month)
            if info.state is not MonthState.SEALED:
                raise Precondition("MONTH_STATE", f"{month} is {info.state.value}", hint="seal it first")
            before = self._of_month(month)
            made = rewrite_rows(month, before, self._forms.get(month, {}), change)
            generation = info.generation + 1
            self._made[month, generation] = made
        on_writer(lambda: None if change.profile is None else self._sources.update({DROPPED_SOURCE}))
        if heard is not None:
            heard(len(before))
        checks = {"counts": "ok", "untouched": "ok"}
        if change.profile and change.profile.claim is Claim.ANONYMOUS:
            checks["claim"] = "ok" if made.anonymous else "failed"
        return Rewritten(
            rebuilt=rebuilt_of(info, generation, MonthState.SEALED, self._removals[month], made.events),
            rows_before=len(before),
            treated=made.treated,
            withheld=made.withheld,
            bytes_before=sum(len(line_of(event)) for event in before),
            bytes_after=sum(len(line_of(event)) for event in made.events),
            claimed=claimed_by(change) if made.anonymous else None,
            checks=tuple(sorted(checks.items())),
            lost=losses_of(change, self._records.losses.get(month, {})),
        )

    def adopt(self, made: Rebuilt | Rewritten, deed: Deed | None = None) -> MonthInfo:
        with self._lock:
            rebuilt = made.rebuilt if isinstance(made, Rewritten) else made
            month = rebuilt.month
            info = self._known(month)
            now = (info.generation, self._removals[month])
            steps = {(MonthState.SEALED, MonthState.SEALED)} if isinstance(made, Rewritten) else _REBUILDS
            if now != (rebuilt.built_from, rebuilt.removals) or (info.state, rebuilt.state) not in steps:
                raise Precondition("MONTH_CHANGED", f"{month} has changed", hint="rebuild it again")
            if isinstance(made, Rewritten):
                result = self._made.pop((month, rebuilt.generation))
                self._records.lose(month, dated(made.lost, deed), deed, made.claimed)
                self._put_rows(month, result.events)
                self._forms[month] = result.forms
            elif deed is not None:
                self._records.record(deed)
            self._infos[month] = MonthInfo(month, rebuilt.generation, rebuilt.state)
            return self._info(month)

    def drop(self, month: Month, lost: Losses, deed: Deed) -> MonthInfo:
        with self._lock:
            info = self._known(month)
            if info.state is not MonthState.SEALED:
                raise Precondition("MONTH_STATE", f"{month} is {info.state.value}", hint="seal it first")
            self._records.lose(month, dated(lost, deed), deed)
            self._put_rows(month, [])
            self._infos[month] = replace(info, state=MonthState.DROPPED)
            return self._info(month)

    def forget_names(self, on_writer: OnWriter) -> int:
        return on_writer(lambda: 0)  # it knows no user beside their events

    def _put_rows(self, month: Month, events: Sequence[Event]) -> None:
        others = [event for event in self._log if Month.of(event.timestamp_ms) != month]
        self._log = sorted([*others, *events], key=_POSITION)
        self._months[month] = {event.id: event for event in events}

    def _of_month(self, month: Month) -> list[Event]:
        return sorted(self._months[month].values(), key=_POSITION)

    def _stocks(self, month: Month, holds: Sequence[Hold]) -> MonthStocks:
        with self._lock:
            info = self._known(month)
            events = self._of_month(month)
            times = [event.timestamp_ms for event in events]
            digest = digest_of(events) if info.state is MonthState.SEALED else ""
            counted = stocks(month, events, self._forms.get(month, {}), holds)
            return MonthStocks(
                month, info.generation, info.state, digest, counted, min(times, default=None), max(times, default=None)
            )

    @property
    def records(self) -> MemoryRecords:
        return self._records

    def _info(self, month: Month) -> MonthInfo:
        return self._infos.get(month) or MonthInfo(month, 1, MonthState.OPEN)

    def _known(self, month: Month) -> MonthInfo:
        if month not in self._months:
            raise NotFound("MONTH_UNKNOWN", f"there are no events of {month}", hint="list the months there are")
        return self._info(month)

    def event_types(self) -> Sequence[EventType]:
        with self._lock:
            return [self._types[name] for name in sorted(self._types)]

    def sources(self) -> Sequence[str]:
        with self._lock:
            return sorted(self._sources)

    def months(self) -> Sequence[MonthInfo]:
        with self._lock:
            return [self._info(month) for month in sorted(self._months)]

    def sizes(self) -> Mapping[MonthState, Size]:
        with self._lock:
            rows = Counter(Month.of(event.timestamp_ms) for event in self._log)
            sizes: dict[MonthState, Size] = {}
            for month in self._months:
                state = self._info(month).state
                sizes[state] = Size(sizes.get(state, Size(0, 0)).rows + rows[month], 0)
            return sizes

    def last_positions(self) -> Mapping[Month, int]:
        with self._lock:
            lasts = {Month.of(event.timestamp_ms): event.position for event in self._log}
            there = (month for month in self._months if self._info(month).state is not MonthState.DROPPED)
            return {month: lasts.get(month, 0) for month in there}

    def maintain(self, *, idle: bool) -> None:
        """Has nothing to do."""

    def reader(self) -> MemoryReader:
        return MemoryReader(
            lambda: self.head, self._events_up_to, self.months, self._records, self._zones, self._stocks, self._forms
        )

    def check(self) -> Sequence[Finding]:
        with self._lock:
            return list(self._findings())

    def close(self) -> None:
        """Keeps nothing open, so gives nothing back."""

    def _events_up_to(self, as_of: int) -> Sequence[Event]:
        with self._lock:
            return self._log[: bisect_right(self._log, as_of, key=_POSITION)]

    def _append_batch(self, batch: Batch) -> Appended:
        """Works on a draft of what is new, so that a batch that is given up has changed nothing but positions."""
        draft: dict[tuple[Month, bytes], Event] = {}
        months = set(self._months)
        items: list[Item] = []
        for index in range(len(batch)):
            self._last_position += 1
            event = event_of(batch, index, self._last_position)
            month = Month.of(event.timestamp_ms)
            known = draft.get((month, event.id)) or self._months.get(month, {}).get(event.id)
            if known:
                rewritten = known.position in self._forms.get(month, {})
                items.append(duplicate(index, known) if rewritten else item_of(index, event, known))
            elif self._info(month).state is MonthState.DROPPED:
                items.append(dropped(index, month))
            elif self._info(month).state is not MonthState.OPEN:
                items.append(sealed(index, month))
            elif month not in months and len(months) >= self._months_max:
                items.append(month_limit(index, month, self._months_max))
            else:
                months.add(month)
                draft[month, event.id] = event
        if batch.atomic and any(item.outcome is Outcome.REJECTED for item in items):
            return aborted(len(batch), items, {event.position for event in draft.values()})
        self._keep(draft)
        stored = [event.position for event in draft.values()]
        return Appended(len(stored), min(stored, default=None), max(stored, default=None), tuple(items))

    def _keep(self, draft: Mapping[tuple[Month, bytes], Event]) -> None:
        for (month, identifier), event in draft.items():
            self._months.setdefault(month, {})[identifier] = event
            self._sources.add(event.source)
            if event.type not in self._types:
                self._types[event.type] = EventType(event.type, "", event.received_ms, declared=False)
            self._log.append(event)
            self._head = event.position

    def _findings(self) -> Iterator[Finding]:
        positions = [event.position for event in self._log]
        if any(one >= other for one, other in zip([0, *positions], positions, strict=False)):
            yield Finding("log", "positions do not rise strictly from 1")
        if positions and positions[-1] > self._head:
            yield Finding("log", f"position {positions[-1]} is above the head, {self._head}")
        if self._head > self._last_position:
            yield Finding("head", f"position {self._head} was never given out")
        by_identity = {(Month.of(event.timestamp_ms), event.id): event for event in self._log}
        if len(by_identity) < len(self._log):
            yield Finding("log", "holds an identity twice")
        if by_identity != {(month, key): event for month, held in self._months.items() for key, event in held.items()}:
            yield Finding("months", "hold other events than the log")
        if len(self._months) > self._months_max:
            yield Finding("months", f"are {len(self._months)}, more than the {self._months_max} allowed")
        if missing := {event.source for event in self._log} - self._sources:
            yield Finding("sources", f"lack {sorted(missing)}")
        if missing := {event.type for event in self._log} - self._types.keys():
            yield Finding("types", f"lack {sorted(missing)}")
