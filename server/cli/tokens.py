"""`trackd token`: makes, lists and revokes the tokens that a daemon takes. Works on their file; no daemon is needed."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from server import config
from server.cli.exit_codes import EXIT_FAILED
from server.cli.moments import parse_moment, show_moment
from server.cli.terminal import AsJson, complain, out, print_json, say
from server.errors import ConfigurationError
from server.model import Role
from server.security import tokens
from server.security.tokens import Token

app = typer.Typer(
    help="Make, list and revoke tokens. A running daemon notices within two seconds.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
EXIT_CODES = "Exit codes: 0 done, 1 refused, 2 wrong usage."

File = Annotated[
    Path | None,
    typer.Option("--file", envvar="TRACKD_TOKENS", metavar="FILE", help="The file of tokens, as in access.tokens."),
]
Settings = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The daemon's settings, which name that file.")
]
_SPAN = re.compile(r"(\d{1,5})([hdwy])")
_HOURS = {"h": 1, "d": 24, "w": 7 * 24, "y": 365 * 24}
HOUR_MS = 3_600_000


@app.command("create", epilog=EXIT_CODES)
def create(
    name: Annotated[str, typer.Option("--name", help="Whose it is, for lists and logs, for example the service.")],
    role: Annotated[list[Role], typer.Option("--role", help="What it allows; repeatable. operate allows everything.")],
    expires: Annotated[
        str, typer.Option("--expires", metavar="SPAN|TIME", help="For example 12h, 90d, 52w, 1y, 2027-01-01, or never.")
    ] = "never",
    file: File = None,
    settings: Settings = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", help="Write it there, for you alone to read, and print nothing of it."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, this once: the file of tokens keeps only its hash.

    That file is made if it is not there. Only its owner may read it.
    """
    now_ms = time.time_ns() // 1_000_000
    if not tokens.NAME.fullmatch(name):
        raise typer.BadParameter('1 to 128 letters, digits and "_.:/@-"', param_hint="--name")
    expires_ms = _expiry(expires, now_ms)
    with _errors_reported(), _kept_in(output) as keep:
        text, token = tokens.create(_file(file, settings), name=name, roles=role, now_ms=now_ms, expires_ms=expires_ms)
        keep(text)
    shown = {} if output else {"token": text}
    if as_json:
        print_json({**shown, **_shown(token)})
        return
    if not output:
        print(text)
    until = "never expires" if expires_ms is None else f"expires {show_moment(expires_ms)} UTC"
    where = f"It is in {output}" if output else "It is shown this once"
    say(f"token {token.id} of {name} for {', '.join(token.roles)}, {until}. {where}.", "dim")


@app.command("list", epilog=EXIT_CODES)
def list_tokens(file: File = None, settings: Settings = None, as_json: AsJson = False) -> None:
    """List the tokens, but for their secrets. With --json one object a line."""
    with _errors_reported():
        found = tokens.read(_file(file, settings))
    if as_json:
        for token in found:
            print_json(_shown(token))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "name", "roles", "created (UTC)", "expires (UTC)"):
        table.add_column(column, no_wrap=column != "name")
    now_ms = time.time_ns() // 1_000_000
    for token in found:
        until = "never" if token.expires_ms is None else show_moment(token.expires_ms)
        style = "red" if token.expired(now_ms) else ""
        table.add_row(
            Text(token.id),
            Text(token.name),
            Text(", ".join(token.roles)),
            show_moment(token.created_ms),
            Text(f"{until} (expired)" if style else until, style=style),
        )
    out.print(table)


@app.command("revoke", epilog=EXIT_CODES)
def revoke(
    which: Annotated[str, typer.Argument(metavar="ID|NAME", help="As `trackd token list` shows it.")],
    file: File = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Take a token away. Calls and open streams of its bearer end within two seconds."""
    with _errors_reported():
        token = tokens.revoke(_file(file, settings), which)
    if as_json:
        print_json(_shown(token))
    else:
        say(f"token {token.id} of {token.name} is revoked")


def _file(file: Path | None, settings: Path | None) -> Path:
    if file is not None:
        return file
    if settings is None:
        raise typer.BadParameter("say where the tokens are: --file, or --config with access.tokens")
    named = config.load(settings, {}).access.tokens
    if not named:
        raise typer.BadParameter(f"{settings} has no access.tokens", param_hint="--config")
    return Path(named)


def _expiry(text: str, now_ms: int) -> int | None:
    if text == "never":
        return None
    span = _SPAN.fullmatch(text)
    moment_ms = now_ms + int(span[1]) * _HOURS[span[2]] * HOUR_MS if span else parse_moment(text)
    if moment_ms <= now_ms:
        raise typer.BadParameter(f"{text} is over already", param_hint="--expires")
    return moment_ms


def _shown(token: Token) -> dict[str, object]:
    return {
        "id": token.id,
        "name": token.name,
        "roles": list(token.roles),
        "created_ms": token.created_ms,
        "expires_ms": token.expires_ms,
    }


@contextmanager
def _kept_in(output: Path | None) -> Iterator[Callable[[str], None]]:
    """What writes a token where it was asked to. The file is new and there before the token is made, or no token is."""
    if output is None:
        yield lambda _text: None
        return
    try:
        handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, tokens.FILE_MODE)
    except OSError as error:
        raise typer.BadParameter(f"{output}: {error.strerror}", param_hint="--output") from None
    with os.fdopen(handle, "w", encoding="ascii") as file:
        try:
            yield lambda text: print(text, file=file)
        except BaseException:
            output.unlink(missing_ok=True)
            raise


@contextmanager
def _errors_reported() -> Iterator[None]:
    try:
        yield
    except ConfigurationError as error:
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from None
