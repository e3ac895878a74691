"""What was read and is not settled yet: pure bookkeeping that says what to acknowledge, without network or threads.

An entry is *under way* from being read until Redis has taken its acknowledgement, which it gets only once its event is
on disk or it was copied to the dead-letter stream. Two kinds leave without one and stay pending in the group: *parked*
entries, which were refused while there is no dead-letter stream, and *deferred* ones, which may be taken later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import trackd

from server.cli.pulling.entry import Entry

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An entry that is not stored and will not be. `message` may quote the entry; `why` does not and fits into logs."""

    entry: Entry
    reason: str
    message: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is to be done in Redis: `acknowledge` these, copy the `dead` to the dead-letter stream before that."""

    acknowledge: Sequence[Entry] = ()
    dead: Sequence[Refusal] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of some entries: what to settle, and which refusals to tell about."""

    settlement: Settlement = field(default_factory=Settlement)
    refused: Sequence[Refusal] = ()


@dataclass
class Counts:
    """Every entry that is read ends as exactly one of stored, duplicate, refused, trimmed or deferred.

    `stored` is new; `duplicate` was stored already. `refused` counts by reason. `trimmed` entries were deleted from the
    stream before they were read: only their names are left. `deferred` ones stay pending and will be read again, and
    then count anew. `parked` says how many of the refused stay pending, `acknowledged` for how many Redis has been told
    that they are done. `claimed` is how many of those read had been left behind by other consumers.
    """

    read: int = 0
    claimed: int = 0
    stored: int = 0
    duplicate: int = 0
    trimmed: int = 0
    deferred: int = 0
    parked: int = 0
    acknowledged: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def settled(self) -> int:
        """Entries with an outcome."""
        return self.stored + self.duplicate + self.trimmed + self.deferred + self.refused.total()

    @property
    def clean(self) -> bool:
        """Whether everything that was read is stored, or kept in the dead-letter stream."""
        return not self.parked and not self.deferred and not self.trimmed


class Ledger:
    """The account of one run."""

    def __init__(self, *, dead_letters: bool) -> None:
        """`dead_letters`: refused entries go to a dead-letter stream and are acknowledged, instead of being parked."""
        self.counts = Counts()
        self._dead_letters = dead_letters
        self._under_way: dict[Key, Entry] = {}
        self._sent: dict[int, Entry] = {}
        self._handed_over = 0
        self._parked: set[Key] = set()
        self._suspects: list[Entry] = []

    @property
    def under_way(self) -> int:
        """Entries that are read and neither acknowledged nor left pending."""
        return len(self._under_way)

    def take(self, entries: Iterable[Entry], *, claimed: bool = False) -> tuple[list[Entry], Settlement]:
        """Those that are to be sent now: not under way already, not parked, not gone. And what to do about the gone.

        Entries come again after a broken connection, and when our own are claimed by ourselves.
        """
        fresh: list[Entry] = []
        gone: list[Entry] = []
        for entry in entries:
            key = entry.key
            if key in self._under_way or key in self._parked:
                continue
            self._under_way[key] = entry
            (fresh if entry.content else gone).append(entry)
        self.counts.read += len(fresh) + len(gone)
        self.counts.trimmed += len(gone)
        if claimed:
            self.counts.claimed += len(fresh) + len(gone)
        return fresh, Settlement(gone) if gone else Settlement()

    def sending(self, entries: Iterable[Entry]) -> None:
        """These go to the sender next, in this order, one event each."""
        for entry in entries:
            self._sent[self._handed_over] = entry
            self._handed_over += 1

    def refuse(self, refusals: Sequence[Refusal]) -> Verdict:
        """These are no events."""
        for refusal in refusals:
            self.counts.refused[refusal.reason] += 1
        if self._dead_letters:
            return Verdict(Settlement(dead=refusals), refusals)
        for refusal in refusals:
            del self._under_way[refusal.entry.key]
            self._parked.add(refusal.entry.key)
        self.counts.parked += len(refusals)
        return Verdict(refused=refusals)

    def answered(self, result: trackd.BatchResult) -> Verdict:
        """The daemon has answered a batch for good.

        A batch that it refused as a whole says nothing about each event in it: all are suspects, to be sent alone.
        """
        places = range(result.sequence, result.sequence + result.events)
        entries = [self._sent.pop(place) for place in places]
        if result.error is not None and result.events > 1:
            self._suspects += entries
            return Verdict()
        self.counts.stored += result.accepted
        self.counts.duplicate += result.duplicate
        if not result.rejections:
            return Verdict(Settlement(acknowledge=entries))
        refusals = []
        for rejection in result.rejections:
            entry = entries[rejection.sequence - result.sequence]
            if rejection.retryable:
                self.counts.deferred += 1
                del self._under_way[entry.key]
            else:
                refusals.append(Refusal(entry, rejection.reason, rejection.message, rejection.field))
        rejected = {rejection.sequence for rejection in result.rejections}
        stored = [entry for place, entry in zip(places, entries, strict=True) if place not in rejected]
        verdict = self.refuse(refusals)
        return Verdict(Settlement(stored, verdict.settlement.dead), verdict.refused)

    @property
    def suspicious(self) -> bool:
        """Whether there are suspects."""
        return bool(self._suspects)

    def suspects(self) -> list[Entry]:
        """Entries to be sent again, each in a batch of its own. They are handed out once."""
        suspects, self._suspects = self._suspects, []
        return suspects

    def done(self, settlement: Settlement) -> None:
        """Redis has taken it."""
        for entry in settlement.acknowledge:
            del self._under_way[entry.key]
        for refusal in settlement.dead:
            del self._under_way[refusal.entry.key]
        self.counts.acknowledged += len(settlement.acknowledge) + len(settlement.dead)
