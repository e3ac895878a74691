"""RetentionService: plans, jobs, holds, evidence."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf import message
from trackd.v1 import retention_pb2 as pb

from retention.plan_text import plan_lines
from server.errors import Invalid
from server.observe import Observer
from server.retention.plans import read_plan
from server.retention.service import RetentionService
from server.rpc import calls, codec, retention_words
from server.rpc.gzipped import unpacked

SERVICE = "trackd.v1.RetentionService"
EVIDENCE_MAX = 1_000

_Request = TypeVar("_Request", bound=message.Message)
Caller = Callable[[calls.Context], str]
"""Who is calling, as evidence names them; raises Denied for whoever may not."""


class RetentionMethods:
    """The methods of RetentionService."""

    def __init__(self, service: RetentionService, caller: Caller, observer: Observer) -> None:
        self._service = service
        self._caller = caller
        self._observer = observer

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """What the server registers."""
        unary: dict[str, tuple[type[Any], Callable[[Any, str], Awaitable[message.Message]]]] = {
            "Plan": (pb.PlanRequest, self._plan),
            "Apply": (pb.ApplyRequest, self._apply),
            "ListJobs": (pb.ListJobsRequest, self._list_jobs),
            "CancelJob": (pb.CancelJobRequest, self._cancel),
            "AgreeToPlan": (pb.AgreeToPlanRequest, self._agree),
            "GetRetentionStatus": (pb.GetRetentionStatusRequest, self._status),
            "ListMonths": (pb.ListMonthsRequest, self._months),
            "ExplainMonth": (pb.ExplainMonthRequest, self._explain),
            "ListHolds": (pb.ListHoldsRequest, self._holds),
            "PlaceHold": (pb.PlaceHoldRequest, self._place),
            "ReleaseHold": (pb.ReleaseHoldRequest, self._release),
            "ListEvidence": (pb.ListEvidenceRequest, self._evidence),
        }
        handlers = {name: self._unary(name, *how) for name, how in unary.items()}
        watch = calls.watched(self._observer, SERVICE, "WatchJob", calls.SERVER_STREAM, self._watch)
        return {**handlers, "WatchJob": grpc.unary_stream_rpc_method_handler(watch)}

    def _unary(
        self, method: str, kind: type[_Request], answer: Callable[[_Request, str], Awaitable[message.Message]]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        async def handle(raw: bytes, context: calls.Context) -> bytes:
            self._observer.message_received(SERVICE, method, calls.UNARY)
            actor = self._caller(context)
            reply = (await answer(await _parsed(raw, kind), actor)).SerializeToString()
            self._observer.message_sent(SERVICE, method, calls.UNARY)
            return reply

        watched = calls.watched(self._observer, SERVICE, method, calls.UNARY, handle)
        return grpc.unary_unary_rpc_method_handler(watched)

    async def _plan(self, request: pb.PlanRequest, _actor: str) -> message.Message:
        plan = await self._service.plan(tuple(request.accepted))
        return pb.PlanResponse(plan=plan.json().decode(), text="\n".join(line.text for line in plan_lines(plan)))

    async def _apply(self, request: pb.ApplyRequest, actor: str) -> message.Message:
        job = self._service.apply(read_plan(request.plan), actor)
        return pb.ApplyResponse(job=retention_words.job(job))

    async def _watch(self, raw: bytes, context: calls.Context) -> None:
        self._observer.message_received(SERVICE, "WatchJob", calls.SERVER_STREAM)
        self._caller(context)
        request = await _parsed(raw, pb.WatchJobRequest)
        async for job in self._service.job(request.number).watch():
            await context.write(pb.WatchJobResponse(job=retention_words.job(job)).SerializeToString())
            self._observer.message_sent(SERVICE, "WatchJob", calls.SERVER_STREAM)

    async def _list_jobs(self, _request: pb.ListJobsRequest, _actor: str) -> message.Message:
        return pb.ListJobsResponse(jobs=map(retention_words.job, self._service.jobs()))

    async def _cancel(self, request: pb.CancelJobRequest, _actor: str) -> message.Message:
        self._service.job(request.number).cancel()
        return pb.CancelJobResponse()

    async def _agree(self, request: pb.AgreeToPlanRequest, actor: str) -> message.Message:
        if not re.fullmatch(r"[0-9a-f]{64}", request.plan_id):
            raise Invalid(
                "PLAN_UNREADABLE", "the id of a plan has 64 hexadecimal digits", hint="give it whole", field="plan_id"
            )
        await self._service.agree(request.plan_id, actor)
        return pb.AgreeToPlanResponse()

    async def _status(self, _request: pb.GetRetentionStatusRequest, _actor: str) -> message.Message:
        status = await self._service.status()
        types = {stock.event_type for one in status.facts.months for stock in one.stocks}
        return pb.GetRetentionStatusResponse(
            policy=status.policy.digest,
            overdue=map(retention_words.overdue, status.overdue),
            next_run_ms=self._service.next_run_ms,
            evidence_sequence=status.head.sequence,
            evidence_digest=status.head.digest,
            events=status.facts.rows,
            months=sum(bool(one.stocks) for one in status.facts.months),
            without_policy=status.policy.without_class(types),
        )

    async def _months(self, _request: pb.ListMonthsRequest, _actor: str) -> message.Message:
        status = await self._service.status()
        months = sorted(status.facts.months, key=lambda one: one.month)
        return pb.ListMonthsResponse(
            months=[retention_words.month(status.policy, one, status.now_ms) for one in months]
        )

    async def _explain(self, request: pb.ExplainMonthRequest, _actor: str) -> message.Message:
        status = await self._service.status()
        facts = status.month(retention_words.month_of(request.month))
        return pb.ExplainMonthResponse(month=retention_words.month(status.policy, facts, status.now_ms))

    async def _holds(self, _request: pb.ListHoldsRequest, _actor: str) -> message.Message:
        return pb.ListHoldsResponse(holds=map(retention_words.hold, await self._service.holds()))

    async def _place(self, request: pb.PlaceHoldRequest, actor: str) -> message.Message:
        placed = await self._service.place(retention_words.hold_of(request.hold), actor)
        return pb.PlaceHoldResponse(hold=retention_words.hold(placed))

    async def _release(self, request: pb.ReleaseHoldRequest, actor: str) -> message.Message:
        released = await self._service.release(request.code, actor)
        return pb.ReleaseHoldResponse(hold=retention_words.hold(released))

    async def _evidence(self, request: pb.ListEvidenceRequest, _actor: str) -> message.Message:
        limit = request.limit if 0 < request.limit <= EVIDENCE_MAX else EVIDENCE_MAX
        lines = await self._service.evidence(max(0, request.after), limit)
        return pb.ListEvidenceResponse(lines=[line.decode() for line in lines])


async def _parsed(raw: bytes, kind: type[_Request]) -> _Request:
    try:
        return kind.FromString(await unpacked(raw))
    except message.DecodeError as error:
        raise codec.undecodable(kind.DESCRIPTOR.name) from error
