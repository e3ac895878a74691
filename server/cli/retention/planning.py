"""`trackd retention plan`, `apply` and `agree`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import trackd
import typer

from retention.guards import GUARDS
from retention.plan import ExitCode, Plan, PlanUnreadable, differences, exit_code, from_document
from server.cli.exit_codes import EXIT_FAILED
from server.cli.retention import following
from server.cli.retention.reach import Target, Timeout, connected, target_of
from server.cli.retention.showing import show_plan
from server.cli.terminal import AsJson, complain, harmless, say

PLAN_EXIT_CODES = (
    "Exit codes: 0 nothing to do, 2 changes are planned, 3 all that is due is held, 5 something is overdue (whether or "
    "not this plan ends that); 1 refused or failed, 64 wrong usage, 69 no daemon answers."
)
APPLY_EXIT_CODES = (
    "Exit codes: 0 all of it was done, 3 all that is due is held, 4 the plan is stale; 1 refused, failed or done only "
    "in part (a guard, a second person, a cancel), 64 wrong usage, 69 no daemon answers, 130 left while it goes on."
)
PLAN_STALE = "PLAN_STALE"

Accept = Annotated[
    list[str] | None,
    typer.Option("--accept", metavar="GUARD", help=f"Go on without this guard ({', '.join(GUARDS)}); repeat for more."),
]
EveryMonth = Annotated[
    bool, typer.Option("--every-month", help="An entry for each month, also where the same happens to many.")
]


def plan(
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Keep the plan, for `apply`; others can read it first.")
    ] = None,
    accept: Accept = None,
    every_month: EveryMonth = False,
    target: Target = None,
    timeout: Timeout = 600.0,
    as_json: AsJson = False,
) -> None:
    """Say what the policy asks for now, and why. Changes nothing.

    `+` adds something (a month is sealed, numbers are kept, an archive is made), `~` changes events, `-` destroys.
    Below each stands the line of the policy and since when it is due; then what is held or stopped, and which reported
    numbers will be others. The plan has an id; it is applied only while it is what would be planned then.
    """
    _require_guards(accept)
    with connected(target, timeout) as client:
        planned = client.retention.plan(accept=accept or ())
    found = _read(planned.plan)
    if out_file:
        _keep(out_file, planned.plan)
    if as_json:
        print(planned.plan)
    else:
        show_plan(found, every_month=every_month)
    if out_file:
        say(f"kept in {out_file}; apply it with: trackd retention apply {out_file}", "dim")
    raise typer.Exit(int(exit_code(found)))


def apply(
    file: Annotated[
        Path | None, typer.Argument(metavar="PLANFILE", help="What `plan --out` wrote. Without one it plans first.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where there is nobody to ask.")] = False,
    accept: Accept = None,
    every_month: EveryMonth = False,
    target: Target = None,
    timeout: Timeout = 600.0,
    as_json: AsJson = False,
) -> None:
    """Do what a plan says: show it, ask, do it, and print what was done.

    The daemon does the work, one run at a time, and keeps a receipt. Ctrl-C leaves it to that; `watch` comes back to it
    and `cancel` ends it. A plan that is not what would be done now is refused, and the difference is shown. With --json
    the receipt is printed.
    """
    _require_guards(accept)
    if file and accept:
        raise typer.BadParameter("the plan of a file has its own accepted guards; plan again with --accept")
    with connected(target, timeout) as client:
        text = _text_of(file) if file else client.retention.plan(accept=accept or ()).plan
        found = _read(text)
        if not as_json:
            show_plan(found, every_month=every_month)
        if found.actions and not yes:
            _ask(target_of(target))
        # Without anything to do as well: the daemon's clock was looked at, and is believed.
        ended = following.follow(client, client.retention.apply(text))
        if ended.reason == PLAN_STALE:
            _show_difference(client, found)
        code = following.show_end(ended, as_json=as_json, with_nothing=False)
        raise typer.Exit(int(ExitCode.HELD) if code == 0 and exit_code(found) is ExitCode.HELD else code)


def agree(
    plan_id: Annotated[str, typer.Argument(metavar="PLAN_ID|PLANFILE", help="All 64 digits of the id, or the plan.")],
    target: Target = None,
    timeout: Timeout = 600.0,
) -> None:
    """Agree to a plan that somebody else is going to apply, where the policy wants two persons' word.

    Your word is recorded in the evidence, under your user id of the operating system. It is good for this plan alone: a
    plan with another id needs it anew. Agreeing to your own plan does not count.
    """
    if len(plan_id) != len("0" * 64) and Path(plan_id).is_file():
        plan_id = _read(_text_of(Path(plan_id))).id
    with connected(target, timeout) as client:
        client.retention.agree(plan_id)
    say(f"agreed to plan {harmless(plan_id[:12])}", "green")


def _require_guards(accept: list[str] | None) -> None:
    for name in accept or ():
        if name not in GUARDS:
            raise typer.BadParameter(f"{name!r} is no guard that can be accepted; known are {', '.join(GUARDS)}")


def _text_of(file: Path) -> str:
    try:
        return file.read_text("utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        complain(f"{file}: {reason}; make a plan with: trackd retention plan --out {file}")
        raise typer.Exit(EXIT_FAILED) from None


def _read(text: str) -> Plan:
    try:
        return from_document(json.loads(text))
    except (PlanUnreadable, ValueError) as error:
        complain(f"PLAN_UNREADABLE: {error}")
        raise typer.Exit(EXIT_FAILED) from None


def _keep(file: Path, text: str) -> None:
    try:
        file.write_text(text + "\n", "utf-8")
    except OSError as error:
        complain(f"{file}: {error.strerror}")
        raise typer.Exit(EXIT_FAILED) from None


def _ask(target: str) -> None:
    """Goes on if somebody says yes."""
    if not sys.stdin.isatty():
        raise typer.BadParameter("there is no terminal to ask at; say --yes")
    if not typer.confirm(f"Apply this plan at {target}?", default=False, err=True):
        say("nothing was done")
        raise typer.Exit(EXIT_FAILED)


def _show_difference(client: trackd.Client, planned: Plan) -> None:
    """The job said that there is one; here is all of it."""
    current = _read(client.retention.plan(accept=planned.accepted).plan)
    complain("PLAN_STALE: the plan is not what would be done now; nothing was done. What has changed:")
    for line in differences(planned, current) or ["it is as it was again: apply it once more"]:
        say(f"  {harmless(line)}", "yellow")
    say("plan again: trackd retention plan", "dim")
    raise typer.Exit(int(ExitCode.STALE))
