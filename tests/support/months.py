"""Months, rows and policies for examples of plans."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from retention.facts import Copy, CopyKind, Facts, MonthFacts, Stock
from retention.month import Month
from retention.plan import Plan
from retention.planning import plan
from retention.policy import Policy
from tests.support.policies import LOOSE, anonymize, archive, drop, event_class, policy

JUNE = Month(2024, 6)
"""Ended on 2024-07-01."""
DIGEST = "d" * 64


def ms(text: str) -> int:
    """Milliseconds of a date or time, UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def month(*stocks: Stock, sealed: bool = True, of: Month = JUNE, **more: Any) -> MonthFacts:
    """A month with event times in it."""
    times = (of.start_ms, of.end_ms - 1) if stocks else (None, None)
    return MonthFacts(of, 2, DIGEST if sealed else "", sealed, stocks, *times, **more)


def stock(rows: int = 100, event_type: str = "review", **more: Any) -> Stock:
    """Rows of ten bytes."""
    return Stock(event_type, rows, rows * 10, **more)


def archived(name: str = "a1", **more: Any) -> Copy:
    """An archive that counts."""
    values: dict[str, Any] = {"types": ("review",), "rows": 100, "bytes": 500, "created_ms": 0, "target": "local"}
    return Copy(CopyKind.ARCHIVE, name, **values | {"verified": True} | more)


def made(*steps: dict[str, Any], most: str = "5 years", **more: Any) -> Policy:
    """A policy with one class of all types, and guards that stop nothing."""
    sections = {key: more.pop(key) for key in ("guards", "clock", "backups") if key in more}
    return policy(event_class("a", ["*"], most, *steps, **more), **LOOSE | sections)


def planned(rules: Policy, facts: Facts | MonthFacts, at: str, *accepted: str) -> Plan:
    """The plan for a store, or for one month that is all of it."""
    return plan(rules, facts if isinstance(facts, Facts) else Facts((facts,)), ms(at), accepted)


def kinds(found: Plan) -> list[str]:
    """What it does, in order."""
    return [str(one.kind) for one in found.actions]


ALL = made(archive("2 months", "2 years"), anonymize("3 months"), drop("6 months"))
