"""`trackd demo`: a real daemon, real events, and what it makes of them, in about ten seconds."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated

import trackd
import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from server.cli.bars import bar_table
from server.cli.child import ChildDaemon, ChildFailed
from server.cli.events import event_table
from server.cli.exit_codes import EXIT_FAILED
from server.cli.importing import git_log, review
from server.cli.importing.command import import_lines, progress
from server.cli.importing.loading import Account, Loading
from server.cli.moments import show_moment
from server.cli.sample import sample_events
from server.cli.terminal import AsJson, complain, connected, err, errors_reported, out, print_json, say

COMMITS_MAX = 10_000
READING_S = 2.5
"""Histories are read for this long at most, the newest commits first: the demo takes seconds in any repository."""
MONTHS_MAX = 120
"""Each month is a file of its own, with its own fsyncs: more of them would take longer than a demo may."""
EVENTS_A_SEND = 1_000
GIVE_UP_AFTER_S = 20.0
YOUNG_EVENTS = 1_000
"""A history with fewer events than this shows little; the sample goes along with it."""
MONTHS_SHOWN = 15
WIDE = 110
"""Columns from which tables stand side by side."""


def demo(
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="Events as for `trackd import`, instead of a git history."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Go on serving until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """See it work: start a daemon, stream events in, show what it stored, stop.

    The events are the git history around the current directory; where that is young or missing, a made-up one of
    pull-request reviews comes along. Everything happens in a temporary directory, which is removed at the end.

    Exit codes: 0 done, 1 something failed.
    """
    say("starting a daemon in a temporary directory ...", "dim")
    try:
        with _terminable(), ChildDaemon() as child:
            filled = _fill(child.addresses.grpc, file)
            with connected(child.addresses.grpc) as client:
                if as_json:
                    print_json(_report(client, filled) | {"grpc": client.target})
                else:
                    _show(client, filled)
                    _show_addresses(child, keep=keep)
            if keep:
                say("serving until Ctrl-C ...", "bold")
                child.wait()
                complain("the daemon has ended by itself")
                raise typer.Exit(EXIT_FAILED)
    except ChildFailed as error:
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from None
    except KeyboardInterrupt:
        if not keep:
            raise
    say("stopped; the temporary directory is gone", "dim")


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the demo like Ctrl-C does, so that the daemon goes with it."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True, slots=True)
class Filled:
    """What was streamed in: the account over all of it, where it came from, and the seconds that streaming took."""

    account: Account
    origins: list[str]
    seconds: float

    @property
    def events_per_second(self) -> float:
        """How fast events became durable, seen from the sender."""
        return self.account.events / max(self.seconds, 0.001)


def _fill(target: str, file: Path | None) -> Filled:
    """Streams the events in: those of a file, or what can be read of the history in a few seconds."""
    if file is not None:
        account = Account("lines")
        started = time.monotonic()
        import_lines(account, file, target, "file")
        return Filled(account, [f"{account.events:,} events from {file.name}"], time.monotonic() - started)
    origins = []
    sets = []
    history, origin = _history(Path.cwd())
    if history:
        sets.append(("git", history))
        origins.append(origin)
    if len(history) < YOUNG_EVENTS:
        sample = list(sample_events(time.time_ns() // 1_000_000))
        sets.append(("sample", sample))
        origins.append(f"{len(sample):,} made-up events of pull-request reviews (source sample)")
    account = Account("events")
    seconds = 0.0
    with errors_reported(target):
        for source, events in sets:
            events.sort(key=lambda event: event.timestamp_ms)
            seconds += _stream(target, source, events, account)
    return Filled(account, origins, seconds)


def _stream(target: str, source: str, events: list[trackd.Event], account: Account) -> float:
    part = Account("events", events=len(events))
    started = time.monotonic()
    with (
        progress(part, len(events)) as bar,
        Loading(target, source, part, give_up_after_s=GIVE_UP_AFTER_S) as loading,
    ):
        for at in range(0, len(events), EVENTS_A_SEND):
            loading.send(events[at : at + EVENTS_A_SEND])
            bar.update(bar.task_ids[0], completed=part.totals.answered, events=part.totals.answered)
        loading.finish()
    account.add(part)
    return time.monotonic() - started


def _history(path: Path) -> tuple[list[trackd.Event], str]:
    """The events of the newest commits around here, and where they are from; none where git finds no repository."""
    events: list[trackd.Event] = []
    read = 0
    try:
        name = git_log.repository_name(path)
        with err.status("reading the git history around here ..."):
            for commit in _in_time(git_log.read_commits(path, newest_first=True, commits_max=COMMITS_MAX)):
                events += review.events_of(commit, name)
                read += 1
            total = git_log.count_commits(path)
    except git_log.GitFailed:
        return [], ""
    newest = "" if read == total else "the newest "
    return events, f"{len(events):,} events from {newest}{_number(read, 'commit')} of the git history of {name}"


def _in_time(commits: Iterator[git_log.Commit]) -> Iterator[git_log.Commit]:
    until_s = time.monotonic() + READING_S
    months = set()
    for commit in commits:
        months.add(show_moment(commit.committed_s * 1_000)[:7])
        if len(months) > MONTHS_MAX:
            return
        yield commit
        if time.monotonic() > until_s:
            return


def _report(client: trackd.Client, filled: Filled) -> dict[str, object]:
    by_month, by_type = client.count_events(by=["month"]), client.count_events(by=["type"])
    return {
        "origins": filled.origins,
        "events": by_type.events,
        "rejected": filled.account.totals.rejected,
        "seconds": round(filled.seconds, 3),
        "events_per_second": round(filled.events_per_second),
        "by_month": [{"month": row.month, "events": row.events} for row in by_month.rows],
        "by_type": [{"type": row.type, "events": row.events} for row in by_type.rows],
    }


def _show(client: trackd.Client, filled: Filled) -> None:
    by_month, by_type = client.count_events(by=["month"]), client.count_events(by=["type"])
    users = len(client.count_events(by=["user"]).rows)
    out.print(Rule("[bold]trackd demo[/bold]", style="cyan"))
    for origin in filled.origins:
        out.print(f"  {origin}", highlight=False)
    what = f"[bold green]{by_type.events:,} events[/bold green] of {users:,} users"
    out.print(f"  {what} in {_number(len(by_month.rows), 'monthly table')}, each on disk exactly once", highlight=False)
    out.print(f"  streamed in at [bold]{filled.events_per_second:,.0f} events/s[/bold]", highlight=False)
    for reason, count in sorted(filled.account.reasons.items()):
        out.print(f"  [yellow]{count:,} refused: {reason}[/yellow]", highlight=False)
    out.print()
    out.print(_side_by_side(_months(by_month), _types(by_type)))
    out.print()
    out.print("[bold]The latest[/bold]")
    out.print(event_table(list(client.list_events_page(page_size=5).events)))
    out.print()


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _months(counts: trackd.CountEventsResponse) -> RenderableType:
    rows = [((row.month,), row.events) for row in counts.rows]
    cut = len(rows) - MONTHS_SHOWN if len(rows) > MONTHS_SHOWN + 1 else 0
    earlier, shown = rows[:cut], rows[cut:]
    table = bar_table(["month"], shown, title="By month", color="cyan")
    if not earlier:
        return table
    events = sum(count for _, count in earlier)
    more = f"before that {events:,} events in {len(earlier):,} months, since {earlier[0][0][0]}"
    return Group(table, Text(more, style="dim"))


def _types(counts: trackd.CountEventsResponse) -> RenderableType:
    rows = sorted((((row.type,), row.events) for row in counts.rows), key=lambda row: -row[1])
    return bar_table(["type"], rows[:MONTHS_SHOWN], title="By type", color="magenta")


def _side_by_side(left: RenderableType, right: RenderableType) -> RenderableType:
    """Two tables in one row where the terminal has room for it, else one below the other."""
    if out.width < WIDE:
        return Group(left, Text(), right)
    grid = Table.grid(expand=True, padding=0)
    grid.add_column(ratio=9)
    grid.add_column(ratio=11)
    grid.add_row(Padding(left, (0, 4, 0, 0)), right)
    return grid


def _program() -> str:
    """How to call this command again: by its name if that is on the PATH, else as it was called."""
    return "trackd" if shutil.which("trackd") else sys.argv[0]


def _show_addresses(child: ChildDaemon, *, keep: bool) -> None:
    grpc, metrics = child.addresses.grpc, child.addresses.metrics
    program = _program()
    if keep:
        lines = [
            f"gRPC     [bold]{grpc}[/bold]",
            f"metrics  [bold]http://{metrics}/metrics[/bold]",
            f"data     {child.data}",
            "",
            f"[cyan]{program} count --by type --by month --target {grpc}[/cyan]",
            f"[cyan]{program} events --type review_submitted --limit 5 --target {grpc}[/cyan]",
            f"[cyan]{program} import events.jsonl --target {grpc}[/cyan]",
        ]
        title = "connect"
    else:
        lines = [
            f"served gRPC on {grpc}, metrics on http://{metrics}/metrics",
            "",
            f"[cyan]{program} demo --keep[/cyan]           the same, to look around in",
            f"[cyan]{program} serve[/cyan]                 a daemon that stays, in ./trackd-data",
            f"[cyan]{program} import --git .[/cyan]        fill it with this history",
            f"[cyan]{program} count --by month[/cyan]      ask it",
        ]
        title = "next"
    out.print(
        Panel("\n".join(lines), title=title, title_align="left", border_style="cyan", expand=False), highlight=False
    )
