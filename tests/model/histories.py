"""What random histories are made of: few ids, months and texts, so that events often collide."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from server.model import Action, Change, EventFilter
from tests.support.events import Sent, make_id, ms

MONTHS = ("2025-10", "2025-11", "2025-12", "2026-01")
TYPES = ("pr_opened", "review_submitted", "ünïcode")
USERS = ("", "ann", "李雷")
TAGS = ("auth", "ui")
_OFFSETS_MS = (0, 0, 0, 5, -1)
"""Mostly the same instant of a month: an id that comes again is then often the same event."""
TIMES_MS = [ms(month, offset_ms) for month in (*MONTHS[:3] * 4, MONTHS[3]) for offset_ms in _OFFSETS_MS]
"""The last month comes up seldom, so that few events are sent for nothing because it finds no place."""

_CHANGES = (
    Change("pulls", "1", Action.UPDATE, '{"a": 1, "b": 2}', '{"a": 2}'),
    Change("pulls", "1", Action.UPDATE, '{"b":2,"a":1}', '{"a":2}'),
    Change("pulls", "2", Action.CREATE, rows_affected=0),
)
_METADATA = (
    "",
    '{"a": 1, "b": [1]}',
    '{"b":[1],"a":1}',
    '{"a": 1, "b": [2]}',
    '{"a": 2.50, "b": true}',
    '{"a": "x"}',
    '{"a": null, "b": 4}',
)

_ids = st.integers(0, 19).map(make_id)
_times = st.sampled_from(TIMES_MS)


@st.composite
def _events(draw: st.DrawFn, times: st.SearchStrategy[int] = _times) -> Sent:
    """Mostly plain, so that repeats are duplicates about as often as they are conflicts."""
    plain = Sent(id=draw(_ids), timestamp_ms=draw(times))
    if draw(st.integers(0, 3)):
        return plain
    return Sent(
        id=plain.id,
        timestamp_ms=plain.timestamp_ms,
        type=draw(st.sampled_from(TYPES)),
        user_id=draw(st.sampled_from(USERS)),
        session_id=draw(st.sampled_from(["", "s-1"])),
        client_ip=draw(st.sampled_from(["", "192.0.2.1"])),
        description=draw(st.sampled_from(["", "first", "second"])),
        tags=draw(st.sampled_from([(), ("auth",), ("auth", "ui"), ("ui", "auth")])),
        metadata=draw(st.sampled_from(_METADATA)),
        change=draw(st.none() | st.sampled_from(_CHANGES)),
    )


def batches(size: int = 30, *, least: int = 0) -> st.SearchStrategy[Sequence[Sent]]:
    """Batches of `least` to `size` events over all months."""
    return st.lists(_events(), min_size=least, max_size=size)


def atomic_batches(size: int = 12) -> st.SearchStrategy[Sequence[Sent]]:
    """Batches of 0 to `size` events of one month."""
    return st.sampled_from(MONTHS).flatmap(
        lambda month: st.lists(_events(st.sampled_from([ms(month, offset) for offset in _OFFSETS_MS])), max_size=size)
    )


def retold(event: Sent) -> st.SearchStrategy[Sent]:
    """The event again: as it was, in other words of the same meaning, or with something else in it."""
    words = [event, event, replace(event, metadata=_respelled(event.metadata))]
    others = [replace(event, description="else"), replace(event, tags=event.tags[::-1])]
    if event.change:
        change = event.change
        words += [replace(event, change=replace(change, old_values=_respelled(change.old_values)))]
        others += [replace(event, change=None), replace(event, change=replace(change, rows_affected=7))]
    return st.sampled_from(words) | st.sampled_from([*words, *words, *others])


def _respelled(text: str) -> str:
    """The same JSON value as another text."""
    return text and " " + json.dumps(dict(reversed(json.loads(text).items())), indent=1)


declarations = st.tuples(st.sampled_from([*TYPES, "unused"]), st.sampled_from(["", "one", "two"]), st.integers(1, 9))
"""Name, description and time of a declared type."""


@dataclass(frozen=True)
class Question:
    """Which events, in terms that fit two stores with different positions.

    A share between 0 and 1 stands for the position that was the last one when so much of the history was stored.
    """

    where: EventFilter
    low: float | None
    """Share: after_position."""
    high: float | None
    """Share: up_to_position."""
    cut: float | None
    """Share: as_of; None: the head."""
    behind: tuple[int, float] | None
    """Time and share: where the first page begins."""


def questions() -> st.SearchStrategy[Question]:
    """Questions of which most parts are not set."""
    share = st.floats(0, 1)
    rarely = st.none() | st.none()
    return st.builds(
        Question,
        where=st.builds(
            EventFilter,
            start_ms=rarely | _times,
            end_ms=rarely | _times,
            types=_some(TYPES),
            user_ids=_some(USERS),
            sources=_some(("reviews", "s1", "s2")),
            session_ids=_some(("", "s-1")),
            tags=_some(TAGS),
        ),
        low=rarely | share,
        high=rarely | share,
        cut=st.none() | share,
        behind=rarely | st.tuples(_times, share),
    )


def _some(values: Sequence[str]) -> st.SearchStrategy[tuple[str, ...]]:
    """Often nothing, else one or several of the values and perhaps one that no event has."""
    chosen = st.lists(st.sampled_from([*values, "nowhere"]), min_size=1, max_size=3).map(tuple)
    return st.just(()) | st.just(()) | st.just(()) | chosen
