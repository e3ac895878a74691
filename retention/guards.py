"""Guards: what keeps a wrong clock, or a slip in the policy, from taking away years of data in one night."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime

from retention.facts import Facts
from retention.period import DAY_MS
from retention.plan import DESTRUCTIVE, Action, Guard, Kind
from retention.policy import Guards

CLOCK = "clock"
SHARE = "share_of_store"
MONTHS = "months_per_run"
GUARDS = (CLOCK, MONTHS, SHARE)
"""Those that an operator can go on without. The clock stops all actions, the other two what cannot be undone."""
IMPORT = "import"
"""Stops sealing while a history is imported. It ends with the import, and nobody can accept it away."""


def tripped(
    guards: Guards, facts: Facts, actions: Iterable[Action], now_ms: int, accepted: Collection[str]
) -> tuple[Guard, ...]:
    """The guards that stop these actions, by name; the clock is judged whether or not there are any."""
    destructive = [one for one in actions if one.kind in DESTRUCTIVE and not one.blocked]
    found = [
        *((CLOCK, text) for text in _clock(guards, facts, now_ms)),
        *((MONTHS, text) for text in _months(guards, destructive)),
        *((SHARE, text) for text in _share(guards, facts, destructive)),
    ]
    return tuple(Guard(name, problem, name in accepted) for name, problem in found)


def _clock(guards: Guards, facts: Facts, now_ms: int) -> Iterator[str]:
    """At most one reason."""
    for name, other_ms, matters in (
        ("the last run", facts.clock_accepted_ms, True),
        ("the newest event, while events come in", facts.newest_ms, facts.ingest_active),
    ):
        if matters and other_ms is not None and abs(now_ms - other_ms) > guards.clock_max_gap_ms:
            days = abs(now_ms - other_ms) // DAY_MS
            side = "after" if now_ms > other_ms else "before"
            allowed = guards.clock_max_gap_ms // DAY_MS
            yield f"the clock says {moment(now_ms)}, {days} days {side} {name}; clock.max_gap is {allowed} days"
            return


def _months(guards: Guards, destructive: list[Action]) -> Iterator[str]:
    months = len({one.month for one in destructive})
    if months > guards.months_per_run_max:
        yield f"{months} months would lose something; guards.months_per_run_max is {guards.months_per_run_max}"


def _share(guards: Guards, facts: Facts, destructive: list[Action]) -> Iterator[str]:
    lost: dict[tuple[object, str], int] = {}
    for one in destructive:
        if one.kind in (Kind.ANONYMIZE, Kind.DROP):  # rows that are anonymized and dropped are lost once
            key = (one.month, one.class_name)
            lost[key] = max(lost.get(key, 0), one.rows)
    rows = sum(lost.values())
    if rows > guards.share_of_store_max * facts.rows:
        allowed = f"guards.share_of_store_max is {guards.share_of_store_max:.0%}"
        yield f"{rows:,} of {facts.rows:,} events would be lost ({rows / facts.rows:.0%}); {allowed}"


def moment(time_ms: int) -> str:
    """A time as people read it, UTC, to the minute."""
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M")
