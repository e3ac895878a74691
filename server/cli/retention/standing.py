"""`trackd retention status`, `months` and `explain`: how it stands, from the data."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.text import Text
from trackd.retention import (
    GetRetentionStatusResponse,
    RetentionClass,
    RetentionJob,
    RetentionMonth,
    RetentionStep,
    state_of,
)

from retention.plan import ExitCode
from server.cli.lines import show_number
from server.cli.retention.reach import Target, Timeout, connected
from server.cli.retention.showing import STATES, counted, day, joined, minute, show_line, state, table
from server.cli.terminal import AsJson, harmless, out, print_json, say

STATUS_EXIT_CODES = (
    "Exit codes: 0 nothing is overdue, 5 something is; 1 refused or failed, 64 wrong usage, 69 no daemon answers."
)


def status(target: Target = None, timeout: Timeout = 600.0, as_json: AsJson = False) -> None:
    """Say how retention stands: what is older than its class allows, what runs, and when next, where the evidence ends.

    What is overdue is computed from the events and copies that there are, not from what runs say they did. Keep the
    last record's number and digest elsewhere, for `trackd retention verify --known`.
    """
    with connected(target, timeout) as client:
        found = client.retention.status()
        running = next((job for job in client.retention.jobs() if state_of(job) == "running"), None)
    if as_json:
        print_json(_status(found) | {"running": running.number if running else None})
    else:
        _show_status(found, running)
    raise typer.Exit(int(ExitCode.OVERDUE if found.overdue else ExitCode.NOTHING))


def months(target: Target = None, timeout: Timeout = 600.0, as_json: AsJson = False) -> None:
    """List the months with the state of each class in them. With --json one object a line."""
    with connected(target, timeout) as client:
        found = client.retention.months()
    if as_json:
        for one in found:
            print_json(_month(one))
        return
    if not found:
        say("no months")
        return
    shown = table("month", "events", "size", "held", "next", "classes", long=("classes",))
    for one in found:
        held = sum(each.held for each in one.classes)
        ahead = [step.due_ms for each in one.classes for step in each.steps if not step.due and each.events]
        late = any(_to_do(each, step) for each in one.classes for step in each.steps)
        shown.add_row(
            one.month,
            show_number(one.events),
            decimal(one.bytes),
            Text(show_number(held), style="magenta") if held else "",
            Text("due now", style="yellow") if late else day(min(ahead)) if ahead else "",
            joined(state(each) for each in one.classes),
        )
    out.print(shown)


def explain(
    month: Annotated[str, typer.Argument(metavar="MONTH", help="YYYY-MM")],
    target: Target = None,
    timeout: Timeout = 600.0,
    as_json: AsJson = False,
) -> None:
    """Explain one month: its classes, what happens to each and when, by which line of the policy, and its copies."""
    with connected(target, timeout) as client:
        one = client.retention.explain(month)
    if as_json:
        print_json(_month(one))
        return
    kept = f"digest {one.digest[:12]}" if one.digest else "takes events"
    show_line(
        f"{one.month}: {counted(one.events, 'event')}, {decimal(one.bytes)}, generation {one.generation}, {kept}",
        "bold",
    )
    for each in one.classes:
        name = each.class_name or "(no class)"
        held = f", {counted(each.held, 'event')} held" if each.held else ""
        label = ", anonymous" if each.anonymous else ""
        out.print()
        show_line(
            f"{name}: {each.state}, {counted(each.events, 'event')}{held}{label}", STATES.get(each.state, "") or "bold"
        )
        if not each.class_name:
            show_line("    nothing ever happens to these: give their types a class", "magenta")
        for step in each.steps:
            show_line(
                f"    {_when(step):<26}{step.rule}", "yellow" if _to_do(each, step) else "dim" if step.done else ""
            )
    for copy in one.copies:
        read = "read back and compared" if copy.verified else "not verified"
        where = f" in {copy.target}" if copy.target else ""
        out.print()
        show_line(f"{copy.kind}{where}: {counted(copy.rows, 'event')}, {decimal(copy.bytes)}, {read}", "blue")
        show_line(f"    {copy.name}")


def _when(step: RetentionStep) -> str:
    if step.done:
        return f"done, was due {day(step.due_ms)}"
    return f"{'due since' if step.due else 'from'} {day(step.due_ms)}"


def _to_do(one: RetentionClass, step: RetentionStep) -> bool:
    return step.due and not step.done and one.events > one.held


def _show_status(found: GetRetentionStatusResponse, running: RetentionJob | None) -> None:
    rows = [
        ("events", f"{show_number(found.events)} in {counted(found.months, 'month')}"),
        ("policy", found.policy[:12]),
        ("next run", f"{minute(found.next_run_ms)} UTC" if found.HasField("next_run_ms") else "no schedule"),
        ("running", f"job {running.number}, {running.action} of {running.actions}: {running.what}" if running else ""),
        ("evidence", f"{found.evidence_sequence}:{found.evidence_digest}"),
    ]
    for name, told in rows:
        if told:
            show_line(f"{name:<10}{told}")
    if found.without_policy:
        names = ", ".join(found.without_policy)
        show_line(f"          {names}: types without a class; nothing ever happens to them", "magenta")
    if not found.overdue:
        show_line("overdue   nothing", "green")
        return
    show_line("overdue", "bold red")
    shown = table("class", "since", "months", "events", "where", long=("where",))
    for one in found.overdue:
        shown.add_row(
            Text(harmless(one.class_name) or "(backups)"),
            day(one.since_ms),
            show_number(one.months),
            show_number(one.rows),
            ", ".join(one.where),
        )
    out.print(shown)


def _status(found: GetRetentionStatusResponse) -> dict[str, Any]:
    return {
        "policy": found.policy,
        "events": found.events,
        "months": found.months,
        "next_run_ms": found.next_run_ms if found.HasField("next_run_ms") else None,
        "evidence": {"sequence": found.evidence_sequence, "digest": found.evidence_digest},
        "without_policy": list(found.without_policy),
        "overdue": [
            {
                "class": one.class_name,
                "since_ms": one.since_ms,
                "months": one.months,
                "rows": one.rows,
                "where": list(one.where),
            }
            for one in found.overdue
        ],
    }


def _month(one: RetentionMonth) -> dict[str, Any]:
    return {
        "month": one.month,
        "generation": one.generation,
        "digest": one.digest,
        "events": one.events,
        "bytes": one.bytes,
        "classes": [
            {
                "class": each.class_name,
                "state": each.state,
                "events": each.events,
                "held": each.held,
                "anonymous": each.anonymous,
                "steps": [
                    {"rule": step.rule, "due_ms": step.due_ms, "due": step.due, "done": step.done}
                    for step in each.steps
                ],
            }
            for each in one.classes
        ],
        "copies": [
            {
                "name": copy.name,
                "kind": copy.kind,
                "target": copy.target,
                "rows": copy.rows,
                "bytes": copy.bytes,
                "verified": copy.verified,
            }
            for copy in one.copies
        ],
    }
