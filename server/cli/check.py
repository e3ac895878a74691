"""`trackd check`: looks over a data directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from server.storage.factory import check_data


def check(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The data directory (what `serve` has as --data).")],
    as_json: Annotated[
        bool, typer.Option("--json", help='Print {"findings": [{"where": ..., "problem": ...}]}.')
    ] = False,
) -> None:
    """Look over a data directory and say what is wrong with it. Changes nothing.

    Verifies every file, every row and how they fit together. Best on a directory that no daemon uses, since events that
    come in meanwhile can look like findings. Exit codes: 0 sound, 1 findings, 2 not a data directory.
    """
    words = Console(stderr=True, soft_wrap=True)
    if not (directory / "catalog.db").is_file() and not (directory / "months").is_dir():
        words.print(f"[red]NOT_FOUND[/red] {directory} is not a data directory of trackd", highlight=False)
        raise typer.Exit(2)
    with words.status(f"checking {directory}"):
        findings = check_data(directory)
    if as_json:
        typer.echo(json.dumps({"findings": [{"where": one.where, "problem": one.problem} for one in findings]}))
    for one in findings if not as_json else ():
        typer.echo(f"{one.where}: {one.problem}")
    if not findings:
        words.print(f"[green]sound[/green] {directory}", highlight=False)
    raise typer.Exit(1 if findings else 0)
