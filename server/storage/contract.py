"""The storage contract: what an engine promises. It speaks of events and months, never of SQL.

Ownership. A store has one writer: `append`, `register_type`, `maintain` and `close` are called from one thread at a
time. Everything else may be called from any thread. A `Reader` belongs to one thread, except for `interrupt`.

Durability. When `append` returns, every event that it reports as accepted or duplicate is on disk and survives any
crash; the head has moved. When it raises StoreFailed the outcome is unknown: acknowledge nothing, close, reopen.

Order. Positions rise strictly in commit order over all months, with gaps, and are never given twice, also not after a
crash. The head is the highest position whose whole group is durable and visible. A reader is told where to cut
(`as_of`) and sees exactly the events with `position <= as_of`: cutting by position and not by a file's snapshot is
what makes an answer over several months one moment.

Identity. An event is (UTC month of its time, id). Its content is everything the sender set, which leaves out position,
source and received_ms; JSON texts are compared by value (server.content).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from retention.chain import Deed
from retention.hold import Hold
from retention.month import Month
from server.errors import TrackdError
from server.frozen import Frozen
from server.model import (
    Appended,
    Batch,
    Count,
    Dimension,
    Event,
    EventFilter,
    EventType,
    Finding,
    Keyset,
    MonthInfo,
    MonthState,
    Order,
    Rebuilt,
    Size,
)
from server.question import Answer, Question
from server.rewriting import Heard, Losses, MonthStocks, OnWriter, Rewrite, Rewritten, Selection
from server.storage.digest import ContentDigest
from server.storage.exported import Exported
from server.storage.records import Records


class SealedRows(ABC):
    """A sealed month, for whoever reads it from end to end: on several threads, or pickled, in another process.

    What is read stays until Reader.sealed, where it comes from, is left.
    """

    @abstractmethod
    def export(self, rows: Selection) -> Iterator[Exported]:
        """The chosen rows in the order of positions, some thousand at a time; none of them empty."""

    @abstractmethod
    def content_digest(self, rows: Selection, heard: Heard | None = None) -> ContentDigest:
        """The digest of the chosen rows, computed from what is stored now; `heard` is told how many are done."""


class Reader(ABC):
    """Answers questions on one thread. Driver errors never leave it: they are raised as TrackdError."""

    @abstractmethod
    def list_events(
        self, where: EventFilter, order: Order, limit: int, *, after: Keyset | None, as_of: int
    ) -> Sequence[Event]:
        """The first `limit` (>= 1) matching events strictly behind `after` in `order`; empty at the end.

        Months outside of the time range are not opened.
        """

    @abstractmethod
    def count_events(self, where: EventFilter, by: Sequence[Dimension], *, as_of: int) -> Sequence[Count]:
        """Matching events by group, ordered by key; groups without events are absent.

        With no dimension: one row with the total, also if it is 0. Counts rows, which frozen numbers are not: raises
        Precondition(FROZEN_GRAIN) where the rows of a month in the time range cannot tell; `aggregate` often can.
        """

    @abstractmethod
    def aggregate(self, questions: Sequence[Question]) -> Answer:
        """A table for each question, all of them cut at one position: the head at some moment during the call.

        So an answer covers at least every event that was acknowledged before the call. Months outside of the time
        ranges are not opened. Raises Exhausted(QUESTION_TOO_LARGE) if it would read more rows or make more groups than
        the engine was told to allow.

        Where retention has changed rows or let them go, events by type, source and time come from the frozen numbers
        and are what they were before; so are distinct users where each group is one frozen cell. What neither the rows
        nor frozen numbers can tell raises Precondition(FROZEN_GRAIN), which names months, types and grains
        (server.storage.frozen_grain). Filters and dimensions on other fields see the rows as they are now.
        """

    @abstractmethod
    def freeze(self, month: Month, types: Sequence[str], heard: Heard | None = None) -> Frozen:
        """The numbers of some types in a SEALED month, counted from its events. `Records.keep` keeps them.

        `heard` is told how many rows are done, now and then; what it raises ends the work. In UTC and the operator's
        reporting time zones. To be kept before rows of these types change for the first time,
        so that they stand for all that there were. Raises Precondition(NUMBERS_FROZEN) for a type that is frozen,
        Precondition(ROWS_CHANGED) if it is too late, Precondition(MONTH_STATE), NotFound(MONTH_UNKNOWN).
        """

    @abstractmethod
    def stocks(self, month: Month, holds: Sequence[Hold] = ()) -> MonthStocks:
        """What the month has, by type and form, and how much of it these holds hold.

        Only the holds that are active count, and only on rows as they were sent. Bytes are a share of the month's
        files. A month that is not sealed is counted as of some moment during the call. Raises NotFound(MONTH_UNKNOWN).
        """

    @abstractmethod
    def sealed(self, month: Month, *, generation: int | None = None) -> AbstractContextManager[SealedRows]:
        """The rows of a SEALED month. Nothing else is asked of this reader until it is left.

        `generation`: the one that is meant. Raises Precondition(MONTH_STATE) if the month is not sealed,
        Precondition(MONTH_CHANGED) if it is in another generation, NotFound(MONTH_UNKNOWN).
        """

    @abstractmethod
    def interrupt(self) -> None:
        """From any thread: makes the question that is running raise Unavailable(reason INTERRUPTED) soon.

        Does nothing to later questions; harmless when none runs.
        """

    @abstractmethod
    def close(self) -> None:
        """Gives back what the reader holds. Closing twice is fine."""


class Store(ABC):
    """Keeps events of all months, each once."""

    @property
    @abstractmethod
    def head(self) -> int:
        """The highest durable and visible position; 0 for an empty store. Never falls."""

    @abstractmethod
    def append(self, batches: Sequence[Batch]) -> Sequence[Appended | TrackdError]:
        """Commits the batches as one group and says what became of each, in their order.

        Row i of a batch, if it is accepted, has position b + i, with one b for the batch.

        Per event: accepted with that position; a duplicate (same identity, same content; `existing_position` set);
        or rejected with reason ID_CONFLICT (same identity, other content; `existing_position` set), MONTH_LIMIT (the
        event would open more months than allowed, judged in the order of events), MONTH_SEALED (see `fence`),
        MONTH_DROPPED (see `drop`) or MONTH_DAMAGED (its month cannot be read and takes nothing until it is restored).
        Events of a group see the
        events before them.

        An atomic batch with a rejected event stores nothing: its events that were not at fault, duplicates among them,
        are listed as rejected with reason ATOMIC_ABORTED, retryable. A conflict with an event of the same batch names
        no `existing_position`. Atomic batches hold events of one month only (the caller checks).

        A batch that cannot be committed for a reason of its own is answered with the error in its place and stores
        nothing of it in the month that failed; the other batches are not touched. The types of stored events are
        registered, with the batch's `received_ms`; those of rejected ones may be. An empty batch gets zeros.

        Raises Unavailable(DISK_FULL) if there is no room: nothing of the group is acknowledged, the store stays usable,
        and what a resend finds stored is a duplicate. Raises StoreFailed as described above.
        """

    @abstractmethod
    def remove(self, month: Month, positions: Sequence[int]) -> int:
        """Erases the events of a month at these positions, with their changes; how many there were.

        When it returns they are gone from the truth, durably, and from every answer. Their ids may be stored anew, at
        new positions; positions are not given again, and the head stays, also over a restart. Unknown positions, and
        those of other months, are passed over. The month stays, and so do types and sources. Raises
        Precondition(MONTH_SEALED) for a sealed month: reopen it first.
        """

    @abstractmethod
    def fence(self, month: Month) -> MonthInfo:
        """Closes an open month to new events, durably: it is SEALING from now on, also after a restart.

        Events of it that come later are rejected with reason MONTH_SEALED, but for those that are stored already:
        they are duplicates and conflicts as ever. A month that is SEALING or SEALED stays what it is. Raises
        NotFound(MONTH_UNKNOWN), or Precondition(MONTH_DAMAGED).
        """

    @abstractmethod
    def rebuild(self, month: Month, state: MonthState, heard: Heard | None = None) -> Rebuilt:
        """Makes the next generation of a month beside the one in use, durably.

        SEALED of one that is SEALING, or OPEN of one that is SEALED.
        May be called beside the writer, by one thread at a time; takes long. Nothing changes for anybody before
        `adopt`: whatever happens on the way, it can be begun again. `heard` is told how many rows are done, now and
        then; what it raises ends the work. The content is compared with that of the generation in use before it
        returns. Raises Precondition(MONTH_STATE) from any other state, Precondition(NUMBERS_FROZEN) for OPEN once
        numbers of the month are frozen, Corrupt if the copy differs.
        """

    @abstractmethod
    def rewrite(self, month: Month, change: Rewrite, on_writer: OnWriter, heard: Heard | None = None) -> Rewritten:
        """Makes the next generation of a SEALED month in which some rows went through a profile, or are gone.

        May be called beside the writer, as `rebuild`; `on_writer` runs what it is given where the writer runs. What
        is not changed is compared with what was there, and counts of what is by type, before it returns: rows that
        went through a profile are as many as before. The type of an event is never changed; what the rules of a
        profile do to each field is said in server.storage.treatment. Under the claim "anonymous" ids are new and
        positions are dealt anew among the rows, and `anonymous` says whether the check of the claim passed: each
        combination of what is left is shared by at least k users of that month, and so is each sequence of events that
        one pseudonym still ties together. If it passed, the frozen numbers of these types, and of all together, become
        coarse when it is adopted: what is left of them stands for k users at least (server.frozen.coarsened).

        Nothing changes for anybody before `adopt`. Raises Precondition(MONTH_STATE), Corrupt.
        """

    @abstractmethod
    def drop(self, month: Month, lost: Losses, deed: Deed) -> MonthInfo:
        """Lets go of all rows of a SEALED month, whatever they are; it is DROPPED from now on.

        One commit, with the deed; the files go when the last question that reads them has ended. Events of the month
        that come later are rejected with reason MONTH_DROPPED, also with ids that were stored once. Raises
        Precondition(MONTH_STATE), NotFound(MONTH_UNKNOWN).
        """

    @abstractmethod
    def forget_names(self, on_writer: OnWriter) -> int:
        """Erases what the store still knows of users whose last event has gone; how many users that were.

        May be called beside the writer, while nothing else is rewritten. They may come again, as new ones. Does nothing
        while a month is damaged: nobody knows whose events it has.
        """

    @property
    @abstractmethod
    def records(self) -> Records:
        """What retention keeps beside the events."""

    @abstractmethod
    def adopt(self, made: Rebuilt | Rewritten, deed: Deed | None = None) -> MonthInfo:
        """Makes a rebuilt or rewritten generation the one in use, in one commit with the deed.

        Of a rebuilt month answers do not change; of a rewritten one as `Rewritten.lost` says. Raises
        Precondition(MONTH_CHANGED) if the month has another generation in use by now, or if events were erased since:
        make it again. Questions that are under way end on the generation that they began on; its files go when the
        last of them has ended.
        """

    @abstractmethod
    def register_type(self, name: str, description: str, now_ms: int, *, dimensions: Sequence[str] = ()) -> EventType:
        """Declares a type, or changes its description and dimensions; durable at return. Repeating it changes nothing.

        Dimensions are metadata keys that questions will use: a promise of speed, answers do not depend on them.
        """

    @abstractmethod
    def event_types(self) -> Sequence[EventType]:
        """All registered types, by name."""

    @abstractmethod
    def sources(self) -> Sequence[str]:
        """All sources that ever stored an event, by name."""

    @abstractmethod
    def months(self) -> Sequence[MonthInfo]:
        """All months that have a home in this store, oldest first."""

    def last_positions(self) -> Mapping[Month, int]:
        """For each month that can be read a position that none of its events lies behind: nothing is new beyond it.

        What was read from `head` before this call is covered. Cheap, whatever number of months there is: whoever
        follows the head asks after every commit. An engine that does not know better names the head for every month.
        """
        months = [info.month for info in self.months() if info.state is not MonthState.DAMAGED]
        return dict.fromkeys(months, self.head)

    def sizes(self) -> Mapping[MonthState, Size]:
        """The months of each state that there is, together. For gauges: cheap, of a moment ago, and no query."""
        return {info.state: Size(0, 0) for info in self.months()}

    @abstractmethod
    def maintain(self, *, idle: bool) -> None:
        """Does a bounded piece of upkeep (checkpoints, closing idle months). `idle`: no batch is waiting."""

    @abstractmethod
    def reader(self) -> Reader:
        """A new reader; close it before the store."""

    @abstractmethod
    def check(self) -> Sequence[Finding]:
        """Looks everything over and reports what is wrong; empty means sound. May take long; no writer beside it."""

    @property
    def tail_events(self) -> int:
        """Events that derived data does not cover yet; 0 for an engine that has none. For gauges."""
        return 0

    @property
    def months_unindexed(self) -> int:
        """Months that derived data does not cover up to the tail; 0 for an engine that has none. For gauges."""
        return 0

    @property
    def months_unmerged(self) -> int:
        """Months whose derived data is complete and about to be put together; 0 for an engine without. For gauges."""
        return 0

    @property
    def wal_bytes(self) -> int:
        """Size of the logs that maintenance has still to fold back; 0 for an engine that has none. For gauges."""
        return 0

    @property
    def disk_free_bytes(self) -> int:
        """Room left where events are kept; 0 for an engine without a disk. For gauges."""
        return 0

    @abstractmethod
    def close(self) -> None:
        """Gives everything back. What was acknowledged stays. After StoreFailed writes nothing more. Twice is fine."""
