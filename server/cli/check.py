"""`trackd check`: looks over a data directory."""

from __future__ import annotations

import typer


def check() -> None:
    """Check a data directory."""
    raise typer.Exit(1)
