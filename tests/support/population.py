"""A few months of varied events to ask questions about."""

from __future__ import annotations

import random

from server.model import Event
from server.storage.contract import Store
from tests.support.events import Sent, append, make_event, read

MONTHS = ("2025-09", "2025-10", "2025-11", "2025-12", "2026-01")
OFFSETS_MS = (0, 1, 86_400_000, -1)
"""Few instants, so that many events share one; the first and the last of a month among them."""
TYPES = ("pr_merged", "pr_opened", "review_submitted")
USERS = ("", "ann", "bob", "李雷")
SOURCES = ("ci", "reviews", "web")
TAGS = ("auth", "backend", "Backend", "ui")


def populate(store: Store, *, events: int = 150, seed: int = 7) -> list[Event]:
    """Appends so many events in no order of time, in several batches; returns them as the store holds them."""
    chance = random.Random(seed)
    sent = [_event(number, chance) for number in range(events)]
    for start in range(0, events, 13):
        append(store, *sent[start : start + 13], source=chance.choice(SOURCES))
    return read(store)


def _event(number: int, chance: random.Random) -> Sent:
    return make_event(
        number,
        chance.choice(MONTHS),
        chance.choice(OFFSETS_MS),
        type=chance.choice(TYPES),
        user_id=chance.choice(USERS),
        session_id=chance.choice(("", "s-1", "s-2")),
        tags=tuple(chance.sample(TAGS, chance.choice((0, 0, 1, 2, 4)))),
        metadata=chance.choice(("", "{}", '{"a": "auth"}')),
    )
