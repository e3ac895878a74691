"""What became of events that were sent in batches, and what an answer means for the sender."""

from __future__ import annotations

from dataclasses import dataclass

from trackd.errors import TrackdError, from_status
from trackd.framing import Batch, events_of
from trackd.v1.event_pb2 import Event
from trackd.v1.ingest_pb2 import APPEND_OUTCOME_REJECTED, AppendBatchAnswer, AppendResult
from trackd.window import ProtocolViolation

DEFECTS_MAX = 5
"""How often a batch is sent again after INTERNAL: a daemon that restarts cures it, a defect that it provokes stays."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """One event that is not stored. `sequence` is its place, from 0, among all events given to the Appender.

    `retryable`: the same event, sent later, may be taken. The Appender leaves that to its user.
    """

    sequence: int
    event: Event
    reason: str
    message: str
    field: str = ""
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The final answer to one batch: accepted + duplicate + rejected + queued = events.

    `error` is set where the daemon refused the batch as a whole; then all its events are rejected with that reason.
    """

    sequence: int
    events: int
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    queued: int = 0
    last_position: int | None = None
    rejections: tuple[Rejection, ...] = ()
    error: TrackdError | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over batches. `duplicate` events were stored already, a success; `queued` ones have no known outcome."""

    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    queued: int = 0

    @property
    def answered(self) -> int:
        """Events with a final answer."""
        return self.accepted + self.duplicate + self.rejected + self.queued

    def plus(self, result: BatchResult) -> Totals:
        """These totals and one more batch."""
        return Totals(
            self.accepted + result.accepted,
            self.duplicate + result.duplicate,
            self.rejected + result.rejected,
            self.queued + result.queued,
        )


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The batch was refused for now."""

    error: TrackdError
    defect: bool


def judge(batch: Batch, answer: AppendBatchAnswer) -> BatchResult | TryAgain:
    """What an answer means: a final result, or that the batch is to be sent again. ProtocolViolation if nothing."""
    outcome = answer.WhichOneof("outcome")
    if outcome == "result":
        return of_result(batch, answer.result)
    if outcome is None:
        raise ProtocolViolation(f"the answer to batch {batch.id} says nothing")
    error = from_status(answer.error)
    # Of INTERNAL the outcome is unknown. The ids make sending again safe, so a daemon gets the chance to restart.
    defect = error.code in ("INTERNAL", "UNKNOWN")
    if error.retryable or (defect and batch.defects < DEFECTS_MAX):
        return TryAgain(error, defect and not error.retryable)
    rejections = tuple(
        Rejection(batch.first + index, event, error.reason or error.code, error.message)
        for index, event in enumerate(events_of(batch))
    )
    return BatchResult(batch.first, batch.events, rejected=batch.events, rejections=rejections, error=error)


def of_result(batch: Batch, result: AppendResult) -> BatchResult:
    """What became of the events of a batch that was taken, wherever the result came from.

    ProtocolViolation if it is not about each of them: what is not known to be stored must not be forgotten.
    """
    counts = (result.accepted, result.duplicate, result.rejected, result.queued)
    if min(counts) < 0 or sum(counts) != batch.events:
        raise ProtocolViolation(f"the answer to batch {batch.id} is not about its {batch.events:,} events")
    refused = [item for item in result.items if item.outcome == APPEND_OUTCOME_REJECTED]
    if len({item.index for item in refused if 0 <= item.index < batch.events}) != result.rejected:
        raise ProtocolViolation(f"the answer to batch {batch.id} does not name what it rejects")
    events = events_of(batch) if refused else ()
    return BatchResult(
        sequence=batch.first,
        events=batch.events,
        accepted=result.accepted,
        duplicate=result.duplicate,
        rejected=result.rejected,
        queued=result.queued,
        last_position=result.last_position if result.HasField("last_position") else None,
        rejections=tuple(
            Rejection(
                batch.first + item.index, events[item.index], item.reason, item.message, item.field, item.retryable
            )
            for item in refused
        ),
    )
