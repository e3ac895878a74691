"""Events that come in while questions are asked: a process of its own streams at a steady rate until it is told."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from typing import Any, Self

from server.bench import load
from server.bench.history import LiveTraffic
from server.errors import Internal

READY = b"ready\n"
STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send, and where to."""

    target: str
    start_ms: int
    users: int
    batch: int
    per_second: float
    seed: int


@dataclass(slots=True)
class Live:
    """The process: streams from `with` on, to its end, then has figures."""

    plan: Plan
    figures: dict[str, Any] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "server.bench.live", json.dumps(asdict(self.plan))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self._process.stdout is None or self._process.stdout.readline() != READY:
            self._process.kill()
            self._process.wait()
            raise Internal("BENCH_PEER_FAILED", "the sender of live events did not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if self._process is None:
            return
        try:
            told, _ = self._process.communicate(timeout=STOP_S)  # closes its input
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            told = b""
        if told:
            self.figures = json.loads(told)
        elif kind is None:
            raise Internal("BENCH_FAILED", "the sender of live events failed")


def _send(plan: Plan) -> dict[str, Any]:
    over = threading.Event()

    def listen() -> None:
        sys.stdin.buffer.read()
        over.set()

    traffic = LiveTraffic(plan.seed, start_ms=plan.start_ms, users=plan.users)
    prepared = traffic.endless(plan.batch)
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    threading.Thread(target=listen, daemon=True).start()
    messages: Iterator[bytes] = takewhile(lambda _message: not over.is_set(), prepared)
    run = load.flows(plan.target, [("api", messages)], per_second=plan.per_second / plan.batch)
    return {
        "asked_events_per_second": round(plan.per_second),
        "events": run.accepted,
        "events_per_second": round(run.accepted / run.seconds),
        "ack_p50_ms": round(run.quantile_ms(0.5), 2),
        "ack_p99_ms": round(run.quantile_ms(0.99), 2),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_send(Plan(**json.loads(sys.argv[1])))))
