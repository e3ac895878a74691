"""RetentionService beside a store in memory: two persons, errors of the store, what gauges are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from retention.applying import Receipt
from retention.facts import Copy, CopyKind
from retention.hold import Hold
from retention.month import Month
from retention.policy import ArchiveTarget
from server.config import Config
from server.errors import Unavailable
from server.observe import Observer, RetentionActed
from server.retention.jobs import Job, JobState
from server.retention.policy_in_use import PolicyInUse
from server.retention.schedule import Scheduler
from server.retention.service import SCHEDULER, RetentionService
from server.storage.contract import Store
from server.storage.factory import open_store
from tests.support.events import append, make_event
from tests.support.kept import POLICY
from tests.support.retaining import deed

NOW_MS = Month(2040, 6).start_ms
TWO = POLICY.format(months=100).replace("two_person = []", 'two_person = ["drop"]')


class Nowhere:
    """Archives of a target that does not answer."""

    def expire_restored(self) -> None:
        """Has none."""

    def learn(self, targets: Iterable[ArchiveTarget]) -> None:
        """Fine."""

    def held(self, month: Month, copy: Copy, holds: Sequence[Hold]) -> Copy:
        """Has to look at the target."""
        raise Unavailable("ARCHIVE_TARGET", "it does not answer")

    def make(self, *_arguments: Any) -> Copy:
        """Not here."""
        raise AssertionError

    def destroy(self, *_arguments: Any) -> Copy | None:
        """Not here."""
        raise AssertionError


@asynccontextmanager
async def serving(
    tmp_path: Path, policy: str, observer: Observer | None = None
) -> AsyncIterator[tuple[RetentionService, Store]]:
    """A service over a store with three old events; the loop's thread is the writer's."""
    store = open_store("memory", Config())
    append(store, *(make_event(number, month="2025-11", offset_ms=number) for number in range(3)))
    file = tmp_path / "policy.toml"
    file.write_text(policy, "utf-8")

    async def on_writer(action: Callable[[], Any]) -> Any:
        return action()

    service = RetentionService(
        store,
        on_writer,
        PolicyInUse(file),
        tmp_path,
        Nowhere(),
        now_ms=lambda: NOW_MS,
        quiet_s=0,
        observer=observer,
    )
    yield service, store
    await service.stop()


async def run(service: RetentionService, actor: str) -> Receipt:
    """Plans and applies."""
    job = service.apply(await service.plan(), actor)
    ended = await last(job)
    assert ended.receipt, ended.error
    return ended.receipt


async def last(job: Job) -> Job:
    """The job once it has ended."""
    async for _now in job.watch():
        pass
    assert job.state is not JobState.RUNNING
    return job


def told(receipt: Receipt) -> dict[str, str]:
    """Action -> status and reason."""
    return {str(one.action.kind): f"{one.status} {one.reason}".rstrip() for one in receipt.results}


async def test_what_wants_two_persons_waits_for_the_word_of_another_one(tmp_path: Path) -> None:
    """One's own does not count, nor one for another plan; the rest is done meanwhile."""
    async with serving(tmp_path, TWO) as (service, store):
        assert told(await run(service, "uid:1"))["drop"] == "blocked two_person"
        plan = await service.plan()
        await service.agree("f" * 64, "uid:2")
        await service.agree(plan.id, "uid:1")
        assert told(await run(service, "uid:1")) == {"drop": "blocked two_person"}
        await service.agree(plan.id, "uid:2")
        assert told(await run(service, "uid:1")) == {"drop": "done"}
        assert sum(size.rows for size in store.sizes().values()) == 0


async def test_actions_are_announced_when_their_run_has_ended(tmp_path: Path) -> None:
    """Those that a guard stopped, too, and once each."""
    announced: list[tuple[str, str, int]] = []

    class Listening(Observer):
        def retention_acted(self, action: RetentionActed) -> None:
            announced.append((action.action, action.status, action.rows))

    async with serving(tmp_path, TWO, Listening()) as (service, _store):
        await run(service, "uid:1")
        assert announced == [("seal", "done", 3), ("freeze", "done", 3), ("drop", "blocked", 3)]


async def test_an_error_of_the_store_keeps_its_reason(tmp_path: Path) -> None:
    """A target that does not answer is no defect of the daemon; a run that meets it has failed for every class."""
    async with serving(tmp_path, POLICY.format(months=100)) as (service, store):
        plan = await service.plan()
        month = Month(2025, 11)
        copy = Copy(CopyKind.ARCHIVE, "2025-11-a", ("review_submitted",), 3, 9, NOW_MS, target="local")
        await run(service, "uid:1")
        store.records.put_copy(month, copy, deed("archive"))
        with pytest.raises(Unavailable) as failed:
            await service.plan()
        assert failed.value.reason == "ARCHIVE_TARGET"
        job = await last(service.apply(plan, SCHEDULER))
        assert job.error
        assert (job.state, job.error.reason) == (JobState.FAILED, "ARCHIVE_TARGET")
        assert service.endings.failure_ms == {"reviews": NOW_MS}


async def test_what_is_overdue_is_noted_for_each_class(tmp_path: Path) -> None:
    """When a plan is made, and again when it was applied; and that a run left something undone is no success."""
    async with serving(tmp_path, TWO.replace("30 years", "11 years")) as (service, _store):
        plan = await service.plan()
        assert service.overdue_since_ms["reviews"] == plan.overdue[0].since_ms > 0
        service.endings.success_ms = {"reviews": 1}
        await run(service, "uid:1")
        assert service.endings.success_ms == {"reviews": 1}
        await service.agree((await service.plan()).id, "uid:2")
        await run(service, "uid:1")
        assert service.endings.success_ms == {"reviews": NOW_MS}
        assert service.overdue_since_ms == {"reviews": 0}


async def test_a_policy_that_breaks_counts_as_a_failure(tmp_path: Path) -> None:
    """Of the scheduler, for every class that was known."""
    async with serving(tmp_path, TWO) as (service, _store):
        scheduler = Scheduler(service, lambda: NOW_MS + 9)
        await scheduler.look()
        assert service.endings.failure_ms == {"reviews": 0}
        (tmp_path / "policy.toml").write_text("nonsense", "utf-8")
        await scheduler.look()
        assert service.endings.failure_ms == {"reviews": NOW_MS + 9}
