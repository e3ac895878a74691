"""`trackd retention jobs`, `watch` and `cancel`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text
from trackd.retention import RetentionJob, state_of

from server.cli.retention import following
from server.cli.retention.reach import Target, Timeout, connected
from server.cli.retention.showing import minute, table
from server.cli.terminal import AsJson, harmless, out, print_json, say

WATCH_EXIT_CODES = (
    "Exit codes: 0 all of it was done, 4 the plan was stale; 1 refused, failed or done only in part, 64 wrong usage, "
    "69 no daemon answers, 130 left while it goes on."
)
STYLES = {"running": "cyan", "done": "green", "failed": "bold red", "cancelled": "yellow"}
Number = Annotated[int, typer.Argument(metavar="JOB", min=1, help="The number that `jobs` shows.")]


def jobs(target: Target = None, timeout: Timeout = 600.0, as_json: AsJson = False) -> None:
    """List the jobs since the daemon was started, the newest first. With --json one object a line.

    What was done before is in the evidence: `trackd retention history`.
    """
    with connected(target, timeout) as client:
        found = client.retention.jobs()
    if as_json:
        for one in found:
            print_json(_told(one))
        return
    if not found:
        say("no jobs since the daemon was started")
        return
    shown = table("job", "started (UTC)", "by", "state", "plan", "what", long=("what",))
    for one in found:
        state = state_of(one)
        what = f"{one.action}/{one.actions} {one.what}" if one.actions else ""
        shown.add_row(
            str(one.number),
            minute(one.started_ms),
            Text(harmless(one.actor)),
            Text(state, style=STYLES.get(state, "")),
            one.plan_id[:12],
            Text(harmless(f"{one.reason} {one.problem}" if one.reason else what)),
        )
    out.print(shown)


def watch(number: Number, target: Target = None, timeout: Timeout = 600.0, as_json: AsJson = False) -> None:
    """Watch a job until it has ended, and print what it did. Ctrl-C leaves it, and it goes on."""
    with connected(target, timeout) as client:
        ended = following.follow(client, RetentionJob(number=number))
    raise typer.Exit(following.show_end(ended, as_json=as_json))


def cancel(number: Number, target: Target = None, timeout: Timeout = 600.0) -> None:
    """End a job soon: between two actions, or in one, which then has no effect. What was done before stays done."""
    with connected(target, timeout) as client:
        client.retention.cancel(number)
    say(f"job {number} ends soon; trackd retention watch {number} says what it did", "green")


def _told(one: RetentionJob) -> dict[str, Any]:
    return {
        "number": one.number,
        "plan_id": one.plan_id,
        "actor": one.actor,
        "started_ms": one.started_ms,
        "state": state_of(one),
        "action": one.action,
        "actions": one.actions,
        "what": one.what,
        "reason": one.reason,
        "problem": one.problem,
    }
