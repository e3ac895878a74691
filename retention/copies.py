"""When copies beside the live rows go: archives by their step, restored copies and exports by their date."""

from __future__ import annotations

import math
from collections.abc import Sequence

from retention.facts import RAW, Copy, CopyKind, MonthFacts, Stock
from retention.plan import Action, Because, Kind, Withheld
from retention.policy import Archive, EventClass, Policy


def copy_actions(
    policy: Policy, month: MonthFacts, left: Sequence[Stock], now_ms: int
) -> tuple[list[Action], list[Withheld]]:
    """What happens to the copies of a month, by name. `left` is what the same plan leaves of its live rows."""
    actions: list[Action] = []
    withheld: list[Withheld] = []
    for copy in sorted(month.copies, key=lambda one: one.name):
        due = _due(policy, month, copy, left, now_ms)
        if due is None or due[0] > now_ms:
            continue
        kind = Kind.DESTROY_ARCHIVE if copy.kind is CopyKind.ARCHIVE else Kind.EXPIRE
        class_name = _class_name(policy, copy)
        if copy.rows and copy.rows == copy.held.rows:
            held = copy.held
            withheld.append(Withheld(kind, month.month, class_name, Because.HOLD, held.rows, held.by, copy.name))
            continue
        free = copy.rows - copy.held.rows
        actions.append(
            Action(
                kind=kind,
                month=month.month,
                generation=month.generation,
                digest=month.digest,
                class_name=class_name,
                rule=due[1],
                due_ms=due[0],
                types=copy.types,
                rows=free,
                bytes=copy.bytes * free // copy.rows if copy.rows else copy.bytes,
                held=copy.held,
                target=copy.target,
                copy=copy.name,
                numbers=("archive",) if copy.kind is CopyKind.ARCHIVE else (),
            )
        )
    return actions, withheld


def standing_archives(policy: Policy, month: MonthFacts, now_ms: int) -> list[tuple[Copy, float]]:
    """The archives that rows may rely on: read back, whole, not about to go. Each with the time it stays until."""
    found = []
    for copy in month.copies:
        if copy.kind is CopyKind.ARCHIVE and copy.verified and copy.whole:
            rule = _asked_for(policy, month, copy)
            until_ms = rule[0] if rule else math.inf
            if until_ms > now_ms:
                found.append((copy, until_ms))
    return found


def _due(policy: Policy, month: MonthFacts, copy: Copy, left: Sequence[Stock], now_ms: int) -> tuple[int, str] | None:
    """When the copy goes and by which rule; None if the policy does not say so for all that is in it."""
    due = _asked_for(policy, month, copy)
    if due is None or copy.until_ms is not None or not copy.complete:
        return due
    # While it may be the only complete copy, it stays for as long as the longest-lived of its classes asks.
    others = [one for one in standing_archives(policy, month, now_ms) if one[0].complete and one[0].name != copy.name]
    live = {one.event_type for one in left if one.profile == RAW}
    for name in copy.types:
        one = policy.class_of(name)
        if one and one.keep_at_least and name not in live:
            least_ms = one.keep_at_least.after(month.month)
            elsewhere = any(name in other.types and until_ms >= least_ms for other, until_ms in others)
            if least_ms > due[0] and not elsewhere:
                due = least_ms, f'class "{one.name}": keep_at_least = "{one.keep_at_least}"'
    return due


def _asked_for(policy: Policy, month: MonthFacts, copy: Copy) -> tuple[int, str] | None:
    """When the first of the classes in the copy asks for its end; None if none does, or a type has no class."""
    if copy.until_ms is not None:
        return copy.until_ms, f"{copy.kind} until its date"
    classes = [policy.class_of(name) for name in copy.types]
    dates = [_due_by(one, month, copy) for one in classes if one]
    if len(dates) < len(classes):
        return None
    return min((found for found in dates if found), default=None)


def _due_by(one: EventClass, month: MonthFacts, copy: Copy) -> tuple[int, str] | None:
    for index, step in enumerate(one.steps):
        if isinstance(step, Archive) and step.target.name == copy.target:
            return step.keep.after(month.month), f'class "{one.name}", step {index + 1}: keep = "{step.keep}"'
    if copy.anonymous:
        return None
    return one.keep_at_most.after(month.month), f'class "{one.name}": keep_at_most = "{one.keep_at_most}"'


def _class_name(policy: Policy, copy: Copy) -> str:
    """The class that the copy belongs to; "" where it has types of several."""
    names = {one.name if (one := policy.class_of(name)) else "" for name in copy.types}
    return names.pop() if len(names) == 1 else ""
