"""What operators promise their users: how fast, for what share of requests, over how many days."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

import msgspec

INGEST_ACK = "ingest_ack"
"""Durable batches: good is one that is answered within the threshold."""
QUERY = "query"
"""Questions: good is one that is answered within the threshold."""
AVAILABILITY = "availability"
"""Calls, and batches on streams: good is one that does not fail for a reason of the daemon's. Has no threshold."""

KINDS = (INGEST_ACK, QUERY, AVAILABILITY)

DAY_S = 86_400.0
WINDOW_DAYS_MIN, WINDOW_DAYS_MAX = 7, 90
"""The slowest burn rate is watched over three days, and Prometheus has to keep all of a window."""
TARGET_MIN, TARGET_MAX = 0.5, 0.99999
THRESHOLD_MS_MAX = 600_000.0

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_WINDOW = re.compile(r"([1-9]\d{0,2})d")


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One promise. A client's own faults count neither as good nor as bad."""

    name: str = ""
    """The label of its series and alerts."""
    kind: str = ""
    """One of KINDS."""
    threshold_ms: float | None = None
    """What is answered later is bad."""
    target: float = 0.0
    """The share of requests that is good."""
    window: str = "30d"
    """Whole days that the target is promised for."""

    @property
    def threshold_seconds(self) -> float:
        """The threshold in seconds; without end where there is none."""
        return math.inf if self.threshold_ms is None else self.threshold_ms / 1000

    @property
    def window_seconds(self) -> float:
        """The window in seconds."""
        return int(self.window.removesuffix("d")) * DAY_S

    @property
    def budget(self) -> float:
        """The share of requests that may be bad. Rounded, so that 1 - 0.999 is 0.001."""
        return round(1 - self.target, 9)


DEFAULTS = (
    Objective("ingest-ack", INGEST_ACK, 250.0, 0.999),
    Objective("query", QUERY, 1_000.0, 0.99),
    Objective("availability", AVAILABILITY, None, 0.999),
)
"""What holds where the operator says nothing: several times what two busy cores take (README, Benchmarks)."""


def judge(objectives: Sequence[Objective]) -> Iterator[tuple[str, str]]:
    """What is wrong with them: (key, problem)."""
    for number, objective in enumerate(objectives):
        key = f"objective[{number}]"
        if not _NAME.fullmatch(objective.name):
            yield f"{key}.name", f'{objective.name!r} must be 1 to 63 of a-z, 0-9, "_" and "-", a letter first'
        elif any(objective.name == other.name for other in objectives[:number]):
            yield f"{key}.name", f"{objective.name!r} is the name of another objective already"
        if objective.kind not in KINDS:
            yield f"{key}.kind", f"{objective.kind!r} is none of {', '.join(KINDS)}"
        elif problem := _threshold_problem(objective):
            yield f"{key}.threshold_ms", problem
        if not TARGET_MIN <= objective.target <= TARGET_MAX:
            yield (
                f"{key}.target",
                f"must be a share from {TARGET_MIN} to {TARGET_MAX}, such as 0.999 for 99.9 %, not {objective.target}",
            )
        days = _WINDOW.fullmatch(objective.window)
        if not days or not WINDOW_DAYS_MIN <= int(days[1]) <= WINDOW_DAYS_MAX:
            yield (
                f"{key}.window",
                f'must be whole days from "{WINDOW_DAYS_MIN}d" to "{WINDOW_DAYS_MAX}d", not {objective.window!r}',
            )


def _threshold_problem(objective: Objective) -> str:
    threshold_ms = objective.threshold_ms
    if objective.kind == AVAILABILITY:
        return "" if threshold_ms is None else f"means nothing for kind {AVAILABILITY}: leave it out"
    if threshold_ms is None:
        return "must be given: the milliseconds within which an answer is good"
    if not 0 < threshold_ms <= THRESHOLD_MS_MAX:
        return f"must be more than 0 and at most {THRESHOLD_MS_MAX:,.0f}, not {threshold_ms:g}"
    return ""
