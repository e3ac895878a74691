"""What people and programs get to see of a run: progress, log lines without payload, and the sum of it all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from server import logs
from server.cli.pulling.ledger import Counts, Refusal
from server.cli.pulling.streams import RedisAway
from server.cli.terminal import err, out, print_json, say

REFUSALS_TOLD = 10
"""Of each reason so many are told one by one; the rest is in the counts."""
COUNTS_EVERY_S = 60.0
SILENCE_S = 10.0
"""After so long without an answer it is said that the daemon is waited for."""


class LogLines:
    """Tells what happens as log lines. Of an entry they have its name and the reason, nothing that it holds."""

    def __init__(self, *, dead_letter: str | None) -> None:
        self._log = structlog.get_logger()
        self._kept = "dead letter" if dead_letter else "pending"
        self._told: Counter[str] = Counter()

    def refused(self, refusal: Refusal) -> None:
        """The first of each reason."""
        self._told[refusal.reason] += 1
        if self._told[refusal.reason] > REFUSALS_TOLD:
            return
        entry = refusal.entry
        self._log.warning(
            "entry_refused",
            stream=entry.stream,
            entry=entry.id,
            why=refusal.why,
            kept=self._kept,
            reason=refusal.reason,
        )

    def redis_away(self, error: RedisAway) -> None:
        """Once an outage."""
        self._log.warning("redis_away", error=str(error))

    def redis_back(self) -> None:
        """It goes on."""
        self._log.info("redis_back")

    def begun(self, **about: Any) -> None:
        """What is pulled from where to where."""
        self._log.info("pulling", **about)

    def counts(self, counts: Counts) -> None:
        """The account so far."""
        self._log.info("pulled", **numbers(counts))

    def silence(self, unanswered: int) -> None:
        """Nothing comes back from the daemon."""
        self._log.warning("waiting_for_the_daemon", unanswered=unanswered)

    def answers(self) -> None:
        """It does again."""
        self._log.info("the_daemon_answers")


def numbers(counts: Counts) -> dict[str, Any]:
    """The account as it is logged and printed."""
    return {
        "read": counts.read,
        "stored": counts.stored,
        "duplicate": counts.duplicate,
        "refused": counts.refused.total(),
        "parked": counts.parked,
        "deferred": counts.deferred,
        "trimmed": counts.trimmed,
        "claimed": counts.claimed,
        "acknowledged": counts.acknowledged,
        "reasons": dict(counts.refused),
    }


def verdict(counts: Counts) -> str:
    """The result in a sentence."""
    parts = [f"{counts.stored:,} {'event' if counts.stored == 1 else 'events'} stored"]
    if counts.duplicate:
        parts.append(f"{counts.duplicate:,} were stored already")
    if dead := counts.refused.total() - counts.parked:
        parts.append(f"{dead:,} refused and copied to the dead-letter stream")
    if counts.parked:
        parts.append(f"{counts.parked:,} refused, which stay pending")
    if counts.deferred:
        parts.append(f"{counts.deferred:,} put off, which stay pending")
    if counts.trimmed:
        parts.append(f"{counts.trimmed:,} were deleted from the stream before they were read")
    return ", ".join(parts)


def result(counts: Counts, seconds: float, about: dict[str, Any] | None) -> None:
    """The account on standard output: a table, or one line of JSON with what `about` says of the run."""
    rate = counts.read / seconds if seconds else 0.0
    if about is not None:
        took = {"seconds": round(seconds, 3), "entries_per_second": round(rate)}
        print_json({**about, **numbers(counts), **took, "message": verdict(counts)})
        say(verdict(counts))
        return
    shown = Table(box=None, pad_edge=False, show_header=False)
    shown.add_column()
    shown.add_column(justify="right")
    rows = [("entries read", counts.read), ("stored now", counts.stored), ("stored already", counts.duplicate)]
    rows += [(f"refused: {reason}", count) for reason, count in sorted(counts.refused.items())]
    rows += [("put off", counts.deferred)] if counts.deferred else []
    rows += [("deleted before", counts.trimmed)] if counts.trimmed else []
    rows += [("acknowledged", counts.acknowledged)]
    for name, count in rows:
        bad = count and name.startswith(("refused", "put off", "deleted"))
        shown.add_row(name, f"{count:,}", style="bold red" if bad else None)
    shown.add_row("seconds", f"{seconds:,.1f}")
    shown.add_row("entries a second", f"{rate:,.0f}")
    out.print(shown)
    out.print(f"[bold]{verdict(counts)}[/bold]", highlight=False, soft_wrap=True)


class Watch:
    """Looks at the account again and again, and tells what time alone shows."""

    def __init__(self, bar: Progress, lines: LogLines, clock: Callable[[], float] = time.monotonic) -> None:
        self._bar = bar
        self._lines = lines
        self._clock = clock
        self._settled = -1
        self._settled_at_s = clock()
        self._silent = False
        self._told_at_s = clock()
        self._told: dict[str, Any] = {}

    def look(self, counts: Counts) -> None:
        """To be called some times a second."""
        now_s = self._clock()
        if counts.settled != self._settled or counts.read == counts.settled:
            self._settled, self._settled_at_s = counts.settled, now_s
            if self._silent:
                self._lines.answers()
            self._silent = False
        elif not self._silent and now_s - self._settled_at_s >= SILENCE_S:
            self._silent = True
            self._lines.silence(counts.read - counts.settled)
        if self._bar.disable:
            if now_s - self._told_at_s >= COUNTS_EVERY_S and numbers(counts) != self._told:
                self._told, self._told_at_s = numbers(counts), now_s
                self._lines.counts(counts)
        else:
            task = self._bar.tasks[0]
            self._bar.update(task.id, completed=counts.read, words=verdict(counts), rate=task.speed or 0)


@contextmanager
def watching(dead_letter: str | None) -> Iterator[tuple[Watch, LogLines]]:
    """Log lines on standard error: JSON, or in a terminal for people, with a line of progress below."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.completed:,} entries, {task.fields[rate]:,.0f}/s:"),
        TextColumn("{task.fields[words]}"),
        TimeElapsedColumn(),
    )
    terminal = err.is_terminal
    with Progress(*columns, console=err, transient=True, disable=not terminal) as bar:
        # Within the bar, which takes over standard error so that lines appear above it.
        logs.configure(json_lines=not terminal, limited=False)  # each refused entry has its line
        bar.add_task("pulling", total=None, words="", rate=0)
        lines = LogLines(dead_letter=dead_letter)
        yield Watch(bar, lines), lines
