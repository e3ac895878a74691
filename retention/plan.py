"""A plan: what a retention run would do, why, and what it may not. Values, their canonical JSON and their identity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cached_property
from typing import Any

from retention.canonical import canonical, digest
from retention.facts import NOTHING_HELD, Held
from retention.month import Month

FORMAT = 1


class Kind(StrEnum):
    """What an action does, in the order in which those of one month are done."""

    SEAL = "seal"
    FREEZE = "freeze"
    """Keep the numbers of a class, before its rows change for the first time."""
    ANONYMIZE = "anonymize"
    ARCHIVE = "archive"
    DROP = "drop"
    DESTROY_ARCHIVE = "destroy_archive"
    EXPIRE = "expire"
    """Destroy a restored copy or an export."""


DESTRUCTIVE = frozenset({Kind.ANONYMIZE, Kind.DROP, Kind.DESTROY_ARCHIVE, Kind.EXPIRE})
"""What guards stop: it cannot be undone."""


class ExitCode(IntEnum):
    """What a command that plans ends with. Of several that apply it is the highest."""

    NOTHING = 0
    CHANGES = 2
    HELD = 3
    """Something is due and all that is left of it is held."""
    STALE = 4
    OVERDUE = 5
    """Something lives beyond its keep_at_most, whether or not this plan ends that."""


class Because(StrEnum):
    """Why something that is due is not done."""

    HOLD = "hold"
    KEEP_AT_LEAST = "keep_at_least"
    """There is no other complete copy, and there has to be one still."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do to one class of one month, or to the month (class_name "").

    Those of one month and class are done in their order; where one fails, those behind it are not tried.
    """

    kind: Kind
    month: Month
    generation: int
    digest: str
    """The month as it was planned on; its content digest, "" while it is open."""
    class_name: str
    rule: str
    """The line of the policy that asks for it."""
    due_ms: int
    types: tuple[str, ...]
    rows: int
    """That it would act on, held ones not among them."""
    bytes: int
    held: Held = NOTHING_HELD
    """What it would leave alone."""
    forms: tuple[str, ...] = ()
    """Which rows of these types: those that went through these profiles (digests; "" is none). Of a freeze: all."""
    profile: str = ""
    """Of an anonymize: the digest of the profile."""
    claim: str = ""
    """Of an anonymize: the label that the rows can get. What is said of them is decided by a check."""
    target: str = ""
    """Of an archive."""
    copy: str = ""
    """Name of the copy that is destroyed."""
    numbers: tuple[str, ...] = ()
    """Which reported numbers change: keys of numbers.NUMBERS. Totals by type and month never do."""
    ends_month: bool = False
    """The month's file goes with it: no class has live rows in it any more."""
    two_person: bool = False
    blocked: tuple[str, ...] = ()
    """Guards that stop it, or stop what has to be done before it."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tells it from the others of a plan."""
        return (str(self.month), self.class_name, self.kind, self.copy or self.profile or self.target)


@dataclass(frozen=True, slots=True)
class Withheld:
    """Something due that is not done at all."""

    kind: Kind
    month: Month
    class_name: str
    because: Because
    rows: int
    by: tuple[tuple[str, int], ...] = ()
    """(code of the hold, rows)."""
    copy: str = ""


@dataclass(frozen=True, slots=True)
class Guard:
    """A guard that stops this plan, and in words why."""

    name: str
    problem: str
    accepted: bool
    """An operator said to go on all the same."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """What is older than its class allows. Class "" stands for backups as such."""

    class_name: str
    since_ms: int
    months: int
    rows: int
    """Live and in copies; of backups nobody knows."""
    where: tuple[str, ...]
    """ "live", "archive", "restored", "export", "backup"."""


@dataclass(frozen=True)
class Plan:
    """All of it, in the order in which it is done.

    The id covers what would be done, to which content of which months, under which policy; not the clock. So a plan
    made an hour later has the same id unless something changed that matters.
    """

    policy: str
    """Digest of the policy."""
    now_ms: int
    accepted: tuple[str, ...]
    """Guards that an operator said to go on without."""
    actions: tuple[Action, ...]
    withheld: tuple[Withheld, ...]
    guards: tuple[Guard, ...]
    overdue: tuple[Overdue, ...]
    without_policy: tuple[str, ...]
    """Types that have rows and no class: nothing ever happens to them."""
    store_rows: int
    clock_to_record_ms: int | None
    """What Facts.clock_accepted_ms is once this plan was applied: this clock, unless it is not believed."""

    @cached_property
    def id(self) -> str:
        """64 hexadecimal digits."""
        return digest(_identity(self))

    def document(self) -> dict[str, Any]:
        """The plan as JSON values. `from_document` takes them back."""
        return {
            "format": FORMAT,
            "id": self.id,
            "now_ms": self.now_ms,
            "clock_to_record_ms": self.clock_to_record_ms,
            "store_rows": self.store_rows,
            "exit_code": int(exit_code(self)),
            "overdue": [_plain(one) for one in self.overdue],
            "guards": [_plain(one) for one in self.guards],
            "policy": self.policy,
            "accepted": list(self.accepted),
            "actions": [_plain(one) for one in self.actions],
            "withheld": [_plain(one) for one in self.withheld],
            "without_policy": list(self.without_policy),
        }

    def json(self) -> bytes:
        """The document in its one canonical form."""
        return canonical(self.document())


class PlanUnreadable(ValueError):
    """A document is no plan, or was changed after it was planned."""


def from_document(document: Mapping[str, Any]) -> Plan:
    """The plan that `Plan.document` gave. PlanUnreadable if it is none, of another format, or not what its id says."""
    try:
        if document["format"] != FORMAT:
            raise PlanUnreadable(f"the plan has format {document['format']} and not {FORMAT}: plan again")
        plan = Plan(
            policy=document["policy"],
            now_ms=document["now_ms"],
            accepted=tuple(document["accepted"]),
            actions=tuple(_action(one) for one in document["actions"]),
            withheld=tuple(_withheld(one) for one in document["withheld"]),
            guards=tuple(Guard(**one) for one in document["guards"]),
            overdue=tuple(Overdue(**{**one, "where": tuple(one["where"])}) for one in document["overdue"]),
            without_policy=tuple(document["without_policy"]),
            store_rows=document["store_rows"],
            clock_to_record_ms=document["clock_to_record_ms"],
        )
        unchanged = plan.id == document["id"]
    except PlanUnreadable:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PlanUnreadable(f"this is no plan: {type(error).__name__} {error}") from error
    if not unchanged:
        raise PlanUnreadable("the plan is not the one that its id names: it was changed; plan again")
    return plan


def exit_code(plan: Plan, *, stale: bool = False) -> ExitCode:
    """What a command ends with that shows this plan, or refuses it as stale."""
    if plan.overdue:
        return ExitCode.OVERDUE
    if stale:
        return ExitCode.STALE
    if plan.actions:
        return ExitCode.CHANGES
    held = any(one.because is Because.HOLD for one in plan.withheld)
    return ExitCode.HELD if held else ExitCode.NOTHING


def differences(planned: Plan, current: Plan) -> list[str]:
    """What would be done otherwise now, in sentences; empty if `planned` may be applied. Its id says the same."""
    if planned.id == current.id:
        return []
    lines = []
    if planned.policy != current.policy:
        lines.append("the policy was changed")
    accepted = sorted(set(planned.accepted) ^ set(current.accepted))
    lines += [f"the guard {name} is accepted by only one of the two" for name in accepted]
    before = {one.key: one for one in planned.actions}
    after = {one.key: one for one in current.actions}
    for key in sorted(before.keys() | after.keys()):
        lines += _difference(before.get(key), after.get(key))
    if Counter(planned.withheld) != Counter(current.withheld):
        lines.append("what is withheld is not the same")
    if planned.without_policy != current.without_policy:
        lines.append("other types have no class")
    return lines


def _difference(before: Action | None, after: Action | None) -> Iterator[str]:
    one = before or after
    if one is None or before == after:
        return
    what = f"{one.month} {one.kind} {one.class_name}".rstrip()
    if before is None:
        yield f"{what}: was not planned"
    elif after is None:
        yield f"{what}: is not to be done any more"
    else:
        old, new = _bound(before), _bound(after)
        changed = [f"{name} {old[name]!r} became {new[name]!r}" for name in old if old[name] != new[name]]
        if changed:
            yield f"{what}: {', '.join(changed)}"


def _identity(plan: Plan) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "policy": plan.policy,
        "accepted": list(plan.accepted),
        "actions": [_bound(one) for one in plan.actions],
        "withheld": [_plain(one) for one in plan.withheld],
        "without_policy": list(plan.without_policy),
    }


def _bound(action: Action) -> dict[str, Any]:
    """What an agreed action is agreed on. To seal a month is to seal it with what came until then."""
    fields = _plain(action)
    for name in ("rows", "bytes", "types") if action.kind is Kind.SEAL else ():
        del fields[name]
    return fields


def _plain(one: Action | Withheld | Guard | Overdue | Held) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in one.__slots__:
        value = getattr(one, name)
        if isinstance(value, Month):
            fields[name] = str(value)
        elif isinstance(value, Held):
            fields[name] = {"rows": value.rows, "by": [list(pair) for pair in value.by]}
        elif isinstance(value, tuple):
            fields[name] = [list(each) if isinstance(each, tuple) else each for each in value]
        else:
            fields[name] = value
    return fields


def _action(fields: Mapping[str, Any]) -> Action:
    held = Held(fields["held"]["rows"], _pairs(fields["held"]["by"]))
    tuples = {name: tuple(fields[name]) for name in ("types", "forms", "numbers", "blocked")}
    read = {"kind": Kind(fields["kind"]), "month": Month.parse(fields["month"]), "held": held}
    return Action(**{**fields, **tuples, **read})


def _withheld(fields: Mapping[str, Any]) -> Withheld:
    read = {"kind": Kind(fields["kind"]), "month": Month.parse(fields["month"]), "because": Because(fields["because"])}
    return Withheld(**{**fields, **read, "by": _pairs(fields["by"])})


def _pairs(pairs: list[list[Any]]) -> tuple[tuple[str, int], ...]:
    return tuple((code, rows) for code, rows in pairs)
