"""What core code announces about itself, and the interface of whoever listens.

Core code knows nothing of metrics: it hands frozen values to an `Observer`. What happens once a batch, group or call
is a dataclass; what happens once a message is a plain method call, because a message has about 100 us in all. Seconds
are wall-clock durations from a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum


@dataclass(frozen=True, slots=True)
class BatchAnswered:
    """A batch was taken and its answer was handed to the transport.

    `accepted + duplicate + rejected + queued` is the number of events sent. `seconds` run from reading the message to
    handing its answer over. `reasons` counts the rejected events by reason; `bytes` is the size of the message.
    `streamed`: it was a message of a stream; otherwise it was a call of its own.
    """

    durability: str
    seconds: float
    accepted: int
    duplicate: int
    rejected: int
    queued: int
    reasons: Mapping[str, int]
    bytes: int
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class BatchRefused:
    """A batch was refused as a whole. `events` is 0 where it could not be decoded far enough to count them.

    `owed`: the daemon should have taken it (TrackdError.owed). `streamed` as in BatchAnswered.
    """

    reason: str
    events: int
    owed: bool = False
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class BatchAbandoned:
    """A batch was taken and its sender went away, or gave up waiting, before the answer; `seconds` after reading it."""

    durability: str
    seconds: float


@dataclass(frozen=True, slots=True)
class GroupCommitted:
    """The writer committed a group. `seconds` is the whole append, `linger_seconds` the waiting for more before it."""

    batches: int
    events: int
    seconds: float
    linger_seconds: float


class Ending(Enum):
    """How a question ended."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """Its asker got it wrong."""
    OWED = "owed"
    """The daemon should have answered (TrackdError.owed), or it took longer than the operator allows."""
    ABANDONED = "abandoned"
    """Its asker went away, or gave up waiting."""


@dataclass(frozen=True, slots=True)
class QuestionAnswered:
    """A question ended. `seconds` include waiting for a reader."""

    kind: str
    seconds: float
    ending: Ending = Ending.ANSWERED


@dataclass(frozen=True, slots=True)
class PageRead:
    """A page for subscribers was read and encoded. `seconds` include waiting for a reader."""

    seconds: float
    events: int


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A gRPC call came in. `type` is unary, client_stream, server_stream or bidi_stream."""

    service: str
    method: str
    type: str


@dataclass(frozen=True, slots=True)
class CallHandled:
    """A gRPC call ended. `code` is the status as the specification writes it, such as INVALID_ARGUMENT."""

    service: str
    method: str
    type: str
    code: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CallDenied:
    """A call was refused because of who made it, or ended because a permission was withdrawn."""

    reason: str


@dataclass(frozen=True, slots=True)
class RetentionActed:
    """An action of a run of retention ended, or was passed over.

    `action` and `status` are words of retention.plan.Kind and retention.applying.Status; `rows` is what it was about.
    """

    action: str
    status: str
    rows: int


class Reloadable(StrEnum):
    """What the daemon reads again while it runs."""

    SETTINGS = "settings"
    TOKENS = "tokens"
    CERTIFICATES = "certificates"


@dataclass(frozen=True, slots=True)
class Reloaded:
    """Something was read again. Not `ok`: it could not be used, and what was before holds on."""

    what: Reloadable
    ok: bool


class Observer:
    """Is told what happens and by default does nothing with it; override what you want to know.

    `group_committed` comes from the writer's thread, everything else from the event loop's. Methods return at once and
    never raise: they stand in the path of every batch.
    """

    def batch_answered(self, batch: BatchAnswered) -> None:
        """Once for every batch that was taken."""

    def batch_refused(self, refusal: BatchRefused) -> None:
        """Once for every batch that was refused as a whole."""

    def batch_abandoned(self, batch: BatchAbandoned) -> None:
        """Once for every batch that was taken and whose sender did not wait for the answer."""

    def accepted_lost(self, events: int) -> None:
        """So many events that were answered as queued were then not stored."""

    def group_committed(self, group: GroupCommitted) -> None:
        """Once a commit; on the writer's thread."""

    def question_answered(self, question: QuestionAnswered) -> None:
        """Once a question."""

    def page_read(self, page: PageRead) -> None:
        """Once a page for subscribers."""

    def events_delivered(self, events: int, size_bytes: int) -> None:
        """So many events, encoded in so many bytes, were handed to the transport for one subscriber."""

    def call_started(self, call: CallStarted) -> None:
        """Once a call, before its handler."""

    def call_handled(self, call: CallHandled) -> None:
        """Once a call, after its handler."""

    def call_denied(self, denial: CallDenied) -> None:
        """Once a denial."""

    def reloaded(self, reload: Reloaded) -> None:
        """Once an attempt to read something again."""

    def retention_acted(self, action: RetentionActed) -> None:
        """Once an action of a run that has ended."""

    def message_received(self, service: str, method: str, type: str) -> None:
        """Once a message from a client. `type` as in CallStarted."""

    def message_sent(self, service: str, method: str, type: str) -> None:
        """Once a message to a client. `type` as in CallStarted."""
