"""`trackd bench retention`: how fast months are sealed, archived, anonymized and dropped; what senders notice of it."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
from trackd.v1 import retention_pb2 as pb
from trackd.v1 import retention_pb2_grpc

from retention.applying import Progress, Run, Status
from retention.guards import GUARDS
from retention.month import Month
from retention.plan import Kind
from retention.planning import plan
from retention.policy_file import parse
from server.bench import load, peers
from server.bench.traffic import Traffic
from server.config import Config
from server.errors import Internal
from server.retention.archives import ParquetArchives
from server.retention.stocktaking import Stocktaking
from server.retention.store_port import StorePort
from server.storage.factory import open_store

BATCH = 1_000
DAY_MS = 86_400_000
IDLE_SECONDS = 40.0
"""Longer than the half minute after which the kernel writes what nobody has synced: that belongs to both sides."""
SETTLE_SECONDS = 2.0
SLOW_MS = 100.0

POLICY = """
[rotation]
seal_after = "1 day"
[guards]
share_of_store_max = 1.0
months_per_run_max = 1000
[clock]
max_gap = "4000 days"
[archive.bench]
url = "{archive}"
[profile.plain]
claim = "pseudonymous"
fields = {{ user_id = "rekey per day", timestamp = "keep", source = "keep", metadata = ["repo", "files"] }}
[[class]]
name = "all"
types = ["*"]
purpose = "Benchmark"
legal_basis = "none"
keep_at_most = "50 years"
"""
STEPS = {
    "archive": 'after = "2 days"\ndo = "archive"\ntarget = "bench"\nkeep = "40 years"',
    "anonymize": 'after = "3 days"\ndo = "anonymize"\nprofile = "plain"',
    "drop": 'after = "{age}"\ndo = "drop"',
}


def policy_text(archive: Path, *, dropping: bool) -> str:
    """A policy under which everything is due but the drop, or all of it."""
    steps = [STEPS["archive"], STEPS["anonymize"], STEPS["drop"].format(age="4 days" if dropping else "30 years")]
    return POLICY.format(archive=archive) + "".join(f"[[class.step]]\n{step}\n" for step in steps)


def measure(
    *, rows: int, rate: int, seconds: float, directory: Path, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Runs everything on fresh directories below `directory` and returns the figures.

    `rows`: of the month, without ingest. `rate`: rows a second that retention may do beside ingest. `seconds`: how much
    of events, at half of the sustained rate, lies in the month that is retained beside ingest.
    """
    peers.refuse_tmpfs(directory)
    with tempfile.TemporaryDirectory(dir=directory, prefix="trackd-bench-") as scratch_name:
        scratch = Path(scratch_name)
        report: dict[str, Any] = {"rows": rows, "rate": rate}
        sustained = _fill(scratch / "alone", rows, seed, say)
        report["sustained_events_per_second"] = round(sustained)
        report["alone"] = _alone(scratch / "alone", scratch / "alone-archive", say)
        for name in ("alone", "alone-archive"):
            shutil.rmtree(scratch / name, ignore_errors=True)
        report["beside_ingest"] = _beside(scratch, sustained / 2, rate, seconds, seed + 1, say)
        return report


def old_month() -> Month:
    """A month that ended some months ago."""
    return Month.of(int(time.time() * 1000) - 120 * DAY_MS)


def _fill(data: Path, rows: int, seed: int, say: Callable[[str], None]) -> float:
    """A closed directory with a month of so many events; the rate at which they were taken and indexed."""
    say(f"streaming {rows:,} events of one month")
    per_ms = max(8, rows // (20 * DAY_MS) + 1)
    traffic = Traffic(seed, start_ms=old_month().start_ms + 1_000, events_per_ms=per_ms)
    with peers.daemon(data) as peer:
        start = time.perf_counter()
        load.flows(peer.target, [("bench", islice(traffic.endless(BATCH), rows // BATCH))])
        while peer.samples()["trackd_fold_lag_events"]:
            time.sleep(0.05)
        return rows / (time.perf_counter() - start)


def _alone(data: Path, archive: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Each action by itself, on an open store, rows a second."""
    now_ms = int(time.time() * 1000)
    figures: dict[str, Any] = {}
    with closing(open_store("sqlite", Config(data=str(data)))) as store:
        archives = ParquetArchives(store, data, lambda: now_ms)
        stocktaking = Stocktaking(
            store,
            lambda action: action(),
            held_copy=archives.held,
            is_importing=lambda: False,
            is_ingesting=lambda: False,
        )
        port = StorePort(store, lambda action: action(), stocktaking, archives)
        for dropping in (False, True):
            policy = parse(policy_text(archive, dropping=dropping))
            planned = plan(policy, port.facts(policy, now_ms), now_ms, GUARDS)
            clock = _Clock(say)
            receipt = Run(planned, policy, port, "bench", lambda: now_ms, heard=clock.heard).apply()
            clock.end()
            for one in receipt.results:
                if one.status is not Status.DONE or one.outcome is None:
                    raise Internal("BENCH_FAILED", f"{one.action.key}: {one.reason} {one.problem}")
                taken = clock.seconds[str(one.action.kind)]
                figures[f"{one.action.kind}_seconds"] = round(taken, 3)
                if one.action.kind is not Kind.DROP:
                    figures[f"{one.action.kind}_rows_per_second"] = round(one.action.rows / taken)
    return figures


class _Clock:
    """How long each kind of action takes, told by its progress."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._say = say
        self._now = ""
        self._since = 0.0

    def heard(self, progress: Progress) -> None:
        kind = str(progress.what.kind)
        if kind != self._now:
            self.end()
            self._now, self._since = kind, time.perf_counter()
            self._say(f"{kind} of {progress.of_rows:,} events")

    def end(self) -> None:
        if self._now:
            self.seconds[self._now] = time.perf_counter() - self._since


def _beside(
    scratch: Path, per_second: float, rate: int, seconds: float, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Acknowledgements at half of the sustained rate: idle, beside a run, and beside the drop of a month."""
    data, archive, policy = scratch / "beside", scratch / "beside-archive", scratch / "retention.toml"
    rows = int(per_second * seconds) // BATCH * BATCH
    _fill(data, rows, seed, say)
    settings = scratch / "trackd.toml"
    policy.write_text(policy_text(archive, dropping=False), "utf-8")
    settings.write_text(f'[retention]\npolicy = "{policy}"\nrows_per_second_max = {rate}\n', "utf-8")
    with peers.daemon(data, "--config", str(settings)) as peer:
        retention = _Retention(data)
        say(f"streaming {per_second:,.0f} events/s, nothing beside")
        idle = _Load(peer.target, per_second, seed + 1).during(lambda: time.sleep(IDLE_SECONDS))
        say(f"the same beside seal, archive and anonymize of {rows:,} events, {rate:,} rows/s at most")
        working = _Load(peer.target, per_second, seed + 2).during(retention.apply)
        policy.write_text(policy_text(archive, dropping=True), "utf-8")
        say("the same beside the drop of the month")
        dropping = _Load(peer.target, per_second, seed + 3).during(retention.apply)
        peak = peer.peak_rss_bytes()
    ratio = working.quantile_ms(0.99) / max(idle.quantile_ms(0.99), 0.001)
    return {
        "events_per_second": round(per_second),
        "rows": rows,
        "run_seconds": round(working.seconds, 1),
        "idle_ack_p50_ms": round(idle.quantile_ms(0.5), 2),
        "idle_ack_p99_ms": round(idle.quantile_ms(0.99), 2),
        "idle_ack_max_ms": round(idle.quantile_ms(1.0), 2),
        "working_ack_p50_ms": round(working.quantile_ms(0.5), 2),
        "working_ack_p99_ms": round(working.quantile_ms(0.99), 2),
        "working_ack_max_ms": round(working.quantile_ms(1.0), 2),
        "ack_p99_ratio": round(ratio, 2),
        "drop_ack_p99_ms": round(dropping.quantile_ms(0.99), 2),
        "drop_ack_max_ms": round(dropping.quantile_ms(1.0), 2),
        "drop_acks_over_100_ms": sum(ms > SLOW_MS for ms in dropping.ack_ms),
        "idle_acks_over_100_ms": sum(ms > SLOW_MS for ms in idle.ack_ms),
        "peak_rss_bytes": peak,
    }


class _Load:
    """Events of this month at an even rate, for as long as something goes on."""

    def __init__(self, target: str, per_second: float, seed: int) -> None:
        self._target = target
        self._per_second = per_second
        # Made here: what takes its time before the first message would be caught up with afterwards, in a burst.
        self._made = Traffic(seed).endless(BATCH)
        self._over = False

    def _messages(self) -> Iterator[bytes]:
        for message in self._made:
            if self._over:
                return
            yield message

    def during(self, work: Callable[[], None]) -> load.Run:
        """What senders saw until the work was done and its traces were gone."""
        found: list[load.Run] = []
        sender = threading.Thread(
            target=lambda: found.append(
                load.flows(self._target, [("bench", self._messages())], per_second=self._per_second / BATCH)
            )
        )
        sender.start()
        time.sleep(SETTLE_SECONDS)
        try:
            work()
            time.sleep(SETTLE_SECONDS)
        finally:
            self._over = True
            sender.join()
        if not found:
            raise Internal("BENCH_FAILED", "the stream of events failed")
        return found[0]


class _Retention:
    """Plans and applies over the daemon's socket, as an operator does."""

    def __init__(self, data: Path) -> None:
        self._target = f"unix:{(data / 'control.sock').absolute()}"

    def apply(self) -> None:
        """Everything that is due, to the end."""
        with grpc.insecure_channel(self._target) as channel:
            stub: Any = retention_pb2_grpc.RetentionServiceStub(channel)  # type: ignore[no-untyped-call]
            planned = stub.Plan(pb.PlanRequest(accepted=GUARDS)).plan
            if not json.loads(planned)["actions"]:
                raise Internal("BENCH_FAILED", "there was nothing to do")
            job = stub.Apply(pb.ApplyRequest(plan=planned)).job
            for reply in stub.WatchJob(pb.WatchJobRequest(number=job.number)):
                job = reply.job
        failed = [one for one in json.loads(job.receipt or '{"results": []}')["results"] if one["status"] != "done"]
        if job.state != pb.RETENTION_JOB_STATE_DONE or failed:
            raise Internal("BENCH_FAILED", f"the run failed: {job.problem or failed}")
