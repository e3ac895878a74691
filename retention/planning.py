"""From policy, facts and a clock to the plan: pure, and the same whatever order the facts come in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from retention.class_steps import ClassMonth
from retention.copies import copy_actions, standing_archives
from retention.facts import Facts, MonthFacts, Stock
from retention.guards import CLOCK, GUARDS, IMPORT, tripped
from retention.overdue import overdue
from retention.plan import DESTRUCTIVE, Action, Kind, Plan, Withheld
from retention.policy import EventClass, Policy


def plan(policy: Policy, facts: Facts, now_ms: int, accepted: Iterable[str] = ()) -> Plan:
    """What is due at `now_ms` (milliseconds since the epoch), oldest month first.

    A month goes through all the steps that it is due for at once, leaving out those that a later one makes needless.
    `accepted` names the guards that an operator goes on without, out of guards.GUARDS; ValueError for any other.
    """
    accepted = tuple(sorted(set(accepted)))
    if not set(accepted) <= set(GUARDS):
        raise ValueError(f"{', '.join(accepted)}: guards that can be accepted are {', '.join(GUARDS)}")
    actions: list[Action] = []
    withheld: list[Withheld] = []
    for month in sorted(facts.months, key=lambda one: one.month):
        if not (month.stocks or month.copies):
            continue  # nothing is left of it
        of_month = _Month(policy, facts, month, now_ms)
        of_month.walk()
        actions += of_month.actions
        withheld += of_month.withheld
    guards = tripped(policy.guards, facts, actions, now_ms, accepted)
    stopping = tuple(one.name for one in guards if not one.accepted)
    believed = CLOCK not in stopping
    return Plan(
        policy=policy.digest,
        now_ms=now_ms,
        accepted=accepted,
        actions=_stopped(actions, stopping, policy.guards.two_person),
        withheld=tuple(withheld),
        guards=guards,
        overdue=overdue(policy, facts, now_ms),
        without_policy=policy.without_class(stock.event_type for one in facts.months for stock in one.stocks),
        store_rows=facts.rows,
        clock_to_record_ms=now_ms if believed else facts.clock_accepted_ms,
    )


class _Month:
    """One month: sealed if it is due, then its classes by name, then its copies."""

    def __init__(self, policy: Policy, facts: Facts, month: MonthFacts, now_ms: int) -> None:
        self.policy = policy
        self.facts = facts
        self.month = month
        self.now_ms = now_ms
        self.actions: list[Action] = []
        self.withheld: list[Withheld] = []

    def walk(self) -> None:
        """Fills `actions` and `withheld`."""
        seal_due_ms = self.policy.seal_after.after(self.month.month)
        sealing = not self.month.sealed and bool(self.month.stocks) and seal_due_ms <= self.now_ms
        if sealing:
            self.actions.append(self._seal(seal_due_ms))
        archives = standing_archives(self.policy, self.month, self.now_ms)
        backups = self.facts.oldest_backup_ms is not None
        left: list[Stock] = []
        for one, stocks in self._by_class():
            if not (one and (self.month.sealed or sealing)):
                left += stocks
                continue
            walked = ClassMonth(one, self.month, list(stocks), self.now_ms, archives=archives, backups=backups)
            walked.walk()
            self.actions += walked.actions
            self.withheld += walked.withheld
            left += walked.stocks
        if self.month.stocks and not left:
            last = max(index for index, action in enumerate(self.actions) if action.kind is Kind.DROP)
            self.actions[last] = replace(self.actions[last], ends_month=True)
        actions, withheld = copy_actions(self.policy, self.month, left, self.now_ms)
        self.actions += actions
        self.withheld += withheld
        if sealing and self.facts.importing:
            self.actions = [
                one if one.copy else replace(one, blocked=(IMPORT,), ends_month=False) for one in self.actions
            ]

    def _by_class(self) -> list[tuple[EventClass | None, list[Stock]]]:
        """The stocks of each class, classes by name; None has the types that no class matches."""
        found: dict[str, tuple[EventClass | None, list[Stock]]] = {}
        for stock in sorted(self.month.stocks, key=lambda one: (one.event_type, one.profile)):
            one = self.policy.class_of(stock.event_type)
            found.setdefault(one.name if one else "", (one, []))[1].append(stock)
        return [found[name] for name in sorted(found)]

    def _seal(self, due_ms: int) -> Action:
        again = " again, with the late events that it was opened for" if self.month.late_events else ""
        return Action(
            kind=Kind.SEAL,
            month=self.month.month,
            generation=self.month.generation,
            digest=self.month.digest,
            class_name="",
            rule=f'rotation: seal_after = "{self.policy.seal_after}"{again}',
            due_ms=due_ms,
            types=tuple(sorted({one.event_type for one in self.month.stocks})),
            rows=self.month.rows,
            bytes=sum(one.bytes for one in self.month.stocks),
        )


def _stopped(actions: list[Action], stopping: tuple[str, ...], two_person: frozenset[str]) -> tuple[Action, ...]:
    """The actions with the guards that stop them: what destroys, and what comes behind it in its class and month.

    A clock that is not believed stops everything: to seal a month a year too early is to refuse its events.
    """
    result: list[Action] = []
    waiting: set[tuple[object, str]] = set()
    for action in actions:
        chain = (action.month, action.copy or action.class_name)
        if stopping and (CLOCK in stopping or action.kind in DESTRUCTIVE or chain in waiting):
            waiting.add(chain)
            blocked = tuple(sorted({*action.blocked, *stopping}))
        else:
            blocked = action.blocked
        result.append(replace(action, blocked=blocked, two_person=action.kind in two_person))
    return tuple(result)
