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


class LogLevel(StrEnum):
    """Which log lines are written: those of this level and of worse."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_TlsCert = Annotated[
    str | None, typer.Option(metavar="FILE", help="Certificate and its issuers (PEM): gRPC over TLS. With --tls-key.")
]
_TlsKey = Annotated[str | None, typer.Option(metavar="FILE", help="The key of --tls-cert (PEM).")]
_ClientCa = Annotated[
    str | None, typer.Option(metavar="FILE", help="Who signs for clients (PEM): connect with a certificate only.")
]
_Tokens = Annotated[
    str | None, typer.Option(metavar="FILE", help="What `trackd token` writes: calls need a token from now on.")
]
_AllowInsecure = Annotated[
    bool, typer.Option("--allow-insecure", help="Listen beyond loopback although TLS or tokens are missing.")
]
_AllowInsecureMetrics = Annotated[
    bool, typer.Option("--allow-insecure-metrics", help="Serve metrics beyond loopback although HTTPS is missing.")
]
_ReadyFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write addresses and process id here, as JSON, once everything is served."),
]
_Listen = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="gRPC address; port 0 takes a free one. [default: 127.0.0.1:7077]"),
]
_AllowAccepted = Annotated[
    bool, typer.Option("--allow-accepted", help="Let senders ask for answers before the disk has their events.")
]
_ClosedRegistry = Annotated[
    bool, typer.Option("--closed-registry", help="Reject events of types that nobody registered.")
]
_LogLevel = Annotated[LogLevel | None, typer.Option(help="Log this and worse. [default: info]", show_default=False)]


def serve(
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where events are kept. [default: ./trackd-data]", show_default=False),
    ] = None,
    listen: _Listen = None,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Address of /metrics, /healthz and /readyz. [default: 127.0.0.1:9077]"),
    ] = None,
    config_file: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings (TOML); see deploy/trackd.toml.")
    ] = None,
    tls_cert: _TlsCert = None,
    tls_key: _TlsKey = None,
    client_ca: _ClientCa = None,
    tokens: _Tokens = None,
    allow_insecure: _AllowInsecure = False,
    allow_insecure_metrics: _AllowInsecureMetrics = False,
    allow_accepted: _AllowAccepted = False,
    closed_registry: _ClosedRegistry = False,
    ready_file: _ReadyFile = None,
    log_format: Annotated[
        LogFormat, typer.Option(help="auto: console on a terminal, else JSON lines.")
    ] = LogFormat.AUTO,
    log_level: _LogLevel = None,
) -> None:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C.

    It keeps every event it acknowledges exactly once under --data, through any crash. Stopping answers what is in
    flight first. SIGHUP reads settings, tokens and certificates again.

    Exit codes: 0 stopped as asked, 2 wrong settings or a directory in use, 70 the disk failed (start it again: it
    recovers).
    """
    # Here, because importing the gRPC stack takes longer than printing --help.
    from server import daemon
    from server.supervisor import Supervisor

    json_lines = log_format is LogFormat.JSON or (log_format is LogFormat.AUTO and not sys.stderr.isatty())
    options = {
        "data": data,
        "listen.grpc": listen,
        "listen.metrics": metrics,
        "listen.allow_insecure": allow_insecure or None,
        "listen.allow_insecure_metrics": allow_insecure_metrics or None,
        "tls.certificate": tls_cert,
        "tls.key": tls_key,
        "tls.client_ca": client_ca,
        "access.tokens": tokens,
        "ingest.allow_accepted": allow_accepted or None,
        "ingest.open_registry": False if closed_registry else None,
        "log.level": log_level and log_level.value,
    }
    try:
        settings = config.load(config_file, options)
        logs.configure(json_lines=json_lines, level=settings.log.level)
        code = daemon.serve(
            settings,
            ready_file=ready_file,
            read_again=lambda: config.load(config_file, options),
            supervisor=Supervisor(os.environ, pid=os.getpid()),
        )
    except TrackdError as error:
        _complain(error)
        failed = isinstance(error, StoreFailed | Unavailable)
        raise typer.Exit(daemon.EXIT_STORE_FAILED if failed else EXIT_USAGE) from error
    raise typer.Exit(code)


def _complain(error: TrackdError) -> None:
    words = Console(stderr=True, soft_wrap=True)
    words.print(f"[red]{error.reason}[/red] {error.message}", highlight=False)
    if error.hint:
        words.print(f"[dim]{error.hint}[/dim]", highlight=False)
