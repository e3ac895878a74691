"""`trackd import`: reads a file or a repository, sends it, and says what became of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import trackd
import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from server.cli.exit_codes import EXIT_FAILED
from server.cli.importing import git_log, jsonl, review
from server.cli.importing.identity import Ordinals
from server.cli.importing.lines import LINE_BYTES_MAX, LineReader, Unreadable
from server.cli.importing.loading import Account, Loading, Places, Problem
from server.cli.terminal import (
    AsJson,
    Target,
    complain,
    connected,
    err,
    errors_reported,
    out,
    print_json,
    say,
    talks_to_a_daemon,
    wait_for_daemon,
)

COMMITS_A_SEND = 200


@talks_to_a_daemon
def import_(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Events, one JSON object a line; gzip is recognised.")
    ] = None,
    git: Annotated[
        Path | None,
        typer.Option("--git", metavar="PATH", help="Instead of a file: the history of this git repository."),
    ] = None,
    target: Target = trackd.DEFAULT_TARGET,
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="NAME", help="Who sends: import or git, unless said.", show_default=False),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad line or rejected event.")] = False,
    give_up_after: Annotated[
        float,
        typer.Option("--give-up-after", metavar="SECONDS", min=0.1, help="How long to wait for a daemon that is gone."),
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Import events, each stored once: importing the same again stores nothing new.

    A line of FILE has the names of the wire contract (id, type, userId, timestampMs, sessionId, clientIp, description,
    tags, metadata, change; also in snake_case) or the short ones ts, type, user, tags, data. Any other key is refused
    by name. A bad line is reported and does not stop the rest. Lines without an id get one made from their content, so
    that they are recognised when they come again.

    --git turns commits into events: change_authored, change_landed, pr_merged, issue_closed, and one for each trailer
    such as Reviewed-by or Signed-off-by.

    A daemon that is killed and started again in the middle is waited for; nothing is lost and nothing stored twice.

    Exit codes: 0 everything is stored, 1 some lines or events are not, 2 no daemon answers (or wrong usage).
    """
    if (file is None) == (git is None):
        raise typer.BadParameter("give either FILE or --git PATH")
    with connected(target, timeout_s=5.0) as client:
        wait_for_daemon(client)
    started = time.monotonic()
    if file is not None:
        account = Account("lines")
        import_lines(account, file, target, source or "import", strict=strict, give_up_after_s=give_up_after)
    elif git is not None:
        account = Account("commits")
        import_commits(account, git, target, source or "git", strict=strict, give_up_after_s=give_up_after)
    account.seconds = time.monotonic() - started
    show(account, as_json=as_json)
    if not account.clean:
        raise typer.Exit(EXIT_FAILED)


def import_lines(
    account: Account, file: Path, target: str, source: str, *, strict: bool = False, give_up_after_s: float = 60.0
) -> None:
    """Sends the events of a file. Ends the command where the file cannot be read on or the daemon is gone for good."""
    ordinals, places = Ordinals(), Places()
    with (
        _ending_well(account, target),
        LineReader(file) as reader,
        progress(account, reader.size) as bar,
        Loading(target, source, account, give_up_after_s=give_up_after_s) as loading,
    ):
        loading.places = places
        try:
            for block in reader.blocks():
                loading.send(_events_in(block, account, ordinals, places, strict=strict))
                bar.update(bar.task_ids[0], completed=reader.bytes_read, events=account.events)
                if strict and account.problems:
                    break
        except Unreadable:
            # What came before the damage is good and gets its answers before the damage is reported.
            loading.finish()
            raise
        loading.finish()


def _events_in(
    block: list[bytes | None], account: Account, ordinals: Ordinals, places: Places, *, strict: bool
) -> Iterator[trackd.Event]:
    for line in block:
        account.read += 1
        if line is not None and (not line or line.isspace()):
            continue
        try:
            if line is None:
                raise jsonl.BadLine(f"longer than {LINE_BYTES_MAX:,} bytes")
            event = jsonl.parse(line, ordinals)
        except jsonl.BadLine as bad:
            account.bad += 1
            account.trouble(Problem(f"line {account.read}", "BAD_LINE", str(bad)))
            if strict:
                return
            continue
        places.note(account.events, account.read)
        account.events += 1
        yield event


def import_commits(
    account: Account,
    path: Path,
    target: str,
    source: str,
    *,
    strict: bool = False,
    give_up_after_s: float = 60.0,
) -> None:
    """Sends what a repository's history tells. Everything that HEAD reaches, oldest first."""
    with _ending_well(account, target):
        name = git_log.repository_name(path)
        total = git_log.count_commits(path)
        with (
            progress(account, total) as bar,
            Loading(target, source, account, give_up_after_s=give_up_after_s) as loading,
        ):
            for commit in git_log.read_commits(path):
                account.read += 1
                events = list(review.events_of(commit, name))
                account.events += len(events)
                loading.send(events)
                if account.read % COMMITS_A_SEND == 0:
                    bar.update(bar.task_ids[0], completed=account.read, events=account.events)
                if strict and account.problems:
                    break
            loading.finish()


@contextmanager
def _ending_well(account: Account, target: str) -> Iterator[None]:
    """Reports what ends an import early, with the account of what was done until then."""
    with errors_reported(target):
        try:
            yield
        except (Unreadable, git_log.GitFailed) as error:
            _explain(account)
            if account.events:
                say(f"before that: {account.verdict()}")
            complain(str(error))
            raise typer.Exit(EXIT_FAILED) from None
        except trackd.GaveUp:
            _explain(account)
            say(f"until then: {account.verdict()}; importing again goes on where this ended")
            raise


@contextmanager
def progress(account: Account, total: int) -> Iterator[Progress]:
    """A bar on standard error with one task, up to `total` bytes or commits; nothing where that is no terminal."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[events]:,} events"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("importing", total=total, events=0)
        yield bar
        bar.update(task, completed=total, events=account.events)


def show(account: Account, *, as_json: bool) -> None:
    """Prints what an import did."""
    totals = account.totals
    rate = account.events / account.seconds if account.seconds else 0.0
    _explain(account)
    if as_json:
        print_json(
            {
                account.unit: account.read,
                "events": account.events,
                "accepted": totals.accepted,
                "duplicate": totals.duplicate,
                "rejected": totals.rejected,
                "bad": account.bad,
                "nothing_new": account.nothing_new,
                "seconds": round(account.seconds, 3),
                "events_per_second": round(rate),
                "reasons": account.reasons,
                "problems": [
                    {"where": problem.where, "reason": problem.reason, "message": problem.message}
                    for problem in account.problems
                ],
                "message": account.verdict(),
            }
        )
        say(account.verdict())
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    rows = [(f"{account.unit} read", account.read), ("events", account.events), ("stored now", totals.accepted)]
    rows += [("stored already", totals.duplicate), ("rejected", totals.rejected)]
    rows += [(f"bad {account.unit}", account.bad)] if account.unit == "lines" else []
    for name, count in rows:
        table.add_row(name, f"{count:,}", style="bold red" if count and name in ("rejected", "bad lines") else None)
    table.add_row("seconds", f"{account.seconds:,.1f}")
    table.add_row("events a second", f"{rate:,.0f}")
    out.print(table)
    out.print(f"[bold]{account.verdict()}[/bold]", highlight=False, soft_wrap=True)


def _explain(account: Account) -> None:
    """The first problems and the sum of all, on standard error."""
    for problem in account.problems:
        say(str(problem), "red")
    more = sum(account.reasons.values()) - len(account.problems)
    if more > 0:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(account.reasons.items()))
        say(f"... and {more:,} more problems (altogether {reasons})", "red")
