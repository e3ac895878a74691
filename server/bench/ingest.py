"""`trackd bench ingest`: how fast events are taken, beside what the disk and gRPC allow."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from server.bench import load, peers
from server.bench.catch_up import TailWatch
from server.bench.load import Run
from server.bench.traffic import Traffic
from server.storage.sqlite.floor import measure_floor

FLOOR_ROWS = 500_000
UNARY_CALLS = 12_000
LONE_CALLS = 1_000
PACED_SECONDS = 8.0
CALLERS = 64


def measure(
    *, events: int, batch: int, streams: int, directory: Path, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Runs everything on fresh directories below `directory` and returns the figures. `say` hears what goes on."""
    peers.refuse_tmpfs(directory)
    with tempfile.TemporaryDirectory(dir=directory, prefix="trackd-bench-") as scratch_name:
        scratch = Path(scratch_name)
        say(f"preparing {events:,} events")
        messages = Traffic(seed).batches(events, batch)
        report: dict[str, Any] = {"events": len(messages) * batch, "batch": batch, "streams": streams}
        data = scratch / "data"
        with peers.daemon(data) as peer:
            say("streaming as fast as it goes")
            with TailWatch(peer.samples) as tail:
                start = time.perf_counter()
                run = load.stream(peer.target, messages, streams=streams)
                tail.wait()
                sustained_seconds = time.perf_counter() - start
            report |= _stream_figures(run, report["events"])
            report["sustained_events_per_second"] = round(report["events"] / sustained_seconds)
            report["tail_events_peak"] = tail.peak
            samples = peer.samples()
            groups = samples["trackd_ingest_commit_seconds_count"]
            report["events_per_commit"] = round(run.accepted / groups)
            report["peak_rss_bytes"] = peer.peak_rss_bytes()
            del messages
        report["bytes_per_event"] = round(size_of(data) / report["events"], 1)
        say("the floor: the same rows straight through the driver")
        floor = measure_floor(data, scratch, rows_max=FLOOR_ROWS, rows_per_commit=max(1, report["events_per_commit"]))
        report["floor_rows"] = floor.rows
        report["floor_events_per_second"] = round(floor.full_per_second)
        report["ratio_to_floor"] = round(report["events_per_second"] / floor.full_per_second, 3)
        report["sustained_ratio_to_floor"] = round(report["sustained_events_per_second"] / floor.full_per_second, 3)
        report["lean_floor_events_per_second"] = round(floor.lean_per_second)
        report["ratio_to_lean_floor"] = round(report["events_per_second"] / floor.lean_per_second, 3)
        report |= _paced(scratch / "paced", report["events_per_second"] / 2, batch, streams, seed, say)
        report |= _unary(scratch / "unary", seed, say)
        report["fdatasync_p50_ms"] = round(peers.fdatasync_p50_ms(scratch), 3)
    return report


def _stream_figures(run: Run, events: int) -> dict[str, Any]:
    if run.accepted != events:
        message = f"{run.accepted} of {events} events were accepted"
        raise AssertionError(message)
    return {
        "seconds": round(run.seconds, 3),
        "events_per_second": round(events / run.seconds),
        "ack_p50_ms": round(run.quantile_ms(0.5), 2),
        "ack_p99_ms": round(run.quantile_ms(0.99), 2),
        "fifths_events_per_second": _fifths(run.finished, events),
    }


def _fifths(finished: Sequence[float], events: int) -> list[int]:
    """The rate of each fifth of the messages."""
    size = len(finished) // 5
    if not size:
        return []
    ends = [0.0, *(finished[(number + 1) * size - 1] for number in range(5))]
    share = events * size / len(finished)
    return [round(share / (end - start)) for start, end in pairwise(ends)]


def _paced(data: Path, rate: float, batch: int, streams: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    say(f"streaming at half of that, {rate:,.0f} events/s")
    messages = Traffic(seed + 1).batches(max(batch, int(rate * PACED_SECONDS)), batch)
    with peers.daemon(data) as peer:
        run = load.stream(peer.target, messages, streams=streams, per_second=rate / batch)
    return {
        "half_rate_ack_p50_ms": round(run.quantile_ms(0.5), 2),
        "half_rate_ack_p99_ms": round(run.quantile_ms(0.99), 2),
    }


def _unary(data: Path, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    traffic = Traffic(seed + 2)
    figures: dict[str, Any] = {}
    rates: dict[str, float] = {}
    with peers.daemon(data) as durable, peers.noop() as noop:
        for name, peer in (("noop_unary", noop), ("unary", durable)):
            say(f"{name.replace('_', ' ')} calls, {CALLERS} callers and one")
            many = load.unary(peer.target, list(traffic.requests(UNARY_CALLS)), callers=CALLERS)
            lone = load.unary(peer.target, list(traffic.requests(LONE_CALLS)), callers=1)
            for label, run in ((f"{name}_{CALLERS}", many), (f"{name}_1", lone)):
                rates[label] = run.accepted / run.seconds
                figures[f"{label}_calls_per_second"] = round(rates[label])
                figures[f"{label}_p50_ms"] = round(run.quantile_ms(0.5), 2)
                figures[f"{label}_p99_ms"] = round(run.quantile_ms(0.99), 2)
        figures["unary_peak_rss_bytes"] = durable.peak_rss_bytes()
    figures[f"unary_{CALLERS}_ratio_to_noop"] = round(rates[f"unary_{CALLERS}"] / rates[f"noop_unary_{CALLERS}"], 3)
    figures["unary_1_ratio_to_noop"] = round(rates["unary_1"] / rates["noop_unary_1"], 3)
    return figures


def size_of(directory: Path) -> int:
    """The bytes of all files below a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
