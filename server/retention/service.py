"""Retention beside a running daemon: plans, jobs, holds, what is overdue, and the evidence of what was done.

Lives on the event loop. Jobs run on one thread of their own, one at a time; plans are made, and questions about
retention answered, on another, so that nobody waits for a job to see how things stand. What is committed is committed
by the writer, between two groups.
"""

from __future__ import annotations

import asyncio
import platform
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import structlog

from retention.applying import Progress, Receipt, Run, Stale
from retention.applying import Status as RunStatus
from retention.chain import Deed, Head, Record
from retention.facts import Facts, MonthFacts
from retention.hold import Hold
from retention.month import Month
from retention.overdue import overdue
from retention.plan import Overdue, Plan
from retention.planning import plan as make_plan
from retention.policy import Policy
from retention.port import ActionFailed
from server.apart import give_way
from server.errors import NotFound, Precondition, TrackdError, Unavailable, unexpected
from server.model import Batch, MonthState
from server.observe import Observer, RetentionActed
from server.retention import receipts
from server.retention.endings import EVERY, Endings
from server.retention.jobs import KEPT, Job, JobState
from server.retention.pace import NICE, Pace
from server.retention.plans import refusal, require_guards
from server.retention.policy_in_use import PolicyInUse
from server.retention.quiet import Quiet
from server.retention.stocktaking import Stocktaking
from server.retention.store_port import Archives, StorePort
from server.storage.contract import Store

log = structlog.get_logger(__name__)

T = TypeVar("T")
Call = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs something on the writer's thread, between two groups."""

SCHEDULER = "scheduler"
AGREE, PLACE_HOLD, RELEASE_HOLD, REOPEN = "agree", "place_hold", "release_hold", "reopen"
NO_PLAN = "0" * 64


@dataclass(frozen=True, slots=True)
class Status:
    """How retention stands."""

    policy: Policy
    overdue: tuple[Overdue, ...]
    facts: Facts
    head: Head
    """The end of the chain of evidence."""
    now_ms: int

    def month(self, month: Month) -> MonthFacts:
        """What is known of one month. NotFound(MONTH_UNKNOWN)."""
        found = next((one for one in self.facts.months if one.month == month), None)
        if found is None:
            raise NotFound("MONTH_UNKNOWN", f"there are no events of {month}", hint="list the months there are")
        return found


class RetentionService:
    """See the module."""

    def __init__(
        self,
        store: Store,
        on_writer: Call,
        policy: PolicyInUse,
        folder: Path,
        archives: Archives,
        *,
        now_ms: Callable[[], int],
        quiet_s: float,
        rows_per_second: Callable[[], int] = lambda: 0,
        observer: Observer | None = None,
    ) -> None:
        """`folder`: where receipts go. Without a policy nothing can be planned; holds and evidence are there."""
        self._store = store
        self._call = on_writer
        self.policy = policy
        self._folder = folder
        self._archives = archives
        self._now_ms = now_ms
        self._pace = Pace(rows_per_second)
        self._observer = observer or Observer()
        self._versions = _versions()
        self._loop = asyncio.get_running_loop()
        self._working = ThreadPoolExecutor(
            1, thread_name_prefix="trackd-retention", initializer=partial(give_way, NICE)
        )
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="trackd-retention-look")
        self.quiet = Quiet(store, quiet_s)
        self._reopening: set[Month] = set()
        self._port, self._view = (self._make_port(archives) for _thread in (self._working, self._looking))
        self._jobs: OrderedDict[int, Job] = OrderedDict()
        self._next_job = 1
        self._stopping = False
        self.next_run_ms: int | None = None
        """When the scheduler runs next."""
        self.overdue_since_ms: Mapping[str, int] = {}
        """Class -> since when something of it is overdue, as of the last look. For gauges."""
        self.endings = Endings()
        """When runs last ended well, and not. For gauges."""

    # On other threads

    def _make_port(self, archives: Archives) -> StorePort:
        """For one thread."""
        stocktaking = Stocktaking(
            self._store,
            self._on_writer,
            held_copy=archives.held,
            is_importing=self._importing,
            is_ingesting=self.quiet.ingesting,
        )
        return StorePort(self._store, self._on_writer, stocktaking, archives)

    def _on_writer(self, action: Callable[[], T]) -> T:
        """From the thread of retention."""
        call: Any = self._call(action)
        result: T = asyncio.run_coroutine_threadsafe(call, self._loop).result()
        return result

    async def _on(self, thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        if self._stopping:
            raise Unavailable("DRAINING", "the daemon is stopping", hint="try again after the restart")
        try:
            return await self._loop.run_in_executor(thread, work)
        except ActionFailed as error:  # the store's error, in the words of the port
            if isinstance(error.__cause__, TrackdError):
                raise error.__cause__ from None
            raise

    def _importing(self) -> bool:
        return self.quiet.importing(self.policy.now().seal_after, self._now_ms())

    # Late events

    def reopens(self, batch: Batch, late: Sequence[int]) -> bool:
        """Begins to open the sealed months of these events again, where the policy says so and nothing is lost yet.

        On the writer's thread; whether any month is opened. The policy seals it again some days later.
        """
        months = {Month.of(batch.timestamps_ms[row]) for row in late if self.policy.takes_late(batch.types[row])}
        records = self._store.records
        touched = records.losses.keys() | records.frozen_types.keys() | records.copies().keys()
        wanted = months - touched
        for month in wanted - self._reopening:
            self._reopening.add(month)
            self._loop.call_soon_threadsafe(self._loop.create_task, self._reopen(month))
        return bool(wanted)

    async def _reopen(self, month: Month) -> None:
        try:
            made = await self._on(self._working, lambda: self._store.rebuild(month, MonthState.OPEN))
            await self._call(
                lambda: self._store.adopt(made, _deed(self._now_ms(), REOPEN, SCHEDULER, month=str(month)))
            )
            log.info("month_reopened", month=str(month))
        except TrackdError as error:
            log.error("month_not_reopened", month=str(month), reason=error.reason)
        finally:
            self._reopening.discard(month)

    # Plans

    async def plan(self, accepted: Collection[str] = ()) -> Plan:
        """What would be done now. Invalid(GUARD_UNKNOWN) for a guard that cannot be accepted."""
        require_guards(accepted)
        policy = self.policy.now()

        def look() -> Plan:
            now_ms = self._now_ms()
            return make_plan(policy, self._view.facts(policy, now_ms), now_ms, accepted)

        made = await self._on(self._looking, look)
        self._note_overdue(policy, made.overdue, made.now_ms)
        return made

    def _note_overdue(self, policy: Policy, found: Collection[Overdue], now_ms: int) -> None:
        late = {one.class_name: one.since_ms for one in found}
        self.overdue_since_ms = {one.name: late.get(one.name, 0) for one in policy.classes} | late
        self.endings.know(policy, now_ms)

    # Jobs

    def apply(self, plan: Plan, actor: str) -> Job:
        """Begins to apply a plan. Precondition(JOB_RUNNING) beside another one.

        Whether the plan is stale shows in the job: it ends with Precondition(PLAN_STALE) before anything was done.
        """
        policy = self.policy.now()
        running = next((job for job in self._jobs.values() if job.state is JobState.RUNNING), None)
        if running is not None:
            raise Precondition(
                "JOB_RUNNING", f"job {running.number} is running", hint="watch it or cancel it; one runs at a time"
            )
        job = Job(self._next_job, plan.id, actor, self._now_ms())
        self._next_job += 1
        self._jobs[job.number] = job
        while len(self._jobs) > KEPT:
            self._jobs.popitem(last=False)
        self._loop.create_task(self._run(job, policy, plan))
        return job

    async def _run(self, job: Job, policy: Policy, plan: Plan) -> None:
        try:
            receipt, late = await self._on(self._working, lambda: self._applied(job, policy, plan))
        except Stale as stale:
            job.end(error=refusal(stale))
        except TrackdError as error:
            job.end(error=error)
        except Exception as error:  # noqa: BLE001  # a defect ends the job, not the daemon
            job.end(error=unexpected(error))
        else:
            self._note_overdue(policy, late, receipt.ended_ms)
            self._note_ending(receipt)
            job.end(receipt=receipt)
        if job.error:
            if job.actor == SCHEDULER:  # what a person tries and is told is no reason to tell others
                self.endings.ended(self._now_ms(), failed=[EVERY])
            log.error("retention_failed", job=job.number, reason=job.error.reason)

    def _applied(self, job: Job, policy: Policy, plan: Plan) -> tuple[Receipt, tuple[Overdue, ...]]:
        def heard(progress: Progress) -> None:
            job.unless_cancelled()
            self._pace.keep(progress.rows)
            job.progress = progress
            self._loop.call_soon_threadsafe(job.moved)

        agreed = self._on_writer(lambda: self._agreed(plan.id))
        run = Run(plan, policy, self._port, job.actor, self._now_ms, self._versions, agreed, heard)
        receipt = run.apply()
        if receipt.results:
            receipts.keep(self._folder, receipt)
        late = overdue(policy, self._port.facts(policy, receipt.ended_ms), receipt.ended_ms)
        for one in receipt.results:
            if one.status is RunStatus.FAILED:
                log.error(
                    "retention_action_failed",
                    action=str(one.action.kind), month=str(one.action.month), class_name=one.action.class_name,
                    reason=one.reason,
                )  # fmt: skip
        return receipt, late

    def _note_ending(self, receipt: Receipt) -> None:
        for one in receipt.results:
            self._observer.retention_acted(RetentionActed(one.action.kind.value, one.status.value, one.action.rows))
        undone = {one.action.class_name for one in receipt.results if one.status is not RunStatus.DONE}
        failed = {one.action.class_name for one in receipt.results if one.status is RunStatus.FAILED}
        self.endings.ended(receipt.ended_ms, undone=undone, failed=failed)

    def job(self, number: int) -> Job:
        """A job of this run of the daemon. NotFound(JOB_UNKNOWN)."""
        found = self._jobs.get(number)
        if found is None:
            raise NotFound("JOB_UNKNOWN", f"there is no job {number}", hint="older ones are in the evidence")
        return found

    def jobs(self) -> Sequence[Job]:
        """The newest first."""
        return list(reversed(self._jobs.values()))

    async def agree(self, plan_id: str, actor: str) -> None:
        """A second person's word for what the policy wants two for; it is recorded."""
        policy = self.policy.now()
        deed = _deed(self._now_ms(), AGREE, actor, plan_id=plan_id, policy_digest=policy.digest)
        await self._call(lambda: self._store.records.record(deed))

    def _agreed(self, plan_id: str) -> set[str]:
        found = set()
        for record in self._records():
            if record.deed.action == AGREE and record.deed.plan_id == plan_id:
                found.add(record.deed.actor)
        return found

    def _records(self) -> Sequence[Record]:
        """On the writer's thread: all records of the chain."""
        found: list[Record] = []
        while lines := self._store.records.evidence(found[-1].sequence if found else 0):
            found += map(Record.parse, lines)
        return found

    # What there is

    async def status(self) -> Status:
        """How it stands now, from the data."""
        policy = self.policy.now()

        def look() -> Status:
            facts, now_ms = self._view.facts(policy, self._now_ms()), self._now_ms()
            head = self._on_writer(lambda: self._store.records.head)
            return Status(policy, overdue(policy, facts, now_ms), facts, head, now_ms)

        found = await self._on(self._looking, look)
        self._note_overdue(policy, found.overdue, found.now_ms)
        return found

    async def expire_restored(self) -> None:
        """Restored months go when their time has come, whatever the policy says."""
        await self._on(self._working, self._archives.expire_restored)

    async def evidence(self, after: int, limit: int) -> Sequence[bytes]:
        """Lines of the chain, oldest first."""
        lines: Sequence[bytes] = await self._call(lambda: self._store.records.evidence(after, limit))
        return lines

    # Holds

    async def holds(self) -> Sequence[Hold]:
        """All of them, released ones too."""
        found: Sequence[Hold] = await self._call(self._store.records.holds)
        return found

    async def place(self, hold: Hold, actor: str) -> Hold:
        """From now on nothing that it selects is destroyed. Precondition(HOLD_EXISTS)."""
        placed = replace(hold, placed_ms=self._now_ms(), released_ms=None)
        deed = _deed(self._now_ms(), PLACE_HOLD, actor, withheld=((hold.code, 0),))

        def place() -> None:
            if any(one.code == hold.code for one in self._store.records.holds()):
                raise Precondition(
                    "HOLD_EXISTS", f"there is a hold {hold.code} already", hint="codes are never used twice"
                )
            self._store.records.put_hold(placed, deed)

        await self._call(place)
        return placed

    async def release(self, code: str, actor: str) -> Hold:
        """The hold ends; what it kept is dealt with by the next run. NotFound(HOLD_UNKNOWN)."""
        now_ms = self._now_ms()

        def release() -> Hold:
            hold = next((one for one in self._store.records.holds() if one.code == code), None)
            if hold is None or not hold.active:
                raise NotFound(
                    "HOLD_UNKNOWN", f"there is no active hold {code}", hint="trackd hold list shows what there is"
                )
            released = replace(hold, released_ms=max(now_ms, hold.placed_ms))
            # Not before it is known: what no hold can be called is unknown, and no defect.
            deed = _deed(now_ms, RELEASE_HOLD, actor, withheld=((code, 0),))
            self._store.records.put_hold(released, deed)
            return released

        released: Hold = await self._call(release)
        return released

    async def stop(self) -> None:
        """Ends what is under way; it is begun again by the next run."""
        self._stopping = True
        for job in self._jobs.values():
            job.cancel()
        for thread in (self._working, self._looking):
            await self._loop.run_in_executor(None, thread.shutdown)


def _versions() -> dict[str, str]:
    """Of what did the work, for the evidence."""
    found = {"python": platform.python_version()}
    for name in ("trackd", "apsw", "pyarrow"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _deed(now_ms: int, action: str, actor: str, **fields: Any) -> Deed:
    plain: dict[str, Any] = {
        "plan_id": NO_PLAN, "policy_digest": NO_PLAN, "class_name": "", "month": "", "generation": 0, "rows_before": 0,
        "rows_after": 0, "bytes_before": 0, "bytes_after": 0, "method": "record",
    }  # fmt: skip
    return Deed(time_ms=now_ms, action=action, actor=actor, **plain | fields)
