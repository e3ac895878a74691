"""`trackd serve`: the daemon in the foreground."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from server import config, logs
from server.errors import StoreFailed, TrackdError, Unavailable

EXIT_USAGE = 2


class LogFormat(StrEnum):
    """How log lines look."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


def serve(
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where events are kept. [default: ./trackd-data]", show_default=False),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="gRPC address; port 0 takes a free one. [default: 127.0.0.1:7077]"),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Address of /metrics, /healthz and /readyz. [default: 127.0.0.1:9077]"),
    ] = None,
    config_file: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings (TOML); see deploy/trackd.toml.")
    ] = None,
    allow_insecure: Annotated[
        bool, typer.Option("--allow-insecure", help="Listen beyond loopback although there is no TLS.")
    ] = False,
    allow_accepted: Annotated[
        bool, typer.Option("--allow-accepted", help="Let senders ask for answers before the disk has their events.")
    ] = False,
    closed_registry: Annotated[
        bool, typer.Option("--closed-registry", help="Reject events of types that nobody registered.")
    ] = False,
    ready_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write addresses and process id here, as JSON, once everything is served."),
    ] = None,
    log_format: Annotated[
        LogFormat, typer.Option(help="auto: console on a terminal, else JSON lines.")
    ] = LogFormat.AUTO,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C.

    It keeps every event it acknowledges exactly once under --data, through any crash. Stopping answers what is in
    flight first. Exit codes: 0 stopped as asked, 2 wrong settings or a directory in use, 70 the disk failed (start it
    again: it recovers).
    """
    # Here, because importing the gRPC stack takes longer than printing --help.
    from server import daemon
    from server.supervisor import Supervisor

    json_lines = log_format is LogFormat.JSON or (log_format is LogFormat.AUTO and not sys.stderr.isatty())
    if log_level not in ("debug", "info", "warning", "error"):
        raise typer.BadParameter(f"{log_level!r} is none of debug, info, warning, error", param_hint="--log-level")
    logs.configure(json_lines=json_lines, level=log_level)
    try:
        settings = config.load(
            config_file,
            {
                "data": data,
                "listen.grpc": listen,
                "listen.metrics": metrics,
                "listen.allow_insecure": allow_insecure or None,
                "ingest.allow_accepted": allow_accepted or None,
                "ingest.open_registry": False if closed_registry else None,
            },
        )
        code = daemon.serve(settings, ready_file=ready_file, supervisor=Supervisor(os.environ, pid=os.getpid()))
    except TrackdError as error:
        Console(stderr=True, soft_wrap=True).print(f"[red]{error.reason}[/red] {error.message}", highlight=False)
        if error.hint:
            Console(stderr=True, soft_wrap=True).print(f"[dim]{error.hint}[/dim]", highlight=False)
        failed = isinstance(error, StoreFailed | Unavailable)
        raise typer.Exit(daemon.EXIT_STORE_FAILED if failed else EXIT_USAGE) from error
    raise typer.Exit(code)
