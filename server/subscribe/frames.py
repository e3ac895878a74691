"""What a subscriber is told, one frame after the other. The surface gives them their form on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from retention.month import Month


class GapReason(StrEnum):
    """Why events of a month cannot be delivered."""

    DAMAGED = "damaged"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The subscription stands: events behind `after` will come. Comes first, once."""

    after: int
    head: int


@dataclass(frozen=True, slots=True)
class Events:
    """Matching events, encoded already: the page as it goes out. `last` is the position of its last event."""

    encoded: bytes
    events: int
    last: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of this month may be missing from now on."""

    month: Month
    reason: GapReason


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything up to here that matches has been sent."""

    position: int


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """The end of what was there is reached."""

    head: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing happened for a while; everything up to the head that matches has been sent."""

    head: int


Frame: TypeAlias = Confirmed | Events | Gap | Checkpoint | CaughtUp | Heartbeat
