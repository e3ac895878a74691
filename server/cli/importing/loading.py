"""Sends what was read through an Appender and keeps the account: what was stored, and where the trouble is."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import trackd

from server.cli.terminal import credentials

PROBLEMS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Problem:
    """One line or event that is not stored. `where` is "line 17" or "change 0a1b2c"."""

    where: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}: {self.message}"


@dataclass
class Account:
    """What an import did. `read` counts lines or commits; `bad` those that are no events; `events` what was sent."""

    unit: str
    read: int = 0
    bad: int = 0
    events: int = 0
    totals: trackd.Totals = field(default_factory=trackd.Totals)
    seconds: float = 0.0
    problems: list[Problem] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether every event is stored now."""
        return not self.bad and not self.totals.rejected

    @property
    def nothing_new(self) -> bool:
        """Whether every event had been stored before."""
        return self.events > 0 and self.totals.duplicate == self.events

    def trouble(self, problem: Problem) -> None:
        """Counts a problem; only the first ones are kept."""
        self.reasons[problem.reason] = self.reasons.get(problem.reason, 0) + 1
        if len(self.problems) < PROBLEMS_SHOWN:
            self.problems.append(problem)

    def add(self, other: Account) -> None:
        """Takes over what another import of the same unit did."""
        one, two = self.totals, other.totals
        self.read += other.read
        self.bad += other.bad
        self.events += other.events
        self.totals = trackd.Totals(
            one.accepted + two.accepted,
            one.duplicate + two.duplicate,
            one.rejected + two.rejected,
            one.queued + two.queued,
        )
        self.problems += other.problems[: PROBLEMS_SHOWN - len(self.problems)]
        for reason, count in other.reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count

    def verdict(self) -> str:
        """The result in a sentence."""
        totals = self.totals
        if self.nothing_new:
            return f"nothing new: all {self.events:,} events were stored already"
        parts = [f"{totals.accepted:,} {'event' if totals.accepted == 1 else 'events'} stored"]
        if totals.duplicate:
            parts.append(f"{totals.duplicate:,} were stored already")
        if totals.rejected:
            parts.append(f"{totals.rejected:,} rejected")
        if self.bad:
            parts.append(f"{self.bad:,} bad {self.unit}")
        return ", ".join(parts)


class Places:
    """Finds the line of the n-th event sent. Keeps 16 bytes for each gap (bad or empty lines), not for each line."""

    def __init__(self) -> None:
        self._sequences = array("Q")
        self._offsets = array("q")

    def note(self, sequence: int, line: int) -> None:
        """The event of this place came from this line; calls come in rising order."""
        offset = line - sequence
        if not self._offsets or self._offsets[-1] != offset:
            # In this order, since the Appender's thread looks things up meanwhile.
            self._offsets.append(offset)
            self._sequences.append(sequence)

    def line(self, sequence: int) -> int:
        """The line of an event that was noted."""
        return sequence + self._offsets[bisect_right(self._sequences, sequence) - 1]


class Loading:
    """One import that is under way: hands events to an Appender and books its answers. Ends like the Appender does."""

    def __init__(self, target: str, source: str, account: Account, *, give_up_after_s: float) -> None:
        self.account = account
        self.places: Places | None = None
        self._appender = trackd.Appender(
            target, source=source, on_result=self._answered, give_up_after_s=give_up_after_s, **credentials()
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._appender.abort()
        self.account.totals = self._appender.totals

    def send(self, events: Iterable[trackd.Event]) -> None:
        """Sends some more events."""
        self._appender.send(events)
        self.account.totals = self._appender.totals

    def finish(self) -> None:
        """Waits until every event is answered."""
        self._appender.close()

    def _answered(self, result: trackd.BatchResult) -> None:
        for rejection in result.rejections:
            self.account.trouble(Problem(self._where(rejection), rejection.reason, rejection.message))

    def _where(self, rejection: trackd.Rejection) -> str:
        if self.places is not None:
            return f"line {self.places.line(rejection.sequence)}"
        return f"event {rejection.sequence + 1} ({rejection.event.type} by {rejection.event.user_id})"
