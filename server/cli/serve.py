"""`trackd serve`: the daemon in the foreground."""

from __future__ import annotations

import typer


def serve() -> None:
    """Run the daemon."""
    raise typer.Exit(1)
