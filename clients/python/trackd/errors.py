"""What can go wrong, as one tree: made from gRPC errors and from the statuses that answers carry.

`reason` is the daemon's machine word (UPPER_SNAKE), the same as in its metrics and logs. `hint` says what to do.
`retryable` tells whether the same call, made later, may succeed; the daemon's wish for how much later is
`retry_after_ms`.
"""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

_DETAILS_KEY = "grpc-status-details-bin"
_PUSHBACK_KEY = "grpc-retry-pushback-ms"
_PUSHBACK_DIGITS = 15
"""More are ages, and Python refuses to read thousands."""


class TrackdError(Exception):
    """Root of all errors of this package. `code` is the name of the gRPC status code, "" where there was none."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        reason: str = "",
        hint: str = "",
        retryable: bool = False,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.hint = hint
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms

    def __str__(self) -> str:
        told = f"{self.reason}: {self.message}" if self.reason else self.message
        # The daemon's message may say it already.
        return f"{told} ({self.hint})" if self.hint and self.hint not in self.message else told


class Invalid(TrackdError):
    """The request itself is at fault; sent again unchanged it fails again."""


class Unreachable(TrackdError):
    """Nobody answered at the target, or the connection broke: the outcome of the call is unknown."""


class Unavailable(TrackdError):
    """The daemon answered: not now."""


class Exhausted(TrackdError):
    """A quota or limit is used up."""


class Precondition(TrackdError):
    """The request is well-formed and the state of the store forbids it."""


class Unauthenticated(TrackdError):
    """The daemon wants a token, or a valid one."""


class PermissionDenied(TrackdError):
    """The token does not allow this."""


class NotFound(TrackdError):
    """The thing asked about does not exist."""


class OutOfRange(TrackdError):
    """A position or cursor outside of what is kept."""


class DeadlineExceeded(TrackdError):
    """No answer in time: the outcome of the call is unknown."""


class Internal(TrackdError):
    """The daemon, or something between here and it, has failed."""


class GaveUp(TrackdError):
    """An Appender stopped trying. `unacknowledged` events were handed to it and never answered.

    They may or may not be stored. Sending them again is safe: the same ids are stored once.
    """

    def __init__(self, message: str, *, unacknowledged: int, cause: TrackdError | None) -> None:
        super().__init__(
            message,
            code=cause.code if cause else "",
            reason=(cause.reason if cause else "") or "NO_PROGRESS",
            hint="send them again when the daemon is well: events that are stored already are only counted",
            retryable=True,
        )
        self.unacknowledged = unacknowledged
        self.cause = cause


_KINDS: dict[str, type[TrackdError]] = {
    "INVALID_ARGUMENT": Invalid,
    "UNIMPLEMENTED": Invalid,
    "UNAVAILABLE": Unavailable,
    "CANCELLED": Unreachable,
    "RESOURCE_EXHAUSTED": Exhausted,
    "FAILED_PRECONDITION": Precondition,
    "ABORTED": Precondition,
    "ALREADY_EXISTS": Precondition,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
    "NOT_FOUND": NotFound,
    "OUT_OF_RANGE": OutOfRange,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "INTERNAL": Internal,
    "UNKNOWN": Internal,
    "DATA_LOSS": Internal,
}
_RETRYABLE_CODES = frozenset({"UNAVAILABLE", "ABORTED", "DEADLINE_EXCEEDED", "CANCELLED"})
_WITH_STATUS = (grpc.Call, grpc.aio.AioRpcError)
_BROKEN_STREAM_CODES = _RETRYABLE_CODES | {"INTERNAL", "UNKNOWN"}


def from_status(status: Status) -> TrackdError:
    """The error that a `google.rpc.Status` states, for example the refusal of one batch within a stream."""
    return _make(Code.Name(status.code) if status.code in Code.values() else "UNKNOWN", status.message, status.details)


def from_rpc_error(error: grpc.RpcError) -> TrackdError:
    """The error that ended a call. Without the daemon's own details, UNAVAILABLE means that nobody answered."""
    code = error.code().name if isinstance(error, _WITH_STATUS) else "UNKNOWN"
    text = (error.details() if isinstance(error, _WITH_STATUS) else "") or str(error)
    details: Iterable[Any] = ()
    pushback_ms: int | None = None
    for key, value in _trailers(error):
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                status = Status.FromString(value)
            except DecodeError:
                continue
            details, text = status.details, status.message or text
        elif key == _PUSHBACK_KEY and isinstance(value, str) and value.isdecimal():
            pushback_ms = int(value[:_PUSHBACK_DIGITS])
    made = _make(code, text, details, pushback_ms)
    if code == "UNAVAILABLE" and not made.reason and pushback_ms is None:
        return Unreachable(text, code=code, retryable=True)
    return made


def breaks_for_good(error: TrackdError) -> bool:
    """Whether a stream that ended with this error would end so again: opening another one is useless.

    INTERNAL and UNKNOWN are what gRPC reports for connections cut off in the middle, so they are tried again.
    """
    return error.retry_after_ms is None and error.code not in _BROKEN_STREAM_CODES


def _trailers(error: grpc.RpcError) -> Iterable[tuple[str, str | bytes]]:
    if not isinstance(error, _WITH_STATUS):
        return ()
    return [(str(key), value) for key, value in error.trailing_metadata() or ()]


def _make(code: str, text: str, details: Iterable[Any], pushback_ms: int | None = None) -> TrackdError:
    reason = hint = ""
    retry_after_ms = pushback_ms
    for detail in details:
        info, retry = ErrorInfo(), RetryInfo()
        try:
            if detail.Unpack(info):
                reason, hint = info.reason, info.metadata.get("hint", "")
            elif detail.Unpack(retry):
                retry_after_ms = retry.retry_delay.ToMilliseconds()
        except DecodeError:
            continue  # garbled; the code still says something
    return _KINDS.get(code, TrackdError)(
        text or code,
        code=code,
        reason=reason,
        hint=hint,
        retryable=code in _RETRYABLE_CODES or retry_after_ms is not None,
        retry_after_ms=retry_after_ms,
    )
