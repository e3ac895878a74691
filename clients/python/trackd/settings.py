"""How a Tracker works, checked once, and what it tells of itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from trackd.backoff import Backoff
from trackd.channel import Endpoint
from trackd.framing import EVENT_BYTES_MAX, MIB, open_frame
from trackd.intake import Intake
from trackd.outcomes import Rejection

WhenFull = Literal["drop", "block", "spill"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of Tracker, see there. ValueError for what cannot be."""

    endpoint: Endpoint
    source: str
    when_full: WhenFull = "drop"
    block_timeout_s: float = 1.0
    spill_directory: Path | None = None
    spill_bytes: int = 1024 * MIB
    buffer_events: int = 100_000
    buffer_bytes: int = 64 * MIB
    batch_events: int = 1_000
    batch_bytes: int = MIB
    max_delay_s: float = 0.1
    exit_timeout_s: float = 5.0
    answer_timeout_s: float = 20.0
    backoff: Backoff = field(default_factory=Backoff)
    on_rejected: Callable[[Rejection], None] | None = None

    def __post_init__(self) -> None:
        if not self.source:
            raise ValueError("source must name the service that tracks")
        if self.when_full not in get_args(WhenFull):
            raise ValueError(f"when_full must be one of {', '.join(get_args(WhenFull))}, not {self.when_full!r}")
        if (self.when_full == "spill") != (self.spill_directory is not None):
            raise ValueError('when_full="spill" and spill_directory go together: give both or neither')
        for name in ("spill_bytes", "buffer_events", "buffer_bytes", "batch_events", "batch_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("block_timeout_s", "max_delay_s", "exit_timeout_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if self.answer_timeout_s <= 0:
            raise ValueError("answer_timeout_s must be positive")

    @property
    def opening(self) -> bytes:
        """How a stream begins. Acknowledged means on disk: a Tracker has no use for less."""
        return open_frame(self.source, "durable")

    def new_intake(self, *, may_block: Callable[[], bool]) -> Intake:
        """An empty buffer."""
        return Intake(
            events_max=self.buffer_events,
            bytes_max=self.buffer_bytes,
            batch_events=min(self.batch_events, self.buffer_events),
            batch_bytes=min(self.batch_bytes, self.buffer_bytes, EVENT_BYTES_MAX),
            max_delay_s=self.max_delay_s,
            block_s=min(self.block_timeout_s, threading.TIMEOUT_MAX) if self.when_full == "block" else None,
            may_block=may_block,
        )

    def new_backoff(self) -> Backoff:
        """One that has not failed yet."""
        return Backoff(self.backoff.first_s, self.backoff.max_s, self.backoff.rng)


@dataclass(frozen=True, slots=True)
class Stats:
    """What became of tracked events. tracked + recovered = stored + duplicate + rejected + damaged + unanswered."""

    tracked: int = 0
    """Events that `track` took over, in this process."""
    recovered: int = 0
    """Events that an earlier process had left in spill files."""
    stored: int = 0
    duplicate: int = 0
    """Stored already, by an attempt whose answer was lost: a success."""
    rejected: int = 0
    """Refused by the daemon for good; each went to `on_rejected`."""
    unanswered: int = 0
    """Events without a final answer, in memory or in files."""
    buffered: int = 0
    buffered_bytes: int = 0
    """Those of them that are in memory."""
    in_files: int = 0
    file_bytes: int = 0
    """Those of them that are in spill files, also while they are being sent from there."""
    spilled: int = 0
    """Events written to spill files, ever."""
    damaged: int = 0
    """Events in spill files that could not be read any more."""
    dropped: int = 0
    """Events that `track` did not take: no room (in time), or closed."""
    connected: bool = False
    """Whether a stream to the daemon is open; it is opened with the first batch."""
    last_error: str = ""
    """What went wrong last, for people; it may be over."""
