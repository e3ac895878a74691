"""Retention's values as messages of the contract, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trackd.v1 import retention_pb2

from retention.facts import CopyKind, MonthFacts, Stock, state_of
from retention.faults import Misworded
from retention.hold import Hold
from retention.month import Month
from retention.period import Period
from retention.plan import Overdue
from retention.policy import Anonymize, Archive, Claim, EventClass, Policy, Step, verb
from server.errors import Invalid
from server.retention.jobs import Job, JobState

_STATES = {
    JobState.RUNNING: retention_pb2.RETENTION_JOB_STATE_RUNNING,
    JobState.DONE: retention_pb2.RETENTION_JOB_STATE_DONE,
    JobState.FAILED: retention_pb2.RETENTION_JOB_STATE_FAILED,
    JobState.CANCELLED: retention_pb2.RETENTION_JOB_STATE_CANCELLED,
}


def job(one: Job) -> retention_pb2.RetentionJob:
    """A job as it is now."""
    message = retention_pb2.RetentionJob(
        number=one.number,
        plan_id=one.plan_id,
        actor=one.actor,
        started_ms=one.started_ms,
        state=_STATES[one.state],
    )
    if one.progress:
        at = one.progress
        message.action, message.actions = at.action, at.actions
        message.rows, message.of_rows = min(at.rows, at.of_rows), at.of_rows
        message.what = f"{at.what.month} {at.what.kind} {at.what.class_name}".rstrip()
    if one.receipt:
        message.receipt = one.receipt.json().decode()
    if one.error:
        message.reason, message.problem = one.error.reason, str(one.error)
    return message


def overdue(one: Overdue) -> retention_pb2.RetentionOverdue:
    """Something that is too old."""
    return retention_pb2.RetentionOverdue(
        class_name=one.class_name, since_ms=one.since_ms, months=one.months, rows=one.rows, where=one.where
    )


def month(policy: Policy, facts: MonthFacts, now_ms: int) -> retention_pb2.RetentionMonth:
    """A month, class by class."""
    message = retention_pb2.RetentionMonth(
        month=str(facts.month),
        generation=facts.generation,
        digest=facts.digest,
        events=facts.rows,
        bytes=sum(stock.bytes for stock in facts.stocks),
    )
    message.classes.extend(_classes(policy, facts, now_ms))
    for copy in facts.copies:
        message.copies.add(
            name=copy.name, kind=copy.kind, target=copy.target, rows=copy.rows, bytes=copy.bytes, verified=copy.verified
        )
    return message


def _classes(policy: Policy, facts: MonthFacts, now_ms: int) -> Iterator[retention_pb2.RetentionClass]:
    types: dict[str, set[str]] = {}
    known = {stock.event_type for stock in facts.stocks} | {name for name, _at_ms in facts.gone}
    for name in known | {name for copy in facts.copies for name in copy.types}:
        one = policy.class_of(name)
        types.setdefault(one.name if one else "", set()).add(name)
    for class_name in sorted(types):
        stocks = [stock for stock in facts.stocks if stock.event_type in types[class_name]]
        one = next((each for each in policy.classes if each.name == class_name), None)
        yield retention_pb2.RetentionClass(
            class_name=class_name,
            state=state_of(facts, types[class_name]) or "",
            events=sum(stock.rows for stock in stocks),
            held=sum(stock.held.rows for stock in stocks),
            anonymous=bool(stocks) and all(stock.claim is Claim.ANONYMOUS for stock in stocks),
            steps=_steps(policy, one, facts, stocks, now_ms) if one else (),
        )


def _steps(
    policy: Policy, one: EventClass, facts: MonthFacts, stocks: Sequence[Stock], now_ms: int
) -> Iterator[retention_pb2.RetentionStep]:
    lines: list[tuple[str, Period, bool]] = []
    if not facts.sealed and stocks:
        lines.append((f'seal_after = "{policy.seal_after}"', policy.seal_after, False))
    lines += [
        (f'after = "{step.after}", do = "{verb(step)}"', step.after, _done(step, facts, stocks)) for step in one.steps
    ]
    lines.append((f'keep_at_most = "{one.keep_at_most}"', one.keep_at_most, False))
    for rule, period, done in lines:
        due_ms = period.after(facts.month)
        due = due_ms <= now_ms
        yield retention_pb2.RetentionStep(rule=rule, due_ms=due_ms, due=due, done=due and done)


def _done(step: Step, facts: MonthFacts, stocks: Sequence[Stock]) -> bool:
    """Whether the rows that are there leave it nothing to do."""
    free = [stock for stock in stocks if stock.rows > stock.held.rows]
    if isinstance(step, Anonymize):
        return all(stock.profile == step.profile.digest for stock in free)
    if isinstance(step, Archive):
        copies = [copy for copy in facts.copies if copy.kind is CopyKind.ARCHIVE and copy.target == step.target.name]
        return {stock.event_type for stock in free} <= {name for copy in copies for name in copy.types}
    return not free


def hold(one: Hold) -> retention_pb2.RetentionHold:
    """A hold. It may name people: for those who administer holds."""
    return retention_pb2.RetentionHold(
        code=one.code,
        reason=one.reason,
        users=sorted(one.users),
        types=one.types,
        sources=sorted(one.sources),
        first_month=str(one.first_month or ""),
        last_month=str(one.last_month or ""),
        placed_ms=one.placed_ms,
        released_ms=one.released_ms,
    )


def hold_of(message: retention_pb2.RetentionHold) -> Hold:
    """A hold that is to be placed. Invalid(HOLD_INVALID)."""
    try:
        return Hold(
            code=message.code,
            reason=message.reason,
            placed_ms=0,
            users=frozenset(message.users),
            types=tuple(message.types),
            sources=frozenset(message.sources),
            first_month=Month.parse(message.first_month) if message.first_month else None,
            last_month=Month.parse(message.last_month) if message.last_month else None,
        )
    except Misworded as error:
        raise Invalid("HOLD_INVALID", error.problem, hint=error.advice, field="hold") from error
    except ValueError as error:
        raise Invalid("HOLD_INVALID", f"a month is none: {error}", hint="write YYYY-MM", field="hold") from error


def month_of(text: str) -> Month:
    """A month. Invalid(MONTH_INVALID)."""
    try:
        return Month.parse(text)
    except ValueError as error:
        raise Invalid("MONTH_INVALID", f"{text!r} is no month", hint="write YYYY-MM", field="month") from error
