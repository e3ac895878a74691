"""What commands share: data on standard output, words on standard error, exit codes, errors in one line."""

from __future__ import annotations

import functools
import inspect
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import orjson
import trackd
import typer
from rich.console import Console
from rich.text import Text

from server.cli.exit_codes import EXIT_FAILED, EXIT_UNREACHABLE
from server.security.watched_files import exposed

STARTING_S = 3.0
"""A wrong target is noticed after this; so long a daemon may take to come back before a command has begun."""

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

_Function = TypeVar("_Function", bound=Callable[..., Any])

SECURITY = "Security"
"""The panel of the options below."""
_OPTIONS: Mapping[str, Any] = {
    "ca": Annotated[
        Path | None,
        typer.Option(
            "--ca",
            envvar="TRACKD_CA",
            metavar="FILE",
            help="Who signs the daemon's certificate (PEM): connect with TLS.",
            rich_help_panel=SECURITY,
        ),
    ],
    "cert": Annotated[
        Path | None,
        typer.Option(
            "--cert",
            envvar="TRACKD_CERT",
            metavar="FILE",
            help="Your own certificate (PEM), for a daemon that asks for one. With --key.",
            rich_help_panel=SECURITY,
        ),
    ],
    "key": Annotated[
        Path | None,
        typer.Option(
            "--key", envvar="TRACKD_KEY", metavar="FILE", help="The key of --cert (PEM).", rich_help_panel=SECURITY
        ),
    ],
    "token_file": Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="A file with your token. [env vars: TRACKD_TOKEN_FILE, or TRACKD_TOKEN for the token itself]",
            rich_help_panel=SECURITY,
        ),
    ],
    "tls": Annotated[
        bool | None,
        typer.Option(
            "--tls/--no-tls",
            envvar="TRACKD_TLS",
            help="TLS although no file is named; or none although there is a token.",
            show_default=False,
            rich_help_panel=SECURITY,
        ),
    ],
}

_NONE: Mapping[str, Any] = {"token": "", "tls": False}
"""For commands that talk to a daemon of their own, whatever the environment says about others."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

out = Console()
err = Console(stderr=True)


_credentials: ContextVar[Mapping[str, Any]] = ContextVar("credentials", default=_NONE)


def talks_to_a_daemon(command: _Function) -> _Function:
    """A command with the options for TLS and tokens, which `connected` and `credentials` use."""
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def with_options(**given: Any) -> Any:
        own = {name: given.pop(name) for name in _OPTIONS}
        _credentials.set(_credentials_of(**own))
        return command(**given)

    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in _OPTIONS.items()
    ]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in signature.parameters.values()]
    vars(with_options)["__signature__"] = signature.replace(parameters=[*parameters, *more])
    with_options.__annotations__ = {one.name: one.annotation for one in (*parameters, *more)}
    return cast(_Function, with_options)


def credentials() -> Mapping[str, Any]:
    """The arguments `token` and `tls` for the client library, as the options of the command say."""
    return _credentials.get()


def _credentials_of(
    *, ca: Path | None, cert: Path | None, key: Path | None, token_file: Path | None, tls: bool | None
) -> dict[str, Any]:
    if (cert is None) != (key is None):
        raise typer.BadParameter("--cert and --key go together")
    file = token_file or (None if os.environ.get("TRACKD_TOKEN") else os.environ.get("TRACKD_TOKEN_FILE"))
    if file and exposed(Path(file)):
        say(f"everybody on this machine may read the token in {file}: chmod 600 {file}", "yellow")
    given: Any = trackd.Tls(ca=ca, cert=cert, key=key) if ca or cert else tls
    return {"token": token_file, "tls": False if tls is False else given}


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
    except trackd.Unauthenticated as error:
        complain(f"{error}; or give --token-file, or set TRACKD_TOKEN")
        raise typer.Exit(EXIT_FAILED) from None
    except trackd.TrackdError as error:
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from None


@contextmanager
def connected(target: str, timeout_s: float = 60.0) -> Iterator[trackd.Client]:
    """A client for one command; its errors are reported."""
    with errors_reported(target):
        try:
            client = trackd.Client(target, timeout_s=timeout_s, **credentials())
        except OSError as error:
            raise typer.BadParameter(f"{error.filename}: {error.strerror}") from None
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        with client:
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
    secure = credentials()["tls"]
    hint = "" if secure else ", or give --ca if it takes TLS only"
    complain(
        f"no daemon answers at {target}: {cause}. Start one with: "
        f"trackd serve --data ./trackd-data --listen {target}{hint}"
    )
