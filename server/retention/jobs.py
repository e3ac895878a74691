"""Runs of retention as jobs: started, watched, cancelled; one at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum

from retention.applying import Progress, Receipt
from retention.port import Stopped
from server.errors import TrackdError

KEPT = 50
"""Jobs that ended and can still be asked about; what they did is in the evidence for good."""


class JobState(StrEnum):
    """Where a job is."""

    RUNNING = "running"
    DONE = "done"
    """Whatever was to be done was tried: the receipt says how each action ended."""
    FAILED = "failed"
    """It did not come to a receipt."""
    CANCELLED = "cancelled"
    """Ended by request, between two actions or in one, which then had no effect."""


@dataclass
class Job:
    """One run."""

    number: int
    plan_id: str
    actor: str
    started_ms: int
    state: JobState = JobState.RUNNING
    progress: Progress | None = None
    receipt: Receipt | None = None
    error: TrackdError | None = None
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def cancel(self) -> None:
        """Asks it to end soon."""
        self._cancelled.set()

    def unless_cancelled(self) -> None:
        """On the job's thread: raises Stopped once it was cancelled."""
        if self._cancelled.is_set():
            raise Stopped

    def moved(self) -> None:
        """On the event loop: something about it has changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    def end(self, *, receipt: Receipt | None = None, error: TrackdError | None = None) -> None:
        """On the event loop: it is over."""
        self.receipt, self.error = receipt, error
        cancelled = self._cancelled.is_set() and not (receipt and receipt.complete)
        self.state = JobState.FAILED if error else JobState.CANCELLED if cancelled else JobState.DONE
        self.moved()

    async def watch(self) -> AsyncIterator[Job]:
        """The job now, and after each change, until it has ended."""
        while True:
            changed = self._changed
            yield self
            if self.state is not JobState.RUNNING:
                return
            await changed.wait()
