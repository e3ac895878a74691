"""Asking one kind of question again and again: how long each answer took, and the first answers for a comparison."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from server.bench.load import quantile
from server.bench.questions import Asked, Kind

WARM_UP = 5
COMPARED = 3
"""Answers that are kept; also the fewest repetitions of what takes long."""
REPETITIONS_MIN = 100
REPETITIONS_MAX = 2_000
SETTLED_SHARE = 0.2
"""Of the time that a kind may take: what has its repetitions goes on until then, for a steadier percentile."""

Rows: TypeAlias = Sequence[tuple[object, ...]]
"""An answer in the form in which all engines give the same."""

TOLERANCE = 1e-9
"""Relative, between sums of the same doubles in another order."""


class Engine(Protocol):
    """Something that questions can be put to."""

    def ask(self, kind: Kind, asked: Asked) -> Any:
        """The answer as this engine gives it. This is what is timed."""

    def rows(self, answer: Any) -> Rows:
        """The same in the common form: instants in milliseconds, names of types and the like as their numbers."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long answers took, at the asker."""

    repetitions: int
    p50_ms: float
    p99_ms: float

    def figures(self) -> dict[str, Any]:
        """For a report."""
        return {"p50_ms": round(self.p50_ms, 3), "p99_ms": round(self.p99_ms, 3), "repetitions": self.repetitions}


def ask_repeatedly(
    engine: Engine,
    kind: Kind,
    draws: Sequence[Asked],
    *,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Timing, list[Any]]:
    """Asks with one draw after the other, from the start again after the last, for about so many seconds at most.

    The first COMPARED answers come with the times. What takes long is asked that often at least.
    """
    begin = clock()
    for asked in draws[-WARM_UP:]:
        engine.ask(kind, asked)
        if clock() - begin > seconds / 10:
            break
    took_ms: list[float] = []
    kept: list[Any] = []
    start = clock()
    for asked in cycle(draws):
        before = clock()
        answer = engine.ask(kind, asked)
        after = clock()
        took_ms.append((after - before) * 1000)
        if len(kept) < COMPARED:
            kept.append(answer)
        count, spent = len(took_ms), after - start
        if count >= REPETITIONS_MAX or (count >= COMPARED and spent > seconds):
            break
        if count >= REPETITIONS_MIN and spent > seconds * SETTLED_SHARE:
            break
    took_ms.sort()
    return Timing(len(took_ms), quantile(took_ms, 0.5), quantile(took_ms, 0.99)), kept


def cell(value: Any) -> object:
    """A value that a database driver gave, in the common form."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return round(aware.timestamp() * 1000)
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and value.startswith("{"):
        return document(value)
    return value


def document(text: str) -> str:
    """A JSON object in one spelling."""
    return json.dumps(json.loads(text), sort_keys=True)


def difference(ours: Rows, theirs: Rows) -> str:
    """Where two answers differ, or "" if they do not."""
    for number, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if not _same_row(one, other):
            return f"row {number}: {one} and {other}"
    return "" if len(ours) == len(theirs) else f"{len(ours)} and {len(theirs)} rows"


def _same_row(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    return len(one) == len(other) and all(map(_same, one, other))


def _same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=TOLERANCE)
    return one == other
