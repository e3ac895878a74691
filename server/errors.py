"""Everything that can go wrong, as one tree.

Each error has a machine `reason` (UPPER_SNAKE; the same word on the wire, in metrics and in logs), a message for the
developer who caused it, and a `hint` that says what to do. The kind (the direct subclasses of TrackdError) decides how
it is answered; server/rpc/status.py maps kinds to gRPC statuses in one table.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import ClassVar, Self

import structlog

log = structlog.get_logger(__name__)


class TrackdError(Exception):
    """Root of all errors that trackd raises on purpose."""

    owed: ClassVar[bool] = False
    """Whether the daemon owes what was asked for, as UNAVAILABLE and INTERNAL say. Other errors are the asker's own."""

    def __init__(
        self, reason: str, message: str, *, hint: str = "", field: str = "", retry_after_ms: int | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint
        self.field = field
        self.retry_after_ms = retry_after_ms

    def again(self) -> Self:
        """The same error anew. An exception that is raised twice keeps the frames of both, and all they hold."""
        return self._anew()

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[Callable[[], Self], tuple[()]]:
        """Pickled for another process; what the standard library does forgets all but the message."""
        return self._anew, ()

    @property
    def _anew(self) -> Callable[[], Self]:
        return partial(
            type(self),
            self.reason,
            self.message,
            hint=self.hint,
            field=self.field,
            retry_after_ms=self.retry_after_ms,
        )


class Invalid(TrackdError):
    """The request itself is at fault; sending it again unchanged fails again."""


class Unavailable(TrackdError):
    """Not now: overload, a full disk, a daemon that is stopping. The same may succeed after `retry_after_ms`."""

    owed = True


class Exhausted(TrackdError):
    """A limit of the operator is reached. The same may succeed after `retry_after_ms`; without one it fails again.

    Clients drop data that is refused without a delay.
    """


class Precondition(TrackdError):
    """The request is well-formed and the state of the store forbids it."""


class Unauthenticated(TrackdError):
    """Nobody knows who is calling: no token, or none that is valid."""


class PermissionDenied(TrackdError):
    """Who is calling is known and may not do this."""


class NotFound(TrackdError):
    """The thing asked about does not exist."""


class PositionOutOfRange(TrackdError):
    """A position or cursor that is outside of what is kept."""


class DeadlineExceeded(TrackdError):
    """It took longer than allowed and was stopped."""


class Corrupt(TrackdError):
    """Stored data is damaged or of a format that this version does not know."""

    owed = True


class StoreFailed(TrackdError):
    """The store met an I/O error whose outcome is unknown. Nothing may be acknowledged; the daemon must restart."""

    owed = True


class Internal(TrackdError):
    """A defect of trackd."""

    owed = True


class ConfigurationError(TrackdError):
    """The operator's settings are not usable; the message lists every problem with its key."""

    owed = True


def unexpected(error: BaseException) -> Internal:
    """A defect: the sender gets a correlation id, the log the rest. An exception's text never leaves the daemon."""
    correlation = secrets.token_hex(6)
    log.error("unexpected_error", correlation=correlation, exc_info=error)
    return Internal(
        "INTERNAL", f"an unexpected error occurred; its number in the daemon's log is {correlation}", hint="report it"
    )
