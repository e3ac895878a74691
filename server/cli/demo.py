"""`trackd demo`: a real daemon, real events, and what it makes of them, in about ten seconds."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
from server.cli.importing import git_log
from server.cli.importing.command import import_commits, import_lines
from server.cli.importing.loading import Account, Loading
from server.cli.sample import sample_events
from server.cli.terminal import EXIT_FAILED, AsJson, complain, connected, errors_reported, out, print_json, say

COMMITS_MAX = 20_000
READING_S = 4.0
"""Histories are read for this long at most, the newest commits first: the demo takes seconds in any repository."""
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
            account, origins, seconds = _fill(child.addresses.grpc, file)
            with connected(child.addresses.grpc) as client:
                if as_json:
                    print_json(_report(client, account, origins, seconds) | {"grpc": client.target})
                else:
                    _show(client, account, origins, seconds)
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

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fill(target: str, file: Path | None) -> tuple[Account, list[str], float]:
    """Streams the events in. Returns the account, where they came from, and the seconds it took."""
    started = time.monotonic()
    if file is not None:
        account = Account("lines")
        import_lines(account, file, target, "file")
        return account, [f"{account.events:,} events from {file.name}"], time.monotonic() - started
    account = Account("commits")
    origins = []
    here = Path.cwd()
    try:
        name = git_log.repository_name(here)
        commits = _in_time(git_log.read_commits(here, newest_first=True, commits_max=COMMITS_MAX))
        import_commits(account, here, target, "git", commits=commits)
        if account.events:
            origins.append(
                f"{account.events:,} events from {_number(account.read, 'commit')} of the git history of {name}"
            )
    except git_log.GitFailed:
        pass
    if account.events < YOUNG_EVENTS:
        sample = Account("events")
        with errors_reported(target), Loading(target, "sample", sample, give_up_after_s=20.0) as loading:
            events = list(sample_events(time.time_ns() // 1_000_000))
            sample.events = len(events)
            loading.send(events)
            loading.finish()
        origins.append(f"{sample.events:,} made-up events of pull-request reviews (source sample)")
        account = _together(account, sample)
    return account, origins, time.monotonic() - started


def _in_time(commits: Iterator[git_log.Commit]) -> Iterator[git_log.Commit]:
    until_s = time.monotonic() + READING_S
    for commit in commits:
        yield commit
        if time.monotonic() > until_s:
            return


def _together(one: Account, other: Account) -> Account:
    totals = trackd.Totals(
        one.totals.accepted + other.totals.accepted,
        one.totals.duplicate + other.totals.duplicate,
        one.totals.rejected + other.totals.rejected,
    )
    return Account(
        one.unit,
        read=one.read,
        events=one.events + other.events,
        totals=totals,
        problems=one.problems + other.problems,
        reasons=one.reasons | other.reasons,
    )


def _report(client: trackd.Client, account: Account, origins: list[str], seconds: float) -> dict[str, object]:
    by_month, by_type = client.count_events(by=["month"]), client.count_events(by=["type"])
    return {
        "origins": origins,
        "events": by_type.events,
        "rejected": account.totals.rejected,
        "seconds": round(seconds, 3),
        "events_per_second": round(account.events / seconds),
        "by_month": [{"month": row.month, "events": row.events} for row in by_month.rows],
        "by_type": [{"type": row.type, "events": row.events} for row in by_type.rows],
    }


def _show(client: trackd.Client, account: Account, origins: list[str], seconds: float) -> None:
    by_month, by_type = client.count_events(by=["month"]), client.count_events(by=["type"])
    users = len(client.count_events(by=["user"]).rows)
    out.print(Rule("[bold]trackd demo[/bold]", style="cyan"))
    for origin in origins:
        out.print(f"  {origin}", highlight=False)
    what = f"[bold green]{by_type.events:,} events[/bold green] of {users:,} users"
    out.print(f"  {what} in {_number(len(by_month.rows), 'monthly table')}, each on disk exactly once", highlight=False)
    out.print(f"  [bold]{account.events / seconds:,.0f} events/s[/bold], reading them included", highlight=False)
    for reason, count in sorted(account.reasons.items()):
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


def _show_addresses(child: ChildDaemon, *, keep: bool) -> None:
    grpc, metrics = child.addresses.grpc, child.addresses.metrics
    if keep:
        lines = [
            f"gRPC     [bold]{grpc}[/bold]",
            f"metrics  [bold]http://{metrics}/metrics[/bold]",
            f"data     {child.data}",
            "",
            f"[cyan]trackd count --by type --by month --target {grpc}[/cyan]",
            f"[cyan]trackd events --type review_submitted --limit 5 --target {grpc}[/cyan]",
            f"[cyan]trackd import events.jsonl --target {grpc}[/cyan]",
        ]
        title = "connect"
    else:
        lines = [
            f"served gRPC on {grpc}, metrics on http://{metrics}/metrics",
            "",
            "[cyan]trackd demo --keep[/cyan]           the same, to look around in",
            "[cyan]trackd serve[/cyan]                 a daemon that stays, in ./trackd-data",
            "[cyan]trackd import --git .[/cyan]        fill it with this history",
            "[cyan]trackd count --by month[/cyan]      ask it",
        ]
        title = "next"
    out.print(
        Panel("\n".join(lines), title=title, title_align="left", border_style="cyan", expand=False), highlight=False
    )
