"""What is older than its class allows: computed from the data, so that nothing that stopped working can hide it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from retention.facts import Facts, MonthFacts
from retention.month import Month
from retention.period import DAY_MS
from retention.plan import Overdue
from retention.policy import Claim, EventClass, Policy

BACKUP = "backup"
LIVE = "live"


@dataclass(frozen=True, slots=True)
class _Late:
    class_name: str
    since_ms: int
    month: Month
    rows: int
    where: str


def overdue(policy: Policy, facts: Facts, now_ms: int) -> tuple[Overdue, ...]:
    """Per class that has any, by name: rows beyond keep_at_most, in whichever copy. Held rows may stay."""
    late: dict[str, list[_Late]] = {}
    for month in facts.months:
        for one in (*_live(policy, month), *_copies(policy, month), *_backups(policy, month, facts.oldest_backup_ms)):
            if one.since_ms <= now_ms:
                late.setdefault(one.class_name, []).append(one)
    found = [
        Overdue(
            class_name=name,
            since_ms=min(one.since_ms for one in ones),
            months=len({one.month for one in ones}),
            rows=sum(one.rows for one in ones),
            where=tuple(sorted({one.where for one in ones})),
        )
        for name, ones in sorted(late.items())
    ]
    if policy.backups_max_age and facts.oldest_backup_ms is not None:
        since_ms = facts.oldest_backup_ms + policy.backups_max_age.most_days * DAY_MS
        if since_ms <= now_ms:
            found.insert(0, Overdue("", since_ms, 0, 0, (BACKUP,)))
    return tuple(found)


def _end(one: EventClass, month: MonthFacts) -> int:
    return one.keep_at_most.after(month.month)


def _live(policy: Policy, month: MonthFacts) -> Iterator[_Late]:
    for stock in month.stocks:
        one = policy.class_of(stock.event_type)
        free = stock.rows - stock.held.rows
        if one and free and stock.claim is not Claim.ANONYMOUS:
            yield _Late(one.name, _end(one, month), month.month, free, LIVE)


def _copies(policy: Policy, month: MonthFacts) -> Iterator[_Late]:
    for copy in month.copies:
        classes = [one for name in copy.types if (one := policy.class_of(name))]
        free = copy.rows - copy.held.rows
        if classes and not copy.anonymous and (free or not copy.rows):
            one = min(classes, key=lambda each: (_end(each, month), each.name))
            yield _Late(one.name, _end(one, month), month.month, free, copy.kind)


def _backups(policy: Policy, month: MonthFacts, oldest_ms: int | None) -> Iterator[_Late]:
    """Rows that are gone, although a backup was made while they were there."""
    for name, gone_ms in month.gone:
        one = policy.class_of(name)
        if one and oldest_ms is not None and oldest_ms < gone_ms:
            yield _Late(one.name, _end(one, month), month.month, 0, BACKUP)
