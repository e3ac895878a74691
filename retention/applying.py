"""Applying a plan: what it says is done, action after action, and everything that was done is on record.

The order within a month and class is that of the plan; where an action fails, those behind it wait for the next run. A
plan is applied only while it is what would be planned now: whatever has changed since makes it stale.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from retention.canonical import canonical
from retention.chain import Deed, Head
from retention.month import Month
from retention.plan import Action, Kind, Plan, differences
from retention.planning import plan as make_plan
from retention.policy import ArchiveTarget, Policy
from retention.port import ActionFailed, Evidence, Outcome, Port, Stopped

RECEIPT_FORMAT = 1
TWO_PERSON = "two_person"
"""Why an action is blocked that nobody but its own actor has agreed to."""


class Stale(Exception):
    """The plan is not what would be planned now."""

    def __init__(self, changes: list[str]) -> None:
        super().__init__("; ".join(changes))
        self.changes = changes
        """What would be done otherwise, in sentences."""


class Status(StrEnum):
    """How an action ended."""

    DONE = "done"
    FAILED = "failed"
    """It had no effect; the next run tries again."""
    BLOCKED = "blocked"
    """A guard stops it, or the second person's word is missing."""
    WAITING = "waiting"
    """One before it was not done."""
    STOPPED = "stopped"
    """The run was ended before it."""


@dataclass(frozen=True, slots=True)
class Result:
    """One action of the plan and how it ended."""

    action: Action
    status: Status
    reason: str = ""
    """UPPER_SNAKE of a failure; of a blocked action the guards."""
    problem: str = ""
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is."""

    action: int
    """Counted from 1."""
    actions: int
    rows: int
    """Done of the action's."""
    of_rows: int
    what: Action


@dataclass(frozen=True)
class Receipt:
    """What one run did."""

    plan_id: str
    policy_digest: str
    actor: str
    started_ms: int
    ended_ms: int
    results: tuple[Result, ...]
    head: Head
    """The end of the chain of evidence after the run: kept elsewhere, it shows whether the chain was cut off."""
    names_forgotten: int = 0

    @property
    def complete(self) -> bool:
        """Whether everything was done."""
        return all(one.status is Status.DONE for one in self.results)

    def count(self, status: Status) -> int:
        """Actions that ended so."""
        return sum(one.status is status for one in self.results)

    def document(self) -> dict[str, Any]:
        """The receipt as JSON values. It names codes, never people."""
        return {
            "format": RECEIPT_FORMAT,
            "plan_id": self.plan_id,
            "policy": self.policy_digest,
            "actor": self.actor,
            "started_ms": self.started_ms,
            "ended_ms": self.ended_ms,
            "evidence": {"sequence": self.head.sequence, "digest": self.head.digest},
            "names_forgotten": self.names_forgotten,
            "results": [_result(one) for one in self.results],
        }

    def json(self) -> bytes:
        """The document in its one canonical form."""
        return canonical(self.document())


def _result(one: Result) -> dict[str, Any]:
    told: dict[str, Any] = {
        "action": str(one.action.kind),
        "month": str(one.action.month),
        "class": one.action.class_name,
        "status": str(one.status),
        "reason": one.reason,
        "problem": one.problem,
    }
    if one.outcome:
        made = one.outcome
        told |= {
            "sequence": made.sequence,
            "generation": made.generation,
            "rows": [made.rows_before, made.rows_after],
            "bytes": [made.bytes_before, made.bytes_after],
            "method": made.method,
            "checks": dict(made.checks),
            "withheld": dict(made.withheld),
        }
    return told


@dataclass
class Run:
    """One run of a plan."""

    plan: Plan
    policy: Policy
    port: Port
    actor: str
    """"scheduler", or who asked, such as "uid:1000"."""
    now_ms: Callable[[], int]
    versions: Mapping[str, str] = field(default_factory=dict)
    """Software -> version, for the evidence."""
    agreed: Collection[str] = ()
    """Who else has agreed to this plan: for actions that need a second person's word."""
    heard: Callable[[Progress], None] = lambda _progress: None
    """Told where the run is; raises Stopped to end it before the next action, or in the middle of one."""

    def apply(self) -> Receipt:
        """Does what no guard stops. Raises Stale before anything is done."""
        started_ms = self.now_ms()
        current = make_plan(self.policy, self.port.facts(self.policy, started_ms), started_ms, self.plan.accepted)
        changes = differences(self.plan, current)
        if changes:
            raise Stale(changes)
        if not current.actions:  # nothing to keep evidence of; but the clock was looked at
            self._accept_clock(current)
            return self._receipt(started_ms, (), self.port.head())
        self.port.record(self._deed("apply", "", "", _NOTHING))
        results: list[Result] = []
        broken: set[tuple[Month, str]] = set()
        stopped = False
        for number, action in enumerate(current.actions, 1):
            chain = (action.month, action.copy or action.class_name)
            result = self._skipped(action, waiting=bool({chain, (action.month, "")} & broken), stopped=stopped)
            if result is None:
                result = self._do(action, number, len(current.actions))
            if result.status is not Status.DONE:
                broken.add(chain)
            stopped = stopped or result.status is Status.STOPPED
            results.append(result)
        self._accept_clock(current)
        destroyed = any(one.status is Status.DONE and one.action.kind in (Kind.ANONYMIZE, Kind.DROP) for one in results)
        forgotten = self.port.forget_names() if destroyed and not stopped else 0
        done = sum(one.status is Status.DONE for one in results)
        checks = (("done", str(done)), ("planned", str(len(results))))
        head = self.port.record(self._deed("applied", "", "", Outcome(0, 0, 0, 0, 0, "run", checks)))
        return self._receipt(started_ms, tuple(results), head, forgotten)

    def _accept_clock(self, current: Plan) -> None:
        if current.clock_to_record_ms is not None:
            self.port.accept_clock(current.clock_to_record_ms)

    def _receipt(self, started_ms: int, results: tuple[Result, ...], head: Head, forgotten: int = 0) -> Receipt:
        return Receipt(
            plan_id=self.plan.id,
            policy_digest=self.policy.digest,
            actor=self.actor,
            started_ms=started_ms,
            ended_ms=self.now_ms(),
            results=results,
            head=head,
            names_forgotten=forgotten,
        )

    def _skipped(self, action: Action, *, waiting: bool, stopped: bool) -> Result | None:
        if stopped:
            return Result(action, Status.STOPPED)
        if action.blocked:
            return Result(action, Status.BLOCKED, ",".join(action.blocked), "a guard stops it; see the plan")
        if action.two_person and not set(self.agreed) - {self.actor}:
            return Result(action, Status.BLOCKED, TWO_PERSON, "a second person has to agree to this plan")
        if waiting:
            return Result(action, Status.WAITING)
        return None

    def _do(self, action: Action, number: int, actions: int) -> Result:
        def heard(rows: int) -> None:
            self.heard(Progress(number, actions, rows, action.rows, action))

        def evidence(outcome: Outcome) -> Deed:
            return self._deed(str(action.kind), action.class_name, str(action.month), outcome)

        try:
            heard(0)
            outcome = self._act(action, evidence, heard)
        except Stopped:
            return Result(action, Status.STOPPED)
        except ActionFailed as error:
            return Result(action, Status.FAILED, error.reason, str(error))
        return Result(action, Status.DONE, outcome=outcome)

    def _act(self, action: Action, evidence: Evidence, heard: Callable[[int], None]) -> Outcome:
        port, month, types, forms = self.port, action.month, action.types, action.forms
        match action.kind:
            case Kind.SEAL:
                return port.seal(month, evidence, heard)
            case Kind.FREEZE:
                return port.freeze(month, types, evidence, heard)
            case Kind.ANONYMIZE:
                return port.anonymize(month, types, forms, self.policy.profiles[action.profile], evidence, heard)
            case Kind.ARCHIVE:
                return port.archive(month, types, forms, self._target(action.target), evidence, heard)
            case Kind.DROP:
                return port.drop(month, types, forms, evidence, heard)
            case Kind.DESTROY_ARCHIVE | Kind.EXPIRE:
                return port.destroy_copy(month, action.copy, evidence, heard)

    def _target(self, name: str) -> ArchiveTarget:
        return next(target for target in self.policy.targets if target.name == name)

    def _deed(self, action: str, class_name: str, month: str, outcome: Outcome) -> Deed:
        return Deed(
            time_ms=self.now_ms(),
            plan_id=self.plan.id,
            policy_digest=self.policy.digest,
            actor=self.actor,
            action=action,
            class_name=class_name,
            month=month,
            generation=outcome.generation,
            rows_before=outcome.rows_before,
            rows_after=outcome.rows_after,
            bytes_before=outcome.bytes_before,
            bytes_after=outcome.bytes_after,
            method=outcome.method,
            versions=tuple(sorted(self.versions.items())),
            checks=outcome.checks,
            withheld=outcome.withheld,
        )


_NOTHING = Outcome(0, 0, 0, 0, 0, "run")
