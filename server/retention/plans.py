"""Plans as callers hand them in and hear of them: read, with guards that there are, refused when they are stale."""

from __future__ import annotations

import json
from collections.abc import Collection

from retention.applying import Stale
from retention.guards import GUARDS
from retention.plan import Plan, PlanUnreadable, from_document
from server.errors import Invalid, Precondition

CHANGES_SHOWN = 5


def read_plan(document: str | bytes) -> Plan:
    """The plan of its JSON document. Invalid(PLAN_UNREADABLE)."""
    try:
        return from_document(json.loads(document))
    except (PlanUnreadable, ValueError) as error:
        raise Invalid(
            "PLAN_UNREADABLE", str(error), hint="give what `trackd retention plan` wrote", field="plan"
        ) from error


def require_guards(accepted: Collection[str]) -> None:
    """Invalid(GUARD_UNKNOWN) for a guard that cannot be accepted."""
    unknown = sorted(set(accepted) - set(GUARDS))
    if unknown:
        raise Invalid(
            "GUARD_UNKNOWN",
            f"there is no guard {unknown[0]!r}",
            hint=f"known are {', '.join(GUARDS)}",
            field="accepted",
        )


def refusal(stale: Stale) -> Precondition:
    """What a job with a stale plan ends with."""
    more = len(stale.changes) - CHANGES_SHOWN
    shown = "; ".join(stale.changes[:CHANGES_SHOWN]) + (f"; and {more} more" if more > 0 else "")
    return Precondition("PLAN_STALE", f"the plan is not what would be done now: {shown}", hint="plan again")
