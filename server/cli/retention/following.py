"""Jobs while they run, with a bar for each action, and receipts when they have ended."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trackd
import typer
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from trackd.retention import RetentionJob, state_of

from retention.plan import ExitCode
from server.cli.exit_codes import EXIT_FAILED
from server.cli.lines import show_number
from server.cli.retention.showing import counted, minute, show_line
from server.cli.terminal import complain, err, harmless, say

EXIT_LEFT = 130
"""As of whatever Ctrl-C ends."""
RUNNING = "running"
SHOWN = 20
"""Actions that did not go well, at most: the receipt has all."""
MARKS = {"done": "green", "failed": "bold red", "blocked": "magenta", "waiting": "yellow", "stopped": "yellow"}


def follow(client: trackd.Client, job: RetentionJob) -> RetentionJob:
    """Watches a job until it has ended, and returns it then. Ctrl-C leaves it: it goes on, and the command ends."""
    try:
        with _bars() as bars:
            for now in client.retention.watch(job.number):
                job = now
                bars.show(now)
    except KeyboardInterrupt:
        say(f"job {job.number} goes on; trackd retention watch {job.number} comes back to it, cancel ends it", "yellow")
        raise typer.Exit(EXIT_LEFT) from None
    return job


class _Bars:
    """One bar for the run, one for the action that is under way, and a line for each that is over."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._run: TaskID | None = None
        self._action: TaskID | None = None
        self._number = 0

    def show(self, job: RetentionJob) -> None:
        """Where the job is now."""
        if not job.actions:
            return
        if self._run is None:
            self._run = self._progress.add_task("all of it", total=job.actions)
        if job.action != self._number:
            if self._action is not None:
                self._progress.remove_task(self._action)
            self._number = job.action
            self._action = self._progress.add_task(harmless(job.what), total=max(job.of_rows, 1))
        if self._action is not None:
            self._progress.update(self._action, completed=job.rows)
        ended = state_of(job) == "done"
        self._progress.update(self._run, completed=job.actions if ended else job.action - 1)


@contextmanager
def _bars() -> Iterator[_Bars]:
    """On standard error, if that is a terminal."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        yield _Bars(progress)


def show_end(job: RetentionJob, *, as_json: bool, with_nothing: bool = True) -> int:
    """Says how a job has ended, also (`with_nothing`) one that had nothing to do; the exit code of the command."""
    if not job.receipt:
        complain(f"{job.reason or 'FAILED'}: {job.problem or 'the job ended without a receipt'}")
        return int(ExitCode.STALE) if job.reason == "PLAN_STALE" else EXIT_FAILED
    receipt = json.loads(job.receipt)
    if as_json:
        print(job.receipt)
    elif receipt["results"] or with_nothing:
        show_receipt(receipt)
    return 0 if all(one["status"] == "done" for one in receipt["results"]) else EXIT_FAILED


def show_receipt(receipt: dict[str, Any]) -> None:
    """What a run did, for people: what was not done one by one, what was done in sums."""
    results = receipt["results"]
    statuses = Counter(one["status"] for one in results)
    seconds = (receipt["ended_ms"] - receipt["started_ms"]) / 1000
    for line in _sums([one for one in results if one["status"] == "done"]):
        show_line(line, MARKS["done"])
    undone = [one for one in results if one["status"] != "done"]
    for one in undone[:SHOWN]:
        why = " ".join(filter(None, (one["reason"], one["problem"])))
        what = f"{one['month']} {one['action'].replace('_', ' ')} {one['class']}".rstrip()
        show_line(f"{one['status']} {what}{': ' if why else ''}{why}", MARKS.get(one["status"], ""))
    if len(undone) > SHOWN:
        show_line(f"and {counted(len(undone) - SHOWN, 'action')} more that were not done; the receipt has them")
    for code, rows in sorted(_withheld(results).items()):
        show_line(f"withheld by {code}: {counted(rows, 'event')}", "magenta")
    told = ", ".join(f"{show_number(count)} {status}" for status, count in sorted(statuses.items())) or "no action"
    when = f"at {minute(receipt['started_ms'])} UTC in {seconds:,.1f} s"
    say(f"plan {receipt['plan_id'][:12]} applied by {harmless(receipt['actor'])} {when}: {told}", "bold")
    say(f"evidence: {receipt['evidence']['sequence']}:{receipt['evidence']['digest']}", "dim")


def _sums(done: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each kind of action and class."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in done:
        groups.setdefault((one["action"], one["class"]), []).append(one)
    for (action, name), ones in groups.items():
        before, after = (sum(one["rows"][side] for one in ones) for side in (0, 1))
        months = len({one["month"] for one in ones})
        size = sum(one["bytes"][1] - one["bytes"][0] for one in ones)
        change = f", {show_number(before)} to {counted(after, 'event')}" if before != after else ""
        grown = f", {'+' if size > 0 else '-'}{decimal(abs(size))}" if size else ""
        yield f"done {action.replace('_', ' ')} {name}".rstrip() + f": {counted(months, 'month')}{change}{grown}"


def _withheld(results: list[dict[str, Any]]) -> Counter[str]:
    """Rows that holds kept, by code."""
    found: Counter[str] = Counter()
    for one in results:
        found.update(one.get("withheld", {}))
    return found
