"""What carrying out a plan needs of a store. Retention declares it; whoever runs the store implements it.

Every call is made on one thread, returns when its effect is durable, and either has it whole or not at all: killed at
any moment, the same call can be made again. The evidence of an effect is committed together with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from retention.chain import Deed, Head
from retention.facts import Facts
from retention.month import Month
from retention.policy import ArchiveTarget, Policy, Profile


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an action did. Rows and bytes are those of the month, or of the copy that it was about."""

    generation: int
    rows_before: int
    rows_after: int
    bytes_before: int
    bytes_after: int
    method: str
    checks: tuple[tuple[str, str], ...] = ()
    """(what was compared, outcome), by name."""
    withheld: tuple[tuple[str, int], ...] = ()
    """(code of the hold, rows), by code."""
    sequence: int = 0
    """Of the record that was committed with it; 0 before that."""


Evidence = Callable[[Outcome], Deed]
"""Makes the deed of what is about to become true; it is committed with it."""
Heard = Callable[[int], None]
"""Told how many rows of an action are done; what it raises ends the action, which then had no effect."""


class ActionFailed(Exception):
    """An action had no effect; it is tried again by the next run."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason
        """UPPER_SNAKE."""


class Stopped(Exception):
    """Whoever runs the plan wants it to end here. Raised by what hears of progress."""


class Port(Protocol):
    """See the module. Methods raise ActionFailed."""

    def facts(self, policy: Policy, now_ms: int) -> Facts:
        """What there is now."""

    def head(self) -> Head:
        """The end of the chain of evidence."""

    def record(self, deed: Deed) -> Head:
        """Adds a deed that changes nothing in the store to the chain of evidence."""

    def seal(self, month: Month, evidence: Evidence, heard: Heard) -> Outcome:
        """The month takes no events any more and becomes one file that does not change."""

    def freeze(self, month: Month, types: tuple[str, ...], evidence: Evidence, heard: Heard) -> Outcome:
        """Keeps the numbers of these types of a sealed month; those that are kept already are left alone."""

    def anonymize(
        self,
        month: Month,
        types: tuple[str, ...],
        forms: tuple[str, ...],
        profile: Profile,
        evidence: Evidence,
        heard: Heard,
    ) -> Outcome:
        """Rows of these types and forms go through the profile, those under an active hold aside."""

    def archive(
        self, month: Month, types: tuple[str, ...], forms: tuple[str, ...], target: ArchiveTarget, evidence: Evidence,
        heard: Heard,
    ) -> Outcome:  # fmt: skip
        """Makes a copy of such rows at the target and reads it back; only then it is known as a copy."""

    def drop(
        self, month: Month, types: tuple[str, ...], forms: tuple[str, ...], evidence: Evidence, heard: Heard
    ) -> Outcome:
        """Such rows go, those under an active hold aside; the month goes with its last one."""

    def destroy_copy(self, month: Month, name: str, evidence: Evidence, heard: Heard) -> Outcome:
        """An archive, a restored copy or an export goes; of one with rows under an active hold only they are left."""

    def accept_clock(self, now_ms: int) -> None:
        """From now on this time was believed."""

    def forget_names(self) -> int:
        """Lets go of names of users that no row has any more; how many."""
