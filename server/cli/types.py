"""`trackd types`: the registry of event types."""

from __future__ import annotations

from typing import Annotated, Any

import trackd
import typer
from rich.table import Table
from rich.text import Text

from server.cli.exit_codes import EXIT_CODES
from server.cli.moments import show_moment
from server.cli.terminal import AsJson, Target, Timeout, connected, harmless, out, print_json, say, talks_to_a_daemon

app = typer.Typer(help="List, describe and register event types.", no_args_is_help=True, rich_markup_mode="markdown")
Name = Annotated[str, typer.Argument(metavar="NAME", help='Letters, digits and "_.:/-", at most 128.')]


@app.command("list", epilog=EXIT_CODES)
@talks_to_a_daemon
def list_types(target: Target = trackd.DEFAULT_TARGET, timeout: Timeout = 60.0, as_json: AsJson = False) -> None:
    """List all types by name. With --json one object a line."""
    with connected(target, timeout) as client:
        types = list(client.list_event_types())
        open_registry = client.list_event_types_page(page_size=1).open_registry
    if as_json:
        for one in types:
            print_json(type_json(one))
        return
    out.print(_table(types))
    say(
        "events of other types are taken, too, and register them" if open_registry else "other types are refused", "dim"
    )


@app.command("describe", epilog=EXIT_CODES)
@talks_to_a_daemon
def describe(
    name: Name, target: Target = trackd.DEFAULT_TARGET, timeout: Timeout = 60.0, as_json: AsJson = False
) -> None:
    """Tell what is known of one type."""
    with connected(target, timeout) as client:
        _show(client.describe_event_type(name), as_json=as_json)


@app.command("register", epilog=EXIT_CODES)
@talks_to_a_daemon
def register(
    name: Name,
    description: Annotated[str, typer.Option("--description", help="What an event of this type means.")] = "",
    dimensions: Annotated[
        list[str] | None,
        typer.Option("--dimension", metavar="KEY", help="A metadata key to group and filter by; repeat for up to 8."),
    ] = None,
    target: Target = trackd.DEFAULT_TARGET,
    timeout: Timeout = 60.0,
    as_json: AsJson = False,
) -> None:
    """Register a type, or give a known one another description and other dimensions.

    Questions that group or filter by a dimension of their types are answered fast; all others have answers as well.
    """
    with connected(target, timeout) as client:
        _show(client.register_event_type(name, description, dimensions=dimensions or ()), as_json=as_json)


def type_json(one: trackd.EventType) -> dict[str, Any]:
    """A type as it is printed."""
    return {
        "name": one.name,
        "description": one.description,
        "registered_ms": one.registered_ms,
        "declared": one.declared,
        "dimensions": list(one.dimensions),
    }


def _show(one: trackd.EventType, *, as_json: bool) -> None:
    if as_json:
        print_json(type_json(one))
    else:
        out.print(_table([one]))


def _table(types: list[trackd.EventType]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("type", no_wrap=True, style="cyan")
    table.add_column("since (UTC)", no_wrap=True)
    table.add_column("known by", no_wrap=True)
    table.add_column("dimensions", overflow="fold")
    table.add_column("description", overflow="fold")
    for one in types:
        known_by = "registration" if one.declared else "first event"
        dimensions = Text(harmless(", ".join(one.dimensions)))
        table.add_row(
            Text(one.name), show_moment(one.registered_ms), known_by, dimensions, Text(harmless(one.description))
        )
    return table
