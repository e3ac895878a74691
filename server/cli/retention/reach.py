"""How these commands reach a daemon, and the codes that they end with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import trackd
import typer
from typer.core import TyperCommand

from server.cli.exit_codes import EXIT_FAILED
from server.cli.terminal import complain, credentials

EXIT_USAGE = 64
"""EX_USAGE of sysexits.h: 2, which other commands have for this, says here that changes are planned."""
EXIT_UNREACHABLE = 69
"""EX_UNAVAILABLE."""
EXIT_CODES = "Exit codes: 0 done, 1 refused or failed, 64 wrong usage, 69 no daemon answers."

_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"""click.UsageError, of click itself or of the one inside of Typer."""
SOCKET = Path("trackd-data") / "control.sock"
SOCKET_TARGET = f"unix:./{SOCKET}"

Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="unix:PATH|HOST:PORT",
        help="The daemon: by default the socket in ./trackd-data if there is one, else TRACKD_TARGET (which comes "
        "first if it names a socket).",
        show_default=False,
    ),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long to wait for one answer: a plan counts rows."),
]
TIMEOUT_S = 600.0


class RetentionCommand(TyperCommand):
    """A command whose wrong usage ends with EXIT_USAGE."""

    def make_context(self, *words: Any, **options: Any) -> Any:
        """As any command does."""
        with _usage():
            return super().make_context(*words, **options)

    def invoke(self, *words: Any, **options: Any) -> Any:
        """As any command does."""
        with _usage():
            return super().invoke(*words, **options)


@contextmanager
def _usage() -> Iterator[None]:
    try:
        yield
    except _USAGE_ERROR as error:
        error.exit_code = EXIT_USAGE
        raise


def target_of(given: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """What is given; else a socket that the environment names; else that of ./trackd-data; else what is left.

    Applying is for the machine of the daemon, so its socket comes before addresses that other commands use.
    """
    named = environment.get("TRACKD_TARGET", "")
    if given:
        return given
    if named.startswith("unix:"):
        return named
    return SOCKET_TARGET if SOCKET.is_socket() else named or trackd.DEFAULT_TARGET


@contextmanager
def connected(
    given: str | None, timeout_s: float = TIMEOUT_S, unreachable: int = EXIT_UNREACHABLE
) -> Iterator[trackd.Client]:
    """A client for one command; its errors become one line and an exit code."""
    target = target_of(given)
    try:
        client = _client(target, timeout_s)
    except OSError as error:
        raise typer.BadParameter(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    try:
        with client:
            yield client
    except trackd.Unreachable as error:
        complain(f"no daemon answers at {target}: {error.message.split(';')[0]}. {_advice(target, given)}")
        raise typer.Exit(unreachable) from None
    except trackd.DeadlineExceeded:
        complain(f"{target} did not answer in time (a larger --timeout gives it more)")
        raise typer.Exit(unreachable) from None
    except trackd.TrackdError as error:
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from None


def _client(target: str, timeout_s: float) -> trackd.Client:
    """The daemon's own socket has neither TLS nor tokens, whatever the environment says for addresses."""
    if target.startswith("unix:"):
        return trackd.Client(target, token="", tls=False, timeout_s=timeout_s)
    return trackd.Client(target, timeout_s=timeout_s, **credentials())


def _advice(target: str, given: str | None) -> str:
    if not target.startswith("unix:") and not given:
        return (
            f"There is no {SOCKET} here either: say which daemon with --target unix:DATA/control.sock, or start one "
            "with: trackd serve --data ./trackd-data --config FILE"
        )
    if not target.startswith("unix:"):
        return "Where the daemon runs, its own socket serves retention, too: --target unix:DATA/control.sock"
    path = Path(target.removeprefix("unix:"))
    if not path.exists():
        return "There is no such socket: the daemon that makes it does not run, or has its data elsewhere"
    return "The daemon does not run, or you may not open its socket (only its user and root may)"
