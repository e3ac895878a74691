"""Retention of a daemon: plans, jobs that carry them out, holds, and the evidence of what was done.

    with trackd.Client("unix:./trackd-data/control.sock") as client:
        plan = client.retention.plan()
        print(plan.text)
        for job in client.retention.watch(client.retention.apply(plan.plan).number):
            print(job.what, job.rows, "of", job.of_rows)

These calls are served on the daemon's own Unix socket, DATA/control.sock, to its user and root, and elsewhere to tokens
and certificates with the role operate; a daemon that has none refuses them there (CONTROL_ONLY). What each message
holds is said in protos/trackd/v1/retention.proto.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol

import grpc

from trackd.errors import from_rpc_error
from trackd.requests import Answer, Call, Stubs
from trackd.v1.retention_pb2 import (
    AgreeToPlanRequest,
    ApplyRequest,
    CancelJobRequest,
    ExplainMonthRequest,
    GetRetentionStatusRequest,
    GetRetentionStatusResponse,
    ListEvidenceRequest,
    ListHoldsRequest,
    ListJobsRequest,
    ListMonthsRequest,
    PlaceHoldRequest,
    PlanRequest,
    PlanResponse,
    ReleaseHoldRequest,
    RetentionClass,
    RetentionCopy,
    RetentionHold,
    RetentionJob,
    RetentionJobState,
    RetentionMonth,
    RetentionOverdue,
    RetentionStep,
    WatchJobRequest,
)

__all__ = [
    "AsyncRetention",
    "GetRetentionStatusResponse",
    "JobState",
    "PlanResponse",
    "Retention",
    "RetentionClass",
    "RetentionCopy",
    "RetentionHold",
    "RetentionJob",
    "RetentionMonth",
    "RetentionOverdue",
    "RetentionStep",
    "state_of",
]

EVIDENCE_PAGE = 1_000
"""Records that are asked for at once."""

JobState = Literal["unspecified", "running", "done", "failed", "cancelled"]


def state_of(job: RetentionJob) -> JobState:
    """Where a job is. "done" means that it came to a receipt, which says how each action did."""
    name = RetentionJobState.Name(job.state)
    state: Any = name.removeprefix("RETENTION_JOB_STATE_").lower()
    known: JobState = state
    return known


class Retention:
    """The calls of one Client, as `client.retention`. They raise what its other calls raise."""

    def __init__(self, ask: _Ask, stubs: Stubs) -> None:
        self._ask = ask
        self._stubs = stubs

    def plan(self, *, accept: Iterable[str] = ()) -> PlanResponse:
        """What would be done now: `plan` is canonical JSON, for `apply`; `text` is the same for people.

        `accept` names guards to go on without: "clock", "months_per_run", "share_of_store"; the plan says so. Raises
        Invalid (GUARD_UNKNOWN) for others, Precondition (POLICY_MISSING, POLICY_UNUSABLE).
        """
        return self._ask(_plan(accept))

    def apply(self, plan: str) -> RetentionJob:
        """Begins to apply a plan, as `plan` gave it; returns at once, `watch` tells how it goes.

        Raises Invalid (PLAN_UNREADABLE), Precondition (JOB_RUNNING). A plan that is not what would be done now changes
        nothing: its job fails with the reason PLAN_STALE.
        """
        return self._ask(_apply(plan))

    def watch(self, number: int) -> Iterator[RetentionJob]:
        """The job now and whenever it has moved, until it has ended. Leaving the iteration leaves the job alone.

        There is no time limit. Raises NotFound (JOB_UNKNOWN), Unreachable when the daemon ends: then the job has ended
        with it, nothing of it is half done, and the next run begins again.
        """
        stream = self._stubs.retention.WatchJob(WatchJobRequest(number=number))
        try:
            for response in stream:
                yield response.job
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        finally:
            stream.cancel()

    def jobs(self) -> Sequence[RetentionJob]:
        """The jobs since the daemon was started, the newest first; the last 50."""
        return self._ask(_jobs())

    def cancel(self, number: int) -> None:
        """Ends a job soon: between two actions, or in one, which then has no effect. Raises NotFound (JOB_UNKNOWN)."""
        self._ask(_cancel(number))

    def agree(self, plan_id: str) -> None:
        """A second person's word for a plan, by its whole id. It counts if somebody else applies the plan."""
        self._ask(_agree(plan_id))

    def status(self) -> GetRetentionStatusResponse:
        """How retention stands: what is overdue, computed from the data; when it runs next; the end of the evidence."""
        return self._ask(_status())

    def months(self) -> Sequence[RetentionMonth]:
        """All months, oldest first: classes with their state and steps, copies."""
        return self._ask(_months())

    def explain(self, month: str) -> RetentionMonth:
        """One month, YYYY-MM. Raises Invalid (MONTH_INVALID), NotFound (MONTH_UNKNOWN)."""
        return self._ask(_explain(month))

    def holds(self) -> Sequence[RetentionHold]:
        """All legal holds by code, released ones too. They may name people."""
        return self._ask(_holds())

    def place_hold(
        self,
        code: str,
        reason: str,
        *,
        users: Iterable[str] = (),
        types: Iterable[str] = (),
        sources: Iterable[str] = (),
        first_month: str = "",
        last_month: str = "",
    ) -> RetentionHold:
        """From now on no row is destroyed that all of the given selectors match; at least one must be given.

        `code` is what plans and receipts call it, and must not tell who it is about; `reason` is UPPER_SNAKE, such as
        LITIGATION; `types` may have * in them; months are YYYY-MM, both included. Raises Invalid (HOLD_INVALID),
        Precondition (HOLD_EXISTS): a code is never used twice.
        """
        return self._ask(
            _place_hold(
                RetentionHold(
                    code=code,
                    reason=reason,
                    users=users,
                    types=types,
                    sources=sources,
                    first_month=first_month,
                    last_month=last_month,
                )
            )
        )

    def release_hold(self, code: str) -> RetentionHold:
        """The hold ends; what it kept is dealt with by the next run. Raises NotFound (HOLD_UNKNOWN)."""
        return self._ask(_release_hold(code))

    def evidence(self, after: int = 0) -> Iterator[str]:
        """The records of the chain behind this sequence number, oldest first: each the line that is stored."""
        while lines := self._ask(_evidence(after)):
            yield from lines
            after += len(lines)


class AsyncRetention:
    """The same for asyncio, as `client.retention` of a trackd.aio.Client. See Retention for what each call promises."""

    def __init__(self, ask: _AsyncAsk, stubs: Stubs) -> None:
        self._ask = ask
        self._stubs = stubs

    async def plan(self, *, accept: Iterable[str] = ()) -> PlanResponse:
        """What would be done now."""
        return await self._ask(_plan(accept))

    async def apply(self, plan: str) -> RetentionJob:
        """Begins to apply a plan."""
        return await self._ask(_apply(plan))

    async def watch(self, number: int) -> AsyncIterator[RetentionJob]:
        """The job now and whenever it has moved, until it has ended."""
        stream = self._stubs.retention.WatchJob(WatchJobRequest(number=number))
        try:
            async for response in stream:
                yield response.job
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        finally:
            stream.cancel()

    async def jobs(self) -> Sequence[RetentionJob]:
        """The jobs since the daemon was started, the newest first."""
        return await self._ask(_jobs())

    async def cancel(self, number: int) -> None:
        """Ends a job soon."""
        await self._ask(_cancel(number))

    async def agree(self, plan_id: str) -> None:
        """A second person's word for a plan."""
        await self._ask(_agree(plan_id))

    async def status(self) -> GetRetentionStatusResponse:
        """How retention stands."""
        return await self._ask(_status())

    async def months(self) -> Sequence[RetentionMonth]:
        """All months, oldest first."""
        return await self._ask(_months())

    async def explain(self, month: str) -> RetentionMonth:
        """One month."""
        return await self._ask(_explain(month))

    async def holds(self) -> Sequence[RetentionHold]:
        """All legal holds."""
        return await self._ask(_holds())

    async def place_hold(
        self,
        code: str,
        reason: str,
        *,
        users: Iterable[str] = (),
        types: Iterable[str] = (),
        sources: Iterable[str] = (),
        first_month: str = "",
        last_month: str = "",
    ) -> RetentionHold:
        """From now on no row is destroyed that all of the given selectors match."""
        hold = RetentionHold(
            code=code,
            reason=reason,
            users=users,
            types=types,
            sources=sources,
            first_month=first_month,
            last_month=last_month,
        )
        return await self._ask(_place_hold(hold))

    async def release_hold(self, code: str) -> RetentionHold:
        """The hold ends."""
        return await self._ask(_release_hold(code))

    async def evidence(self, after: int = 0) -> AsyncIterator[str]:
        """The records of the chain behind this sequence number, oldest first."""
        while lines := await self._ask(_evidence(after)):
            for line in lines:
                yield line
            after += len(lines)


class _Ask(Protocol):
    def __call__(self, call: Call[Answer], /) -> Answer: ...


class _AsyncAsk(Protocol):
    def __call__(self, call: Call[Answer], /) -> Awaitable[Answer]: ...


# The calls themselves, once for both


def _call(method: str, request: Any, read: Callable[[Any], Answer]) -> Call[Answer]:
    return Call(lambda stubs: getattr(stubs.retention, method), request, read)


def _plan(accept: Iterable[str]) -> Call[PlanResponse]:
    return _call("Plan", PlanRequest(accepted=accept), lambda response: response)


def _apply(plan: str) -> Call[RetentionJob]:
    return _call("Apply", ApplyRequest(plan=plan), lambda response: response.job)


def _jobs() -> Call[Sequence[RetentionJob]]:
    return _call("ListJobs", ListJobsRequest(), lambda response: response.jobs)


def _cancel(number: int) -> Call[None]:
    return _call("CancelJob", CancelJobRequest(number=number), lambda _response: None)


def _agree(plan_id: str) -> Call[None]:
    return _call("AgreeToPlan", AgreeToPlanRequest(plan_id=plan_id), lambda _response: None)


def _status() -> Call[GetRetentionStatusResponse]:
    return _call("GetRetentionStatus", GetRetentionStatusRequest(), lambda response: response)


def _months() -> Call[Sequence[RetentionMonth]]:
    return _call("ListMonths", ListMonthsRequest(), lambda response: response.months)


def _explain(month: str) -> Call[RetentionMonth]:
    return _call("ExplainMonth", ExplainMonthRequest(month=month), lambda response: response.month)


def _holds() -> Call[Sequence[RetentionHold]]:
    return _call("ListHolds", ListHoldsRequest(), lambda response: response.holds)


def _place_hold(hold: RetentionHold) -> Call[RetentionHold]:
    return _call("PlaceHold", PlaceHoldRequest(hold=hold), lambda response: response.hold)


def _release_hold(code: str) -> Call[RetentionHold]:
    return _call("ReleaseHold", ReleaseHoldRequest(code=code), lambda response: response.hold)


def _evidence(after: int) -> Call[Sequence[str]]:
    return _call("ListEvidence", ListEvidenceRequest(after=after, limit=EVIDENCE_PAGE), lambda response: response.lines)
