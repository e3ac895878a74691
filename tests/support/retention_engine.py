"""The reference engine under retention, with the face of the store of numbers (tests.support.retention_store)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from retention.applying import Run, Status
from retention.chain import Finding, verify
from retention.facts import NOTHING_HELD, RAW, Copy, CopyKind, Facts, Held
from retention.hold import Hold, holding
from retention.month import Month
from retention.plan import Action, Plan
from retention.policy import ArchiveTarget, Policy
from retention.port import Heard
from server.errors import Unavailable
from server.model import Event, MonthState
from server.question import Field, FieldKind, Metric, MetricKind, Question
from server.retention.stocktaking import Stocktaking
from server.retention.store_port import StorePort
from server.rewriting import MonthStocks, Selection
from server.storage.contract import Store
from server.storage.memory.store import MemoryStore
from tests.support.events import append, make_event
from tests.support.retaining import deed, events_of, here, sealed_rows
from tests.support.retention_store import ROW_BYTES, SOURCE, Cells, KeptCopy, KeptMonth

BY_TYPE = Field(FieldKind.TYPE)


@dataclass
class _Kept:
    """A copy, as events and the form of each."""

    copy: Copy
    rows: list[tuple[Event, str]]


@dataclass
class FakeArchives:
    """Copies in memory. Those at `failing` targets cannot be made."""

    store: Store
    now_ms: int = 0
    failing: Collection[str] = ()
    kept: dict[str, _Kept] = field(default_factory=dict)
    made: int = 0
    _held: dict[tuple[str, int, tuple[Hold, ...]], Held] = field(default_factory=dict)

    def expire_restored(self) -> None:
        """Has none."""

    def learn(self, targets: Iterable[ArchiveTarget]) -> None:
        """Needs none."""

    def held(self, month: Month, copy: Copy, holds: Sequence[Hold]) -> Copy:
        """Counted row by row, once for the same holds."""
        key = (copy.name, copy.rows, tuple(holds))
        if key not in self._held:
            self._held[key] = self._count(month, copy, holds)
        return replace(copy, held=self._held[key])

    def _count(self, month: Month, copy: Copy, holds: Sequence[Hold]) -> Held:
        by: Counter[str] = Counter()
        union = 0
        for event, form in self.kept[copy.name].rows:
            codes = _codes(month, event, form, holds)
            union += bool(codes)
            by.update(codes)
        return Held(union, tuple(sorted(by.items()))) if union else NOTHING_HELD

    def make(
        self, month: Month, counted: MonthStocks, rows: Selection, target: ArchiveTarget, plan_id: str, heard: Heard
    ) -> Copy:
        """Takes the rows that the selection names."""
        if target.name in self.failing:
            raise Unavailable("ARCHIVE_TARGET", f"{plan_id} cannot reach {target.name}")
        with sealed_rows(self.store, month) as stored:
            chosen = [
                (position, form)
                for batch in stored.export(rows)
                for position, form in zip(batch.positions.tolist(), batch.forms.listed(), strict=True)
            ]
        events = {event.position: event for event in events_of(self.store, month)}
        found = [(events[position], form) for position, form in chosen]
        heard(len(found))
        self.made += 1
        made = Copy(
            kind=CopyKind.ARCHIVE,
            name=f"archive-{self.made}",
            types=tuple(sorted({event.type for event, _form in found})),
            rows=len(found),
            bytes=len(found) * ROW_BYTES,
            created_ms=self.now_ms,
            target=target.name,
            complete=all(form == RAW for _event, form in found),
            verified=True,
        )
        self.kept[made.name] = _Kept(made, found)
        return made

    def destroy(self, copy: Copy, month: Month, holds: Sequence[Hold], heard: Heard) -> Copy | None:
        """All but what is held."""
        kept = self.kept.pop(copy.name)
        heard(len(kept.rows))
        rows = [(event, form) for event, form in kept.rows if _codes(month, event, form, holds)]
        if not rows:
            return None
        types = tuple(sorted({event.type for event, _form in rows}))
        left = replace(kept.copy, rows=len(rows), bytes=len(rows) * ROW_BYTES, whole=False, types=types)
        self.kept[copy.name] = _Kept(left, rows)
        return left


def _codes(month: Month, event: Event, form: str, holds: Sequence[Hold]) -> tuple[str, ...]:
    if form != RAW:
        return ()
    return holding(holds, user=event.user_id, event_type=event.type, source=event.source, month=month)


class EngineStore:
    """Events in the reference engine; plans are applied to it as a daemon applies them."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.holds: list[Hold] = []
        self.backups: list[int] = []
        self.importing = False
        self.ingest_active = False
        self._archives = FakeArchives(self.store)
        self._stocktaking = Stocktaking(
            self.store,
            here,
            held_copy=self._archives.held,
            is_importing=lambda: self.importing,
            is_ingesting=lambda: self.ingest_active,
        )
        self._port = _Port(self, StorePort(self.store, here, self._stocktaking, self._archives))
        self._accepted: dict[Month, Counter[str]] = {}
        self._numbers = 0
        self._known: dict[Month, tuple[object, KeptMonth]] = {}

    # Events

    def late(self, policy: Policy, month: Month, event_type: str, user: str, rows: int) -> bool:
        """Stores them, in a month that is opened again if its class says so and it can be."""
        info = next((one for one in self.store.months() if one.month == month), None)
        if info is not None and info.state is not MonthState.OPEN:
            one = policy.class_of(event_type)
            records = self.store.records
            touched = month in records.frozen_types or month in records.losses or month in records.copies()
            if info.state is not MonthState.SEALED or one is None or one.late != "reopen" or touched:
                return False
            self.store.adopt(self.store.rebuild(month, MonthState.OPEN))
        few = (rows - 1) // 10 + 1
        sent = [
            make_event(self._numbers + place, str(month), place * 60_000, type=event_type, user_id=user)
            for place in range(few)
        ]
        self._numbers += few
        answer = append(self.store, *sent, source=SOURCE)
        assert answer.accepted == few
        self._accepted.setdefault(month, Counter())[event_type] += few
        return True

    # What there is

    @property
    def clock_accepted_ms(self) -> int | None:
        """As it is recorded."""
        return self.store.records.clock_accepted_ms

    def facts(self, policy: Policy) -> Facts:
        """As a plan is made of them."""
        self._place_holds()
        return self._port.facts(policy, 0)

    def _place_holds(self) -> None:
        wanted = {hold.code: hold for hold in self.holds}
        for hold in self.store.records.holds():
            if hold.active and hold.code not in wanted:
                self.store.records.put_hold(replace(hold, released_ms=hold.placed_ms), deed("release_hold"))
        known = {hold.code for hold in self.store.records.holds()}
        for code, hold in wanted.items():
            if code not in known:
                self.store.records.put_hold(hold, deed("place_hold"))

    def held_by(self, month: Month, event_type: str, user: str) -> tuple[str, ...]:
        """The holds that rows as they were sent are under."""
        return holding(self.holds, user=user, event_type=event_type, source=SOURCE, month=month)

    @property
    def months(self) -> dict[Month, KeptMonth]:
        """All of them as numbers; those in which nothing has happened since are not counted again."""
        copies, frozen = self.store.records.copies(), self.store.records.frozen_types
        for info in self.store.months():
            accepted = self._accepted.get(info.month, Counter()).total()
            state = (info, accepted, tuple(copies.get(info.month, ())), frozen.get(info.month))
            known = self._known.get(info.month)
            if known is None or known[0] != state:
                self._known[info.month] = (state, self._month(info.month))
        return {month: kept for month, (_state, kept) in self._known.items()}

    def _month(self, month: Month) -> KeptMonth:
        records = self.store.records
        lost = records.losses.get(month, {})
        frozen = records.frozen_types.get(month, frozenset())
        kept = KeptMonth(month, accepted=self._accepted.get(month, Counter()))
        kept.cells = self._cells(month)
        kept.gone = {name: loss.since_ms for name, loss in lost.items() if loss.gone}
        if frozen:
            with closing(self.store.reader()) as reader:
                question = Question(
                    (Metric(MetricKind.EVENTS),), (BY_TYPE,), start_ms=month.start_ms, end_ms=month.end_ms
                )
                (table,) = reader.aggregate([question]).tables
            told = dict(zip(table.keys[0], table.values[0], strict=True))
            kept.frozen = {name: int(told.get(name) or 0) for name in frozen}
        for copy in records.copies().get(month, ()):
            rows = self._archives.kept[copy.name].rows
            cells: Cells = Counter((event.type, event.user_id, form) for event, form in rows)
            kept.copies.append(KeptCopy(copy.kind, copy.name, cells, copy.created_ms, copy.target, whole=copy.whole))
        return kept

    def _cells(self, month: Month) -> Cells:
        info = next(one for one in self.store.months() if one.month == month)
        if info.state is not MonthState.SEALED:
            return Counter((event.type, event.user_id, RAW) for event in events_of(self.store, month))
        with closing(self.store.reader()) as reader:
            stocks = reader.stocks(month).stocks
            rows = Selection(tuple({one.event_type for one in stocks}), tuple({one.profile for one in stocks}))
        with sealed_rows(self.store, month) as stored:
            return Counter(
                key
                for batch in stored.export(rows)
                for key in zip(batch.types.listed(), batch.user_ids.listed(), batch.forms.listed(), strict=True)
            )

    def evidence_problems(self) -> list[Finding]:
        """What is wrong with the chain."""
        return verify(list(self.store.records.evidence(limit=1_000_000)), self.store.records.head)

    # Doing what a plan says

    def apply(self, plan: Plan, *, failing: Collection[str] = ()) -> list[Action]:
        """Applies it as a daemon does; the actions that were done."""
        self._place_holds()
        self._archives.failing, self._archives.now_ms = failing, plan.now_ms
        self._port.policy_now_ms = plan.now_ms
        receipt = Run(plan, self._port.policy, self._port, "test", lambda: plan.now_ms).apply()
        problems = [one for one in receipt.results if one.status is Status.FAILED and one.reason != "ARCHIVE_TARGET"]
        assert problems == []
        return [one.action for one in receipt.results if one.status is Status.DONE]


class _Port(StorePort):
    """The port of the engine, with backups beside it."""

    def __init__(self, engine: EngineStore, port: StorePort) -> None:
        self.__dict__.update(port.__dict__)
        self._engine = engine
        self.policy_now_ms = 0
        self.policy: Policy

    def facts(self, policy: Policy, now_ms: int) -> Facts:
        """With the oldest backup."""
        self.policy = policy
        return replace(super().facts(policy, now_ms), oldest_backup_ms=min(self._engine.backups, default=None))
