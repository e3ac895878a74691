"""What commands share: data on standard output, words on standard error, exit codes, errors in one line."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import orjson
import trackd
import typer
from rich.console import Console
from rich.text import Text

EXIT_FAILED = 1
"""Refused, or done only in part."""
EXIT_UNREACHABLE = 2
"""No daemon answered; also the code for wrong usage."""

STARTING_S = 3.0
"""A wrong target is noticed after this; so long a daemon may take to come back before a command has begun."""

EXIT_CODES = "Exit codes: 0 done, 1 refused or done only in part, 2 no daemon answers (or wrong usage)."

Target = Annotated[
    str,
    typer.Option(
        "--target", envvar="TRACKD_TARGET", metavar="HOST:PORT", help="The daemon's gRPC address.", show_default=True
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long to wait for one answer.")
]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

out = Console()
err = Console(stderr=True)


def print_json(value: Any) -> None:
    """One JSON value on one line of standard output."""
    print(orjson.dumps(value).decode(), flush=True)


def harmless(text: str) -> str:
    """What senders wrote, so that it cannot steer the terminal."""
    return _CONTROL.sub(" ", text)


def say(text: str, style: str = "") -> None:
    """A sentence for people, on standard error; never wrapped in the middle of a word when piped."""
    err.print(Text(text, style=style), soft_wrap=True)


def complain(text: str) -> None:
    """One red line on standard error."""
    say("error: " + " ".join(text.split()), "bold red")


@contextmanager
def errors_reported(target: str) -> Iterator[None]:
    """Turns errors of the client into one line and an exit code."""
    try:
        yield
    except trackd.Unreachable as error:
        _unreachable(target, error)
        raise typer.Exit(EXIT_UNREACHABLE) from None
    except trackd.DeadlineExceeded:
        complain(f"{target} did not answer in time (a larger --timeout gives it more)")
        raise typer.Exit(EXIT_UNREACHABLE) from None
    except trackd.GaveUp as error:
        complain(str(error))
        raise typer.Exit(
            EXIT_UNREACHABLE if isinstance(error.cause, trackd.Unreachable | None) else EXIT_FAILED
        ) from None
    except trackd.TrackdError as error:
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from None


@contextmanager
def connected(target: str, timeout_s: float = 60.0) -> Iterator[trackd.Client]:
    """A client for one command; its errors are reported."""
    with errors_reported(target), trackd.Client(target, timeout_s=timeout_s) as client:
        yield client


def wait_for_daemon(client: trackd.Client) -> None:
    """Returns when the daemon answers. One that is just starting again gets some seconds; raises Unreachable then."""
    until_s = time.monotonic() + STARTING_S
    while True:
        try:
            client.health()
        except trackd.Unreachable:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.2)
        else:
            return


def _unreachable(target: str, error: trackd.TrackdError) -> None:
    cause = error.message.split(";")[0]
    complain(
        f"no daemon answers at {target}: {cause}. Start one with: trackd serve --data ./trackd-data --listen {target}"
    )
