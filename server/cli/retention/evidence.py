"""`trackd retention history` and `verify`: the chain of evidence, to read and to check."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from retention.chain import EMPTY, Head, Record
from retention.chain import verify as findings_of
from server.cli.exit_codes import EXIT_FAILED
from server.cli.lines import show_number
from server.cli.retention.reach import Target, Timeout, connected
from server.cli.retention.showing import minute, table
from server.cli.terminal import AsJson, complain, harmless, out, print_json, say

VERIFY_EXIT_CODES = (
    "Exit codes: 0 the chain is whole, 1 it is not (or it was refused), 64 wrong usage, 69 no daemon answers."
)
RUNS = ("apply", "applied")
"""Records of a run as a whole, around those of its actions."""
_KNOWN = re.compile(r"(\d{1,18}):([0-9a-f]{64})")


def history(
    month: Annotated[str | None, typer.Option("--month", metavar="MONTH", help="Only of this month.")] = None,
    class_name: Annotated[str | None, typer.Option("--class", metavar="NAME", help="Only of this class.")] = None,
    last: Annotated[int, typer.Option("--last", metavar="N", min=0, help="Only the last N; 0: all.")] = 0,
    target: Target = None,
    timeout: Timeout = 600.0,
    as_json: AsJson = False,
) -> None:
    """Show what was done, record by record, oldest first: when, by whom, to which class and month, how many events.

    With --json the records as they are stored, one a line: all of them, kept as a file, are what `verify` checks
    anywhere. There are no names of people in them.
    """
    with connected(target, timeout) as client:
        lines = list(client.retention.evidence())
    chosen = [line for line in lines if _about(line, month, class_name)]
    chosen = chosen[-last:] if last else chosen
    if as_json:
        for line in chosen:
            print(line)
    elif chosen:
        _show(chosen)
    else:
        say("nothing is on record" + (" of that" if lines else ""))


def verify(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Lines of `history --json`; without it, those of a daemon.")
    ] = None,
    known: Annotated[
        str | None,
        typer.Option("--known", metavar="SEQUENCE:DIGEST", help="The last record that you know of, kept elsewhere."),
    ] = None,
    receipt: Annotated[
        Path | None, typer.Option("--receipt", metavar="FILE", help="The same, out of a receipt that you kept.")
    ] = None,
    target: Target = None,
    timeout: Timeout = 600.0,
    as_json: AsJson = False,
) -> None:
    """Check the chain of evidence, from its first record: each carries the digest of the one before.

    A record that was changed, taken out or put elsewhere is found. That the end was cut off, or the whole written anew,
    shows only against something kept elsewhere: `--known` from `status`, or a receipt. With a file no daemon is needed.
    """
    head = _known(known, receipt)
    if file:
        lines = _lines_of(file)
    else:
        with connected(target, timeout) as client:
            lines = [line.encode() for line in client.retention.evidence()]
    found = findings_of(lines, head)
    if as_json:
        told = [{"damage": str(one.damage), "sequence": one.sequence, "problem": one.problem} for one in found]
        print_json({"records": len(lines), "known": head.sequence or None, "findings": told})
    for one in found if not as_json else ():
        typer.echo(harmless(f"{one.damage}: {one.problem}"))
    if found:
        raise typer.Exit(EXIT_FAILED)
    if head.sequence:
        say(f"whole: {len(lines):,} records, and record {head.sequence} is the one that is known", "green")
    else:
        say(f"whole: {len(lines):,} records; whether the end was cut off shows only with --known or --receipt", "green")


def _about(line: str, month: str | None, class_name: str | None) -> bool:
    if month is None and class_name is None:
        return True
    try:
        deed = Record.parse(line.encode()).deed
    except ValueError:
        return True  # nobody knows what it was about
    return (month is None or deed.month == month) and (class_name is None or deed.class_name == class_name)


def _show(lines: Iterable[str]) -> None:
    shown = table("#", "time (UTC)", "by", "what", "month's events", "plan", long=("what",))
    for line in lines:
        try:
            record = Record.parse(line.encode())
        except ValueError:
            shown.add_row("?", "", "", Text("damaged: see verify", style="bold red"))
            continue
        deed = record.deed
        what = Text(" ".join(filter(None, (deed.action.replace("_", " "), deed.month, deed.class_name))))
        if deed.action in RUNS:
            what.stylize("dim")
        for code, count in deed.withheld:
            what.append(f"\n{code}: {show_number(count)} withheld" if count else f" {code}", style="magenta")
        same = deed.rows_before == deed.rows_after
        rows = show_number(deed.rows_after) if same else f"{deed.rows_before:,} → {deed.rows_after:,}"
        plan_id = deed.plan_id[:12] if deed.plan_id.strip("0") else ""
        shown.add_row(str(record.sequence), minute(deed.time_ms), deed.actor, what, rows if deed.month else "", plan_id)
    out.print(shown)


def _known(known: str | None, receipt: Path | None) -> Head:
    if known and receipt:
        raise typer.BadParameter("give --known or --receipt")
    if known:
        read = _KNOWN.fullmatch(known.strip())
        if read is None:
            raise typer.BadParameter("--known wants SEQUENCE:DIGEST, as `trackd retention status` shows it")
        return Head(int(read[1]), read[2])
    if receipt is None:
        return EMPTY
    try:
        evidence = json.loads(receipt.read_bytes())["evidence"]
        return Head(int(evidence["sequence"]), str(evidence["digest"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no receipt"
        raise typer.BadParameter(f"{receipt}: {reason}") from None


def _lines_of(file: Path) -> list[bytes]:
    try:
        return file.read_bytes().splitlines()
    except OSError as error:
        complain(f"{file}: {error.strerror}; make one with: trackd retention history --json > {file}")
        raise typer.Exit(EXIT_FAILED) from None
