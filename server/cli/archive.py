"""`trackd archive`: looks at archives, verifies and restores them. Works on a target itself; no daemon is needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from server.archive import extra
from server.cli.lines import show_number
from server.cli.terminal import AsJson, complain, err, harmless, out, print_json, say
from server.errors import Corrupt, TrackdError

if TYPE_CHECKING:
    from server.archive.folders import Folder
    from server.archive.manifest import Manifest
    from server.archive.restoring import Restored

EXIT_FINDINGS = 1
EXIT_UNUSABLE = 2
EXIT_CODES = "Exit codes: 0 sound, 1 something is damaged, 2 no such archive or target (or wrong usage)."
DAY_MS = 86_400_000
TYPES_SHOWN = 3

app = typer.Typer(
    help="Look at archives, verify them, restore months from them. Needs no daemon.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="The folder that has `archive` in it, or a URL of one that fsspec knows (s3://bucket/prefix).",
    ),
]


@app.command("list", epilog=EXIT_CODES)
def list_(target: Target, as_json: AsJson = False) -> None:
    """List the archives at a target: month, rows, size, types, and whether they still have all they were made with."""
    with _reported():
        from server.archive import manifest

        found, findings = manifest.listed(_open(target))
        if as_json:
            print_json(
                {
                    "archives": [_told(one) for one in found],
                    "findings": [{"where": one.where, "problem": one.problem} for one in findings],
                }
            )
        else:
            _show(found)
            for finding in findings:
                complain(f"{finding.where}: {finding.problem}")
        if findings:
            raise typer.Exit(EXIT_FINDINGS)


@app.command("verify", epilog=EXIT_CODES)
def verify(
    target: Target,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Which ones; all by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read archives whole and compare them with their manifests: every part, its SHA-256, and the digest of its rows.

    Finds what is missing, cut off, changed or exchanged. With all archives also what belongs to none of them. Changes
    nothing.
    """
    with _reported():
        from server.archive import manifest, verifying

        folder = _open(target)
        found, findings = manifest.listed(folder) if not names else ([manifest.load(folder, one) for one in names], [])
        with _progress("verifying", sum(one.rows for one in found)) as heard:
            done = 0
            for one in found:
                findings += verifying.verify(folder, one, partial(_further, heard, done))
                done += one.rows
        strays = manifest.strays(folder, found) if not names and not findings else []
        if as_json:
            told = [{"where": one.where, "problem": one.problem} for one in findings]
            print_json({"verified": [one.name for one in found], "findings": told, "strays": strays})
        for finding in findings if not as_json else ():
            typer.echo(harmless(f"{finding.where}: {finding.problem}"))
        for path in strays if not as_json else ():
            say(f"belongs to no archive: {harmless(path)}", "yellow")
        if strays and not as_json:
            say("what runs that were killed left is removed by `trackd archive tidy`")
        if findings:
            raise typer.Exit(EXIT_FINDINGS)
        say(f"sound: {len(found)} archives, {show_number(sum(one.rows for one in found))} rows", "green")


@app.command("tidy", epilog=EXIT_CODES)
def tidy(target: Target, as_json: AsJson = False) -> None:
    """Remove what runs that were killed left at a target, and no archive needs.

    The next run that archives the same rows removes it by itself; this is for when there will be none. Not while any
    trackd archives to this target: what that one is writing would be removed as well. Archives are never touched.
    """
    with _reported():
        from server.archive import drafts

        removed = drafts.sweep_all(_open(target))
        if as_json:
            print_json({"removed": removed})
        else:
            say(f"removed what {len(removed)} attempts left" if removed else "nothing was left over", "green")


@app.command("restore", epilog=EXIT_CODES)
def restore(
    target: Target,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `list` shows it.")],
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="Where the SQLite file is put.")],
    days: Annotated[int, typer.Option("--days", min=1, help="For how long it may be kept.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Make a SQLite file of an archive, of the shape of a sealed month, that any SQLite tool opens.

    Its rows are compared with the archive before it gets its name. It says in itself when it expires. In DATA/restored
    the daemon removes it then; elsewhere `trackd archive restored DIR --expire` does.
    """
    with _reported():
        from server.archive import manifest, restoring

        folder = _open(target)
        found = manifest.load(folder, name)
        now_ms = time.time_ns() // 1_000_000
        with _progress("restoring", found.rows) as heard:
            made = restoring.restore(folder, found, into, now_ms=now_ms, expires_ms=now_ms + days * DAY_MS, heard=heard)
        if as_json:
            print_json(_told_restored(made))
        else:
            typer.echo(str(made.path))
            say(f"{show_number(made.rows)} rows, to be kept until {_date(made.expires_ms)}", "green")


@app.command("restored", epilog=EXIT_CODES)
def restored(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What `restore` had as --into.")],
    expire: Annotated[bool, typer.Option("--expire", help="Remove those whose time has come.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the restored months of a directory and when they expire; with --expire remove what is due."""
    with _reported():
        from server.archive import restoring

        removed = restoring.expire(directory, time.time_ns() // 1_000_000) if expire else []
        found = restoring.restored(directory)
        if as_json:
            told = {"restored": found, "removed": removed}
            print_json({key: [_told_restored(one) for one in these] for key, these in told.items()})
            return
        table = _table("month", "rows", "size", "expires", "file")
        for one in found:
            table.add_row(
                str(one.month), show_number(one.rows), decimal(one.bytes), _date(one.expires_ms), str(one.path)
            )
        out.print(table)
        for one in removed:
            say(f"removed {one.path}", "yellow")


def _open(target: str) -> Folder:
    """The target; ends the command if there is no such folder: an empty list would look as if all were well."""
    from server.archive.folders import open_folder

    if "://" not in target and not Path(target).is_dir():
        complain(f"{target} is no folder; name the one that has archive in it")
        raise typer.Exit(EXIT_UNUSABLE)
    return open_folder(target)


@contextmanager
def _reported() -> Iterator[None]:
    """Turns errors into one line and an exit code."""
    try:
        extra.require("pyarrow")
        yield
    except TrackdError as error:
        complain(str(error))
        raise typer.Exit(EXIT_FINDINGS if isinstance(error, Corrupt) else EXIT_UNUSABLE) from None


@contextmanager
def _progress(what: str, rows: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, if that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(what, total=rows)
        yield lambda done: progress.update(task, completed=done)


def _further(heard: Callable[[int], None], before: int, rows: int) -> None:
    heard(before + rows)


def _show(found: list[Manifest]) -> None:
    if not found:
        say("no archives")
        return
    table = _table("month", "rows", "size", "kept", "name", "types")
    for one in found:
        table.add_row(
            one.month,
            show_number(one.rows),
            decimal(one.stored_bytes),
            "all" if one.whole else "held rows",
            one.name,
            Text(_types(one)),
        )
    out.print(table)


def _types(one: Manifest) -> str:
    names = sorted({counted.type for counted in one.counts})
    more = f" and {len(names) - TYPES_SHOWN} more" if len(names) > TYPES_SHOWN else ""
    return harmless(", ".join(names[:TYPES_SHOWN]) + more)


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        number = name in ("rows", "size")
        long = name in ("types", "file")
        table.add_column(name, justify="right" if number else "left", no_wrap=not long, overflow="fold")
    return table


def _told(one: Manifest) -> dict[str, Any]:
    return {
        "name": one.name,
        "month": one.month,
        "rows": one.rows,
        "bytes": one.stored_bytes,
        "counts": [{"type": each.type, "form": each.form, "rows": each.rows} for each in one.counts],
        "whole": one.whole,
        "anonymous": one.anonymous,
        "content_digest": one.content_digest,
        "created_ms": one.created_ms,
        "plan_id": one.plan_id,
        "parts": len(one.parts),
    }


def _told_restored(one: Restored) -> dict[str, Any]:
    return {
        "name": one.name,
        "month": str(one.month),
        "rows": one.rows,
        "bytes": one.bytes,
        "path": str(one.path),
        "created_ms": one.created_ms,
        "expires_ms": one.expires_ms,
    }


def _date(instant_ms: int) -> str:
    return datetime.fromtimestamp(instant_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
