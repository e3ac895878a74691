"""The scheduler: plans and applies by itself when the policy says so, inside its guards, on the path of people."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from cronsim import CronSim

from retention.applying import Status
from retention.policy import Schedule
from server.errors import TrackdError
from server.retention.endings import EVERY
from server.retention.service import SCHEDULER, RetentionService

log = structlog.get_logger(__name__)

LOOK_S = 10.0
"""So often the policy and the clock are looked at: a policy that changes, or a clock that jumps, is noticed."""
STOCK_S = 3_600.0
"""So often what is overdue is computed from the data, whatever the schedule does."""


def next_run_ms(schedule: Schedule, after_ms: int) -> int:
    """When the cron expression fires next (UTC), without jitter."""
    moment = datetime.fromtimestamp(after_ms / 1000, UTC)
    return int(next(CronSim(schedule.cron, moment)).timestamp()) * 1000


class Scheduler:
    """Lives on the event loop."""

    def __init__(
        self,
        service: RetentionService,
        now_ms: Callable[[], int],
        *,
        jitter: Callable[[int], int] = lambda most_ms: random.randint(0, most_ms),  # noqa: S311  # spreads load
    ) -> None:
        """`jitter` draws from 0 to what it is given, in milliseconds."""
        self._service = service
        self._now_ms = now_ms
        self._jitter = jitter
        self._planned: tuple[str, int, int] | None = None
        """The expression that was looked at, when it fires, and that with jitter."""
        self._stock_due_ms = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        while self._service.policy:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Runs what is due now."""
        self._service.quiet.look()
        now_ms = self._now_ms()
        try:
            policy = self._service.policy.now()
            schedule = policy.schedule
            self._service.endings.know(policy, now_ms)
            if schedule is None:
                self._planned, self._service.next_run_ms = None, None
            elif self._due(schedule, now_ms):
                await self._run_once()
            if now_ms >= self._stock_due_ms:
                self._stock_due_ms = now_ms + int(STOCK_S * 1000)
                await self._service.status()
                await self._service.expire_restored()
        except TrackdError as error:
            self._service.endings.ended(self._now_ms(), failed=[EVERY])
            log.error("retention_not_run", reason=error.reason, problem=str(error))

    def _due(self, schedule: Schedule, now_ms: int) -> bool:
        """Whether it fires. A run that was missed while the clock stood elsewhere is not made up for twice."""
        if self._planned is None or self._planned[0] != schedule.cron or self._planned[1] > now_ms + 367 * 86_400_000:
            self._planned = self._next(schedule, now_ms)
        fires = self._planned[2] <= now_ms
        if fires:
            self._planned = self._next(schedule, now_ms)
        self._service.next_run_ms = self._planned[2]
        return fires

    def _next(self, schedule: Schedule, now_ms: int) -> tuple[str, int, int]:
        fires_ms = next_run_ms(schedule, now_ms)
        return schedule.cron, fires_ms, fires_ms + self._jitter(schedule.jitter_ms)

    async def _run_once(self) -> None:
        plan = await self._service.plan()
        for guard in plan.guards:
            log.error("retention_guarded", guard=guard.name, problem=guard.problem)
        job = self._service.apply(plan, SCHEDULER)
        async for _now in job.watch():
            pass
        if job.receipt and job.receipt.results:
            log.info(
                "retention_applied",
                plan=plan.id[:12], actions=len(job.receipt.results), done=job.receipt.count(Status.DONE),
                failed=job.receipt.count(Status.FAILED), evidence=job.receipt.head.sequence,
            )  # fmt: skip
