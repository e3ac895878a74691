"""The commands `trackd retention` and `trackd hold`, put together."""

from __future__ import annotations

from collections.abc import Callable

import typer

from server.cli.exit_codes import EXIT_CODES as PLAIN_EXIT_CODES
from server.cli.retention import evidence, holds, jobs, planning, policies, standing
from server.cli.retention.reach import EXIT_CODES, RetentionCommand
from server.cli.terminal import talks_to_a_daemon

app = typer.Typer(
    help="Keep events by policy: plan what is due, apply it, see how it stands and what was done.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
_APPLYING, _LOOKING, _POLICY = "Plan and apply", "See how it stands", "Policy files (no daemon needed)"


def _add(name: str, function: Callable[..., None], panel: str, epilog: str) -> None:
    made = app.command(name, rich_help_panel=panel, epilog=epilog, cls=RetentionCommand)
    made(talks_to_a_daemon(function))


_add("plan", planning.plan, _APPLYING, planning.PLAN_EXIT_CODES)
_add("apply", planning.apply, _APPLYING, planning.APPLY_EXIT_CODES)
_add("agree", planning.agree, _APPLYING, EXIT_CODES)
_add("jobs", jobs.jobs, _APPLYING, EXIT_CODES)
_add("watch", jobs.watch, _APPLYING, jobs.WATCH_EXIT_CODES)
_add("cancel", jobs.cancel, _APPLYING, EXIT_CODES)
_add("status", standing.status, _LOOKING, standing.STATUS_EXIT_CODES)
_add("months", standing.months, _LOOKING, EXIT_CODES)
_add("explain", standing.explain, _LOOKING, EXIT_CODES)
_add("history", evidence.history, _LOOKING, EXIT_CODES)
_add("verify", evidence.verify, _LOOKING, evidence.VERIFY_EXIT_CODES)
app.command("lint", rich_help_panel=_POLICY, epilog=policies.EXIT_CODES)(policies.lint)
app.command("record", rich_help_panel=_POLICY, epilog=policies.EXIT_CODES)(policies.record_)
app.command("schema", rich_help_panel=_POLICY)(policies.schema_)

hold = typer.Typer(
    help="Legal holds: rows that must not be destroyed, whatever a policy says.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
hold.command("add", epilog=PLAIN_EXIT_CODES)(talks_to_a_daemon(holds.add))
hold.command("list", epilog=PLAIN_EXIT_CODES)(talks_to_a_daemon(holds.list_))
hold.command("release", epilog=PLAIN_EXIT_CODES)(talks_to_a_daemon(holds.release))
