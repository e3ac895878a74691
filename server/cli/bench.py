"""`trackd bench`: measures a real daemon on this machine."""

from __future__ import annotations

import typer

app = typer.Typer(help="Measure a real daemon on this machine.", no_args_is_help=True)


@app.command("ingest")
def ingest() -> None:
    """Measure how fast events are taken."""
    raise typer.Exit(1)
