"""A made-up history of pull-request reviews, for where there is no git: seeded, the same story each time."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

import orjson
import trackd

from server.cli.importing.identity import content_id

DAY_MS = 86_400_000
DAYS = 425
"""About fourteen months."""

_PEOPLE = (
    ("ada", 9), ("ben", 7), ("chidi", 6), ("dora", 5), ("emil", 4), ("fatima", 4), ("goran", 3), ("hana", 3),
    ("ines", 2), ("jun", 2), ("kofi", 1), ("lena", 1),
)  # fmt: skip
_PARTS = (("api", 6), ("docs", 3), ("storage", 5), ("web", 4), ("deploy", 2), ("tests", 5))
_HOUR_MS = 3_600_000


def sample_events(now_ms: int, *, seed: int = 7, pull_requests: int = 900) -> Iterator[trackd.Event]:
    """The events by pull request, not by time: none after `now_ms`, the first about fourteen months before."""
    rng = random.Random(seed)
    start_ms = now_ms - DAYS * DAY_MS
    for number in range(1, pull_requests + 1):
        # The project grows: later pull requests are closer together.
        opened_ms = start_ms + int((DAYS - 3) * DAY_MS * (number / (pull_requests + 1)) ** 0.7)
        yield from _pull_request(rng, number, opened_ms, now_ms)


def _pull_request(rng: random.Random, number: int, opened_ms: int, now_ms: int) -> Iterator[trackd.Event]:
    author, *reviewers = _pick(rng, _PEOPLE, 1 + rng.choice((1, 1, 2, 2, 3)))
    tags = _pick(rng, _PARTS, rng.choice((1, 1, 2)))
    at_ms = opened_ms + rng.randrange(10 * _HOUR_MS)
    size = {"files": rng.randint(1, 20), "insertions": int(rng.expovariate(1 / 90)), "deletions": rng.randrange(60)}
    yield _event("pr_opened", author, at_ms, tags, {"pr": number} | size)
    for reviewer in reviewers:
        at_ms += rng.randrange(_HOUR_MS // 4, 20 * _HOUR_MS)
        if at_ms >= now_ms:
            return
        for _ in range(rng.choice((0, 1, 1, 2, 4))):
            yield _event("review_commented", reviewer, at_ms - rng.randrange(_HOUR_MS // 4), tags, {"pr": number})
        state = rng.choices(("approved", "changes_requested"), (4, 1))[0]
        yield _event("review_submitted", reviewer, at_ms, tags, {"pr": number, "state": state})
        if state == "changes_requested":
            at_ms += rng.randrange(_HOUR_MS, 9 * _HOUR_MS)
            yield _event("pr_updated", author, min(at_ms, now_ms), tags, {"pr": number})
    at_ms += rng.randrange(_HOUR_MS // 2, 12 * _HOUR_MS)
    if at_ms < now_ms:
        end = "pr_merged" if rng.random() < 0.9 else "pr_closed"
        yield _event(end, rng.choice(reviewers), at_ms, tags, {"pr": number, "author": author})


def _pick(rng: random.Random, weighted: tuple[tuple[str, int], ...], count: int) -> list[str]:
    """So many different ones, heavier ones more often."""
    picked: dict[str, None] = {}
    names, weights = zip(*weighted, strict=True)
    while len(picked) < count:
        picked[rng.choices(names, weights)[0]] = None
    return list(picked)


def _event(kind: str, user: str, timestamp_ms: int, tags: list[str], data: Mapping[str, object]) -> trackd.Event:
    metadata = orjson.dumps({"repo": "sample", **data}).decode()
    id_ = content_id(timestamp_ms, (kind, user, tags, metadata))
    return trackd.Event(id=id_, type=kind, user_id=user, timestamp_ms=timestamp_ms, tags=tags, metadata=metadata)
