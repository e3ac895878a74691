"""`trackd bench query`: how fast questions are answered, idle and while events come in, beside PostgreSQL and DuckDB.

All three have the same rows, are asked the same questions with the same parameters one after the other, and their first
answers to each kind are compared row by row.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retention.month import Month
from server.bench import databases, load, peers
from server.bench.asking import REPETITIONS_MAX, Engine, Rows, ask_repeatedly, difference
from server.bench.catch_up import TailWatch
from server.bench.daemon_engine import DaemonEngine, read_report
from server.bench.databases import Database
from server.bench.history import SOURCES, TYPES, History
from server.bench.ingest import FLOOR_ROWS, size_of
from server.bench.live import Live, Plan
from server.bench.questions import KINDS, Asked
from server.bench.spool import Spool
from server.bench.verdict import EQUAL, INGEST_FACTOR, failed, judge
from server.errors import Internal
from server.storage.sqlite.floor import measure_floor

DIMENSIONS = ("repo",)
"""Declared for every type before the first event, as who asks about a metadata key would."""
DRAWS = REPETITIONS_MAX
"""No question comes twice but where there are no more of its kind."""
LIVE_SHARE = 0.5
"""Of the sustained rate."""
BUSY_SHARE = 0.5
"""Of the time for a kind of question while events come in: they all fall into one month, which shall not only grow."""
SUSTAINED_BAR = 0.20
"""Of the floor."""
ANSWER_ROWS_MIN = 20_000
SAY_EVENTS = 1_000_000

Say = Callable[[str], None]


@dataclass(slots=True)
class _Asked:
    """What the questions to one engine brought, by the name of their kind."""

    timings: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: dict[str, list[Rows]] = field(default_factory=dict)
    reads: dict[str, dict[str, Any]] = field(default_factory=dict)


def history_before(
    now_s: float, *, events: int, months: int, users: int, batch: int, seed: int, skew: float
) -> History:
    """A history of the whole months before the one that `now_s` is in."""
    first = Month.of(int(now_s * 1000))
    for _ in range(months):
        first = Month.of(first.start_ms - 1)
    return History(events, first, months, users, batch, seed, skew)


def measure(
    history: History, *, seconds: float, peer_names: Sequence[str], directory: Path, say: Say
) -> dict[str, Any]:
    """Runs everything on fresh directories below `directory` and returns the figures. `say` hears what goes on.

    `seconds`: about the most that one kind of question is asked one engine. Precondition if the directory is in memory
    or a peer is not installed.
    """
    peers.refuse_tmpfs(directory)
    with tempfile.TemporaryDirectory(dir=directory.resolve(), prefix="trackd-bench-") as scratch_name:
        scratch, report = Path(scratch_name), _about(history)
        openers = {name: databases.opener(name, scratch) for name in peer_names}
        table = scratch / "events.tsv"
        spool = _write(history, scratch, table, say)
        draws = {kind.name: _draws(history, kind.name) for kind in KINDS}
        idle, busy = _measure_daemon(report, history, spool, draws, seconds, scratch, say)
        asked = {}
        for name, opened in openers.items():
            say(f"{name}: loading the same rows")
            with opened(table, scratch) as database:
                report["peers"][name] = dict(database.about)
                asked[name] = _ask_peer(database, name, draws, seconds, say)
    report["questions"] = _questions(idle, busy, asked)
    report["failed"] = [entry["name"] for entry in report["questions"] if failed(entry)]
    return report


def _about(history: History) -> dict[str, Any]:
    return {
        "events": history.events,
        "months": history.months,
        "first_month": str(history.first),
        "users": history.users,
        "types": TYPES,
        "sources": len(SOURCES),
        "batch": history.batch,
        "skew": history.skew,
        "load_average": round(os.getloadavg()[0], 2),
        "peers": {},
    }


def _write(history: History, scratch: Path, table: Path, say: Say) -> Spool:
    def heard(done: int) -> None:
        if done % SAY_EVENTS < 100_000:
            say(f"drawing events: {done:,} of {history.events:,}")

    spool = Spool(scratch / "messages")
    history.write(spool, table, heard)
    return spool


def _draws(history: History, name: str) -> list[Asked]:
    chance = random.Random(f"{history.seed} {name}")  # noqa: S311
    kind = next(kind for kind in KINDS if kind.name == name)
    return [kind.draw(chance, history) for _ in range(DRAWS)]


# The daemon


def _measure_daemon(
    report: dict[str, Any],
    history: History,
    spool: Spool,
    draws: Mapping[str, Sequence[Asked]],
    seconds: float,
    scratch: Path,
    say: Say,
) -> tuple[_Asked, _Asked]:
    """Adds what loading and the stream beside the questions brought to the report."""
    data = scratch / "data"
    with (
        peers.daemon(data, "--config", str(_settings(history, scratch))) as peer,
        DaemonEngine(peer.target, SOURCES) as engine,
    ):
        engine.declare(DIMENSIONS)
        say(f"streaming {history.events:,} events")
        loaded = _load(peer, history, spool)
        loaded["bytes_per_event"] = round(size_of(data) / history.events, 1)
        say(f"{loaded['sustained_events_per_second']:,} events/s with everything caught up")
        idle = _ask_daemon(engine, draws, seconds, "idle", say)
        rate = loaded["sustained_events_per_second"] * LIVE_SHARE
        plan = Plan(peer.target, history.live_ms, history.users, history.batch, rate, history.seed + 1)
        with TailWatch(peer.samples) as tail, Live(plan) as live:
            busy = _ask_daemon(engine, draws, seconds * BUSY_SHARE, f"with {rate:,.0f} events/s coming in", say)
        report["load"] = loaded
        report["ingest"] = live.figures | {"tail_events_peak": tail.peak}
        report["peak_rss_bytes"] = peer.peak_rss_bytes()
    say("the floor: the same rows straight through the driver")
    floor = measure_floor(data, scratch, rows_max=FLOOR_ROWS, rows_per_commit=max(1, loaded["events_per_commit"]))
    report["floor_events_per_second"] = round(floor.full_per_second)
    loaded["sustained_ratio_to_floor"] = round(loaded["sustained_events_per_second"] / floor.full_per_second, 3)
    loaded["bar_sustained_ratio_to_floor"] = SUSTAINED_BAR
    loaded["bar_met"] = loaded["sustained_ratio_to_floor"] >= SUSTAINED_BAR
    return idle, busy


def _settings(history: History, scratch: Path) -> Path:
    """Lets answers be as long as a daily series by type over all months is."""
    days = (history.end_ms - history.start_ms) // 86_400_000 + 2
    path = scratch / "trackd.toml"
    path.write_text(f"[query]\nanswer_rows_max = {max(ANSWER_ROWS_MIN, days * TYPES)}\n", "utf-8")
    return path


def _load(peer: peers.Peer, history: History, spool: Spool) -> dict[str, Any]:
    flows = [(source, spool.every(len(SOURCES), number)) for number, source in enumerate(SOURCES)]
    with TailWatch(peer.samples) as tail:
        start = time.perf_counter()
        run = load.flows(peer.target, flows)
        tail.wait()
        sustained_seconds = time.perf_counter() - start
    if run.accepted != history.events:
        raise Internal("BENCH_FAILED", f"{run.accepted} of {history.events} events were accepted")
    commits = peer.samples()["trackd_ingest_commit_seconds_count"]
    return {
        "seconds": round(run.seconds, 3),
        "events_per_second": round(history.events / run.seconds),
        "ack_p50_ms": round(run.quantile_ms(0.5), 2),
        "ack_p99_ms": round(run.quantile_ms(0.99), 2),
        "events_per_commit": round(history.events / commits),
        "sustained_seconds": round(sustained_seconds, 3),
        "sustained_events_per_second": round(history.events / sustained_seconds),
        "tail_events_peak": tail.peak,
    }


def _ask_daemon(
    engine: DaemonEngine, draws: Mapping[str, Sequence[Asked]], seconds: float, how: str, say: Say
) -> _Asked:
    asked = _Asked()
    for kind in KINDS:
        say(f"trackd, {how}: {kind.title}")
        try:
            timing, answers = ask_repeatedly(engine, kind, draws[kind.name], seconds=seconds)
        except Internal as error:
            asked.timings[kind.name] = {"error": error.message}
            continue
        asked.timings[kind.name] = timing.figures()
        asked.answers[kind.name] = [engine.rows(answer) for answer in answers]
        asked.reads[kind.name] = read_report(answers[-1])
    return asked


# Peers, and all together


def _ask_peer(engine: Database, name: str, draws: Mapping[str, Sequence[Asked]], seconds: float, say: Say) -> _Asked:
    asked = _Asked()
    peer: Engine = engine
    for kind in KINDS:
        say(f"{name}: {kind.title}")
        timing, answers = ask_repeatedly(peer, kind, draws[kind.name], seconds=seconds)
        asked.timings[kind.name] = timing.figures()
        asked.answers[kind.name] = [peer.rows(answer) for answer in answers]
    return asked


def _questions(idle: _Asked, busy: _Asked, asked: Mapping[str, _Asked]) -> list[dict[str, Any]]:
    entries = []
    for kind in KINDS:
        name, ours = kind.name, idle.answers.get(kind.name, [])
        entry: dict[str, Any] = {
            "name": name,
            "title": kind.title,
            "bar_p99_ms": kind.bar_ms,
            "bar_with_ingest_p99_ms": kind.bar_ms and kind.bar_ms * INGEST_FACTOR,
            "idle": idle.timings[name],
            "with_ingest": busy.timings[name],
            "rows": len(ours[0]) if ours else 0,
            "read": idle.reads.get(name, {}),
            "read_with_ingest": busy.reads.get(name, {}),
            "peers": {},
        }
        for peer, theirs in asked.items():
            entry["peers"][peer] = dict(theirs.timings[name])
            if ours:
                differences = map(difference, ours, theirs.answers[name])
                entry["peers"][peer]["answers"] = next(filter(None, differences), EQUAL)
        judge(entry)
        entries.append(entry)
    return entries
