"""`trackd bench tracker`: what tracking costs the thread that does it, and how fast one process with a Tracker is.

The Tracker runs in a process of its own (`python -m server.bench.tracking PLAN`), as in an application.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import trackd

from server.bench import load, peers
from server.bench.traffic import Traffic
from server.errors import Internal

BAR_RATIO = 0.5
BAR_TRACK_US = 10.0
CALLS_MAX = 20_000
"""Calls of each kind that are timed; in a small run as many as it has events."""
PACED_PER_SECOND = 5_000
CALL_S = 600.0
CONTENTS = 10_000
"""Different events that a process tracks in turns."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the process with the Tracker is to do."""

    target: str
    events: int
    batch: int
    seed: int
    timed: bool
    """Whether single calls are timed, too."""


def measure(
    *, events: int, batch: int, repetitions: int, directory: Path, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Runs everything on fresh directories below `directory` and returns the figures. `say` hears what goes on."""
    peers.refuse_tmpfs(directory)
    report: dict[str, Any] = {"events": events // batch * batch, "batch": batch, "repetitions": repetitions}
    report["load_average"] = round(os.getloadavg()[0], 2)
    encoded: list[float] = []
    tracked: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=directory, prefix="trackd-bench-") as scratch_name:
        scratch = Path(scratch_name)

        def stream(number: int) -> None:
            say(f"{number + 1} of {repetitions}: batches that were encoded ahead")
            encoded.append(_stream(scratch / f"encoded-{number}", report["events"], batch, seed + number))

        def track(number: int) -> None:
            say(f"{number + 1} of {repetitions}: one process with a Tracker")
            tracked.append(_track(scratch / f"tracked-{number}", report["events"], batch, seed + number, number == 0))

        for number in range(repetitions):
            # In turns, and each first as often: what else goes on here falls on both.
            for run in (stream, track) if number % 2 == 0 else (track, stream):
                run(number)
    rates = [one["events_per_second"] for one in tracked]
    ratios = [ours / theirs for ours, theirs in zip(rates, encoded, strict=True)]
    report |= {
        "encoded_events_per_second": round(median(encoded)),
        "tracker_events_per_second": round(median(rates)),
        "ratio_to_encoded": round(median(ratios), 3),
        "ratios_to_encoded": [round(ratio, 3) for ratio in ratios],
        "bar_ratio_to_encoded": BAR_RATIO,
        "tracker_cpu_us_per_event": round(median(one["cpu_us_per_event"] for one in tracked), 2),
        "tracker_peak_rss_bytes": max(one["peak_rss_bytes"] for one in tracked),
    }
    report |= tracked[0]["track"]
    report["bar_track_us"] = BAR_TRACK_US
    report["bars_met"] = bool(
        report["ratio_to_encoded"] >= BAR_RATIO and report["track_metadata_p50_us"] < BAR_TRACK_US
    )
    return report


def _stream(data: Path, events: int, batch: int, seed: int) -> float:
    """Events a second of `trackd bench ingest` with one stream."""
    messages = Traffic(seed).batches(events, batch)
    with peers.daemon(data) as peer:
        run = load.stream(peer.target, messages)
    return run.accepted / run.seconds


def _track(data: Path, events: int, batch: int, seed: int, timed: bool) -> dict[str, Any]:  # noqa: FBT001
    with peers.daemon(data) as peer:
        plan = Plan(peer.target, events, batch, seed, timed)
        command = [sys.executable, "-m", "server.bench.tracking", json.dumps(asdict(plan))]
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=CALL_S, check=False)
    if done.returncode:
        raise Internal("BENCH_FAILED", "the process with the Tracker failed")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


# The process with the Tracker.


def _application(plan: Plan) -> dict[str, Any]:
    contents = [_content(chance) for chance in [random.Random(plan.seed)] for _ in range(CONTENTS)]  # noqa: S311
    tracker = trackd.Tracker(
        plan.target,
        token="",
        tls=False,
        source="bench",
        batch_events=plan.batch,
        when_full="block",
        block_timeout_s=CALL_S,
    )
    tracker.track("warm_up")
    tracker.flush()
    timed = _timed(tracker, min(CALLS_MAX, plan.events)) if plan.timed else {}
    before = tracker.stats().stored
    start, start_cpu = time.perf_counter(), time.process_time()
    for kind, user, session, metadata in islice(cycle(contents), plan.events):
        tracker.track(kind, user_id=user, session_id=session, metadata=metadata)
    complete = tracker.flush(CALL_S)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    stored = tracker.close().stored - before
    if not complete or stored != plan.events:
        raise Internal("BENCH_FAILED", f"{stored:,} of {plan.events:,} events were stored")
    return {
        "events_per_second": plan.events / seconds,
        "cpu_us_per_event": cpu / plan.events * 1e6,
        "peak_rss_bytes": _peak_rss_bytes(),
        "track": timed,
    }


def _content(chance: random.Random) -> tuple[str, str, str, dict[str, Any]]:
    """The same kind of event that Traffic makes, as an application has it: not encoded."""
    draw = chance.randrange
    metadata = {"repo": "curl", "pr": draw(10_000), "files": draw(50)}
    return f"type_{draw(40):02d}", f"user-{draw(50_000):05d}", f"s{draw(1_000_000):06d}", metadata


def _timed(tracker: trackd.Tracker, calls: int) -> dict[str, float]:
    """Microseconds that single calls took, with the two readings of the clock around them, while batches are sent."""
    five = {"repo": "curl", "pr": 4_711, "files": 7, "state": "approved", "draft": False}
    kinds: dict[str, dict[str, Any]] = {"plain": {}, "metadata": {"metadata": five}}
    figures: dict[str, float] = {}
    for name, parts in kinds.items():
        for label, pause in (("", 1 / PACED_PER_SECOND), ("burst_", 0.0)):
            times = sorted(_calls(tracker, parts, calls, pause))
            for share, percent in ((0.5, 50), (0.99, 99)):
                figures[f"track_{label}{name}_p{percent}_us"] = round(load.quantile(times, share), 2)
            tracker.flush()
    return figures


def _calls(tracker: trackd.Tracker, parts: dict[str, Any], calls: int, pause_s: float) -> Sequence[float]:
    clock = time.perf_counter_ns
    times = []
    for number in range(calls):
        begin = clock()
        tracker.track("review_submitted", user_id="user-4711", **parts)
        times.append((clock() - begin) / 1_000)
        if pause_s and number % 10 == 0:
            time.sleep(pause_s * 10)
    return times


def _peak_rss_bytes() -> int:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) * 1_024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_application(Plan(**json.loads(sys.argv[1])))))
