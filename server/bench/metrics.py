"""`trackd bench metrics`: what metrics cost the daemon while it ingests, and how long a scrape takes.

Two daemons, one with metrics and one without, get the same messages in turns, and the one that begins alternates. What
else goes on in the machine changes from second to second; within a pair it is nearly the same.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from trackd.v1 import event_pb2, ingest_pb2

from retention.month import Month
from server.bench import load, peers
from server.bench.catch_up import TailWatch
from server.bench.load import quantile
from server.bench.peers import Peer
from server.bench.traffic import Traffic, uuid7
from server.errors import Internal

COST_MAX = 0.03
SCRAPE_MAX_MS = 25.0
"""The bars."""

MONTHS, TYPES = 300, 1_000
FIRST_MONTH = Month(2000, 1)
SCRAPES = 200
CALLERS = 64
PROMETHEUS = {
    "Accept": "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}
"""What a Prometheus sends."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One run: requests a second, and the processor time of the daemon for all of it."""

    per_second: float
    cpu_seconds: float


def measure(
    *, pairs: int, events: int, batch: int, calls: int, directory: Path, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Runs everything on fresh directories below `directory` and returns the figures. `say` hears what goes on."""
    peers.refuse_tmpfs(directory)
    report: dict[str, Any] = {"pairs": pairs, "events": events, "batch": batch, "unary_calls": calls}
    with tempfile.TemporaryDirectory(dir=directory, prefix="trackd-bench-") as name:
        scratch = Path(name)
        traffic = Traffic(seed)
        with peers.daemon(scratch / "on") as on, peers.unmeasured(scratch / "off") as off:

            def streamed(peer: Peer, messages: Sequence[bytes]) -> Taken:
                return _taken(peer, lambda: load.stream(peer.target, messages), batch)

            def called(peer: Peer, requests: Sequence[bytes]) -> Taken:
                return _taken(peer, lambda: load.unary(peer.target, requests, callers=CALLERS), 1)

            stream = _compare(on, off, pairs, lambda: traffic.batches(events, batch), streamed, "streaming", say)
            unary = _compare(on, off, pairs, lambda: list(traffic.requests(calls)), called, "unary calls", say)
        report["stream"] = stream
        report["unary"] = unary
        report["bar_cost"] = COST_MAX
        report["bar_cost_met"] = stream["cost"] <= COST_MAX
        report["scrape"] = _scrapes(scratch / "scraped", Traffic(seed + 1), batch, say)
        report["bar_scrape_ms"] = SCRAPE_MAX_MS
        report["bar_scrape_met"] = report["scrape"]["p50_ms"] < SCRAPE_MAX_MS
    report["load_average"] = round(os.getloadavg()[0], 2)
    return report


# What they cost


def _compare(
    on: Peer,
    off: Peer,
    pairs: int,
    make: Callable[[], Sequence[bytes]],
    run: Callable[[Peer, Sequence[bytes]], Taken],
    what: str,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """`cost` is the median share of the rate that metrics take; `cost_of_cpu` the same of processor time."""
    rates: list[float] = []
    cpu: list[float] = []
    taken: dict[str, list[float]] = {"on": [], "off": []}
    for number in range(pairs + 1):
        say(f"{what}, with and without metrics: pair {number} of {pairs}" if number else f"{what}: warming up")
        messages = make()
        order = (("on", on), ("off", off)) if number % 2 else (("off", off), ("on", on))
        pair = {name: run(peer, messages) for name, peer in order}
        if number:
            rates.append(1 - pair["on"].per_second / pair["off"].per_second)
            cpu.append(1 - pair["off"].cpu_seconds / pair["on"].cpu_seconds)
            for name, one in pair.items():
                taken[name].append(one.per_second)
    return {
        "cost": round(statistics.median(rates), 4),
        "cost_of_cpu": round(statistics.median(cpu), 4),
        "costs": [round(one, 4) for one in rates],
        "costs_of_cpu": [round(one, 4) for one in cpu],
        "with_metrics_per_second": round(statistics.median(taken["on"])),
        "without_metrics_per_second": round(statistics.median(taken["off"])),
    }


def _taken(peer: Peer, drive: Callable[[], load.Run], batch: int) -> Taken:
    before = cpu_seconds(peer.process.pid)
    with TailWatch(peer.samples) as tail:
        run = drive()
        tail.wait()  # what is indexed later would be taken from the next run
    return Taken(len(run.finished) * batch / run.seconds, cpu_seconds(peer.process.pid) - before)


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used (proc(5): utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# How long a scrape takes


def _scrapes(data: Path, traffic: Traffic, batch: int, say: Callable[[str], None]) -> dict[str, Any]:
    with peers.daemon(data) as peer:
        say(f"filling {MONTHS} months with {TYPES:,} types")
        run = load.stream(peer.target, list(_scattered(batch)))
        if run.accepted < max(MONTHS, TYPES):
            raise Internal("BENCH_FAILED", f"only {run.accepted} events were stored")
        with TailWatch(peer.samples) as tail:
            tail.wait()
        samples = peer.samples()
        say("scraping, idle")
        idle, size = _timed(peer.metrics)
        say("scraping while events come in")
        with _streaming(peer.target, traffic, batch):
            busy, _size = _timed(peer.metrics)
    return {
        "months": int(samples["trackd_months"]),
        "types": int(samples["trackd_event_types"]),
        "series": len(samples),
        "compressed_bytes": size,
        "p50_ms": round(quantile(idle, 0.5), 2),
        "p99_ms": round(quantile(idle, 0.99), 2),
        "with_ingest_p50_ms": round(quantile(busy, 0.5), 2),
        "with_ingest_p99_ms": round(quantile(busy, 0.99), 2),
    }


def _scattered(batch: int) -> Sequence[bytes]:
    """Messages with an event of every type; months take turns."""
    starts, month = [], FIRST_MONTH
    for _ in range(MONTHS):
        starts.append(month.start_ms)
        month = month.next()
    events = [
        event_pb2.Event(
            id=uuid7(starts[number % MONTHS], number, 1),
            type=f"scattered_{number % TYPES:04d}",
            user_id=f"user-{number % 50}",
            timestamp_ms=starts[number % MONTHS],
        )
        for number in range(max(MONTHS, TYPES))
    ]
    messages = []
    for first in range(0, len(events), batch):
        request = ingest_pb2.AppendStreamRequest()
        request.batch.events.extend(events[first : first + batch])
        messages.append(request.SerializeToString())
    return messages


def _timed(address: str) -> tuple[list[float], int]:
    """How long each scrape took in milliseconds, sorted, and the bytes of one. The client is no faster than Python."""
    times, size = [], 0
    for _ in range(SCRAPES):
        request = urllib.request.Request(f"http://{address}/metrics", headers=PROMETHEUS)
        start = time.perf_counter()
        with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310  # our own, over HTTP
            size = len(reply.read())
        times.append((time.perf_counter() - start) * 1000)
    return sorted(times), size


@contextmanager
def _streaming(target: str, traffic: Traffic, batch: int) -> Iterator[None]:
    """Meanwhile events come in as fast as they are taken."""
    over = threading.Event()
    messages = takewhile(lambda _message: not over.is_set(), traffic.endless(batch))
    thread = threading.Thread(target=load.flows, args=(target, [("bench", messages)]), name="bench-stream")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
