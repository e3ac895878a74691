"""`trackd slo`: rules for Prometheus from the objectives, and what is left of their budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from server.cli.exit_codes import EXIT_FAILED, EXIT_UNREACHABLE
from server.cli.terminal import AsJson, complain, out, print_json
from server.errors import TrackdError

app = typer.Typer(help="Watch the objectives: rules for Prometheus, and budgets.", no_args_is_help=True)

HEADING = """\
Made by `trackd slo rules`: make it anew when the objectives in the settings change, do not edit it.
Budgets, how fast they burn, and the alerts about that. All other alerts: trackd-alerts.rules.yml."""


@app.callback()
def slo() -> None:
    """Watch the objectives: rules for Prometheus, and budgets."""


@app.command("rules")
def rules(
    config_file: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="The settings of the daemon (TOML).")
    ] = None,
    window_scale: Annotated[
        float,
        typer.Option(metavar="X", min=0.0001, max=10.0, help="Make every window X times as long, to try alerts out."),
    ] = 1.0,
    runbook: Annotated[
        str | None, typer.Option(metavar="URL", help="Where your copy of deploy/RUNBOOK.md is, for links in alerts.")
    ] = None,
) -> None:
    """Print recording and alerting rules for Prometheus, for exactly the objectives in the settings.

    Without --config for the default objectives. Put the output into a file that `rule_files` of Prometheus names, and
    make it anew whenever the objectives change; an alert reminds you.

    Exit codes: 0 done, 2 wrong settings.
    """
    from server import config
    from server.slo.rules import RUNBOOK, as_yaml, groups

    try:
        objectives = config.load(config_file, {}).objective
    except TrackdError as error:
        complain(str(error))
        raise typer.Exit(EXIT_UNREACHABLE) from None
    found = groups(objectives, window_scale=window_scale, runbook=runbook or RUNBOOK)
    print(as_yaml(found, heading=HEADING), end="")


@app.command("status")
def status(
    prometheus: Annotated[
        str, typer.Option(envvar="TRACKD_PROMETHEUS", metavar="URL", help="The Prometheus that scrapes the daemon.")
    ] = "http://127.0.0.1:9090",
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long to wait for one answer.")
    ] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Show what is left of each budget, how fast it burns, and which of its alerts fire.

    Asks Prometheus about the counters of the daemons that it scrapes; needs no rules, only their alerts do.

    Exit codes: 0 every budget has something left, 1 one has not, 2 Prometheus does not answer or knows no objective.
    """
    from server.slo.status import Prometheus, look_up
    from server.slo.table import budget_table, firing, notes

    try:
        found = look_up(Prometheus(prometheus, timeout))
    except TrackdError as error:
        complain(str(error))
        raise typer.Exit(EXIT_UNREACHABLE) from None
    if as_json:
        print_json({"prometheus": prometheus, "retention": found.retention, "budgets": found.as_json()})
    else:
        out.print(budget_table(found.budgets))
        for line in firing(found.budgets):
            out.print(line, style="bold red", highlight=False, soft_wrap=True)
        for note in notes(found):
            out.print(note, style="yellow", highlight=False)
    if any(budget.remaining <= 0 for budget in found.budgets):
        raise typer.Exit(EXIT_FAILED)
