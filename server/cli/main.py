"""The command `trackd`. Each command is a module of this package; here they only get their names.

serve.py offers `serve`, check.py `check`, bench.py `app`, and so on: functions and Typer apps that say in their own
docstrings what --help shows. A module is imported when its command is asked for: together they take a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Literal, NamedTuple

import typer
from typer.core import TyperGroup

from server.cli.exit_codes import EXIT_CODES


class Place(NamedTuple):
    """Where a command is found: in which panel of --help, and as what of which module of this package."""

    panel: str
    module: str
    name: str


START, USE, OPERATE = "Start", "Send and ask", "Operate"
PLACES = {
    "demo": Place(START, "demo", "demo"),
    "serve": Place(START, "serve", "serve"),
    "import": Place(USE, "importing.command", "import_"),
    "pull": Place(USE, "pulling.command", "pull"),
    "events": Place(USE, "events", "events"),
    "tail": Place(USE, "tail", "tail"),
    "count": Place(USE, "count", "count"),
    "query": Place(USE, "query", "query"),
    "types": Place(USE, "types", "app"),
    "health": Place(OPERATE, "health", "health"),
    "check": Place(OPERATE, "check", "check"),
    "retention": Place(OPERATE, "retention.command", "app"),
    "hold": Place(OPERATE, "retention.command", "hold"),
    "archive": Place(OPERATE, "archive", "app"),
    "slo": Place(OPERATE, "slo", "app"),
    "token": Place(OPERATE, "tokens", "app"),
    "bench": Place(OPERATE, "bench", "app"),
}


class _OnDemand(Mapping[str, Any]):
    """The commands by name, in the order of the help; their modules are imported when they are looked up."""

    def __getitem__(self, name: str) -> Any:
        return _command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(PLACES)

    def __len__(self) -> int:
        return len(PLACES)


@cache
def _command(name: str) -> Any:
    place = PLACES[name]
    found = getattr(import_module(f"server.cli.{place.module}"), place.name)
    one = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=MARKUP)
    if isinstance(found, typer.Typer):
        one.add_typer(found, name=name, rich_help_panel=place.panel)
    else:
        one.command(name, rich_help_panel=place.panel)(found)
    return typer.main.get_group(one).commands[name]


class _Trackd(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _OnDemand()  # type: ignore[assignment]  # nothing is added to it


MARKUP: Literal["markdown"] = "markdown"
"""Paragraphs of docstrings flow to the width of the terminal instead of keeping the line ends of the source."""

app = typer.Typer(
    name="trackd",
    cls=_Trackd,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=MARKUP,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"{EXIT_CODES} Commands that talk to a daemon take --target, or TRACKD_TARGET from the "
    "environment; for TLS and tokens TRACKD_CA and TRACKD_TOKEN_FILE.",
)


@app.callback()
def trackd() -> None:
    """Keep events exactly once in monthly SQLite tables: stream them in over gRPC, read them back.

    New here? Run: trackd demo
    """


def main() -> None:
    """Runs the command line."""
    app()


if __name__ == "__main__":
    main()
