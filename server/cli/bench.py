"""`trackd bench`: measures a real daemon on this machine."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from server.errors import TrackdError

app = typer.Typer(help="Measure a real daemon on this machine.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure a real daemon on this machine."""


@app.command("ingest")
def ingest(
    events: Annotated[int, typer.Option(min=1_000, help="Events to stream.")] = 1_000_000,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Events in a message.")] = 1_000,
    streams: Annotated[int, typer.Option(min=1, max=64, help="Streams at the same time.")] = 1,
    directory: Annotated[Path, typer.Option(help="Where to put the data meanwhile; a disk, not tmpfs.")] = Path(),
    seed: Annotated[int | None, typer.Option(help="Repeat the events of another run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Measure how fast events are taken, beside the limits of the disk and of gRPC.

    Starts a daemon in its own process on a fresh directory and streams prepared events to it over loopback. In the same
    run: the floor (the same rows appended straight through the database driver with the same durability), a gRPC server
    that does nothing, unary calls, and streams at half of the peak rate. Needs about 150 bytes of disk and memory an
    event, and takes about a minute for a million.
    """
    from server.bench.ingest import measure

    words = Console(stderr=True)
    chosen = secrets.randbits(32) if seed is None else seed
    try:
        with words.status("starting") as status:
            figures = measure(
                events=events, batch=batch, streams=streams, directory=directory, seed=chosen, say=status.update
            )
    except TrackdError as error:
        words.print(f"[red]{error.reason}[/red] {error}", highlight=False)
        raise typer.Exit(1) from error
    figures["seed"] = chosen
    if as_json:
        typer.echo(json.dumps(figures))
        return
    table = Table("figure", "value", title="trackd bench ingest")
    table.columns[1].justify = "right"
    for name, value in figures.items():
        shown = ", ".join(f"{one:,}" for one in value) if isinstance(value, list) else f"{value:,}"
        table.add_row(name, shown)
    Console().print(table)
