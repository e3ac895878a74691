"""`trackd health`: whether a daemon serves; for scripts, containers and people."""

from __future__ import annotations

from typing import Annotated

import trackd
import typer

from server.cli.exit_codes import EXIT_FAILED
from server.cli.terminal import AsJson, Target, Timeout, connected, out, print_json, talks_to_a_daemon


@talks_to_a_daemon
def health(
    service: Annotated[
        str,
        typer.Option("--service", metavar="NAME", help="One service, for example trackd.v1.IngestService."),
    ] = "",
    target: Target = trackd.DEFAULT_TARGET,
    timeout: Timeout = 5.0,
    as_json: AsJson = False,
) -> None:
    """Tell whether the daemon serves.

    Exit codes: 0 serving, 1 not serving (starting, stopping, disk full), 2 no daemon answers (or wrong usage).
    """
    with connected(target, timeout) as client:
        state = client.health(service)
    if as_json:
        print_json({"target": target, "service": service, "status": state.value})
    else:
        style = "green" if state is trackd.Health.SERVING else "red"
        out.print(f"[{style}]{state.value.replace('_', ' ')}[/{style}]")
    if state is not trackd.Health.SERVING:
        raise typer.Exit(EXIT_FAILED)
