"""The history that `trackd bench query` asks about: months of events, drawn once, for the daemon and its peers alike.

Chunk by chunk, so that memory stays the same however many events there are. All times differ: which 50 events are the
latest is then the same everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trackd.v1 import ingest_pb2

from retention.month import Month
from server.bench.spool import Spool
from server.bench.traffic import Traffic, uuid7

TYPES = 40
SOURCES = ("api", "mobile", "web", "worker")
TAGS: tuple[tuple[str, ...], ...] = ((), ("docs",), ("backend",), ("security",), ("backend", "security"))
TAG_SHARES = (0.6, 0.15, 0.15, 0.05, 0.05)
REPOS = 50
WITHOUT_REPO_SHARE = 0.1
LATE_SHARE = 0.03
LATE_MEAN_MS = 6 * 3_600_000
LIVE_MS = 86_400_000
"""The end of the last month, kept free for events that come while questions are asked."""
CHUNK_EVENTS = 100_000

_ROW = np.dtype(
    [
        ("due", np.int64),
        ("number", np.int64),
        ("at", np.int64),
        ("type", np.int16),
        ("user", np.int32),
        ("session", np.int32),
        ("tags", np.int8),
        ("repo", np.int16),
        ("ms", np.float64),
    ]
)
_CONTENT = ["type", "user", "session", "tags", "repo", "ms"]


@dataclass(frozen=True)
class History:
    """What happened. Its fields decide every byte of it."""

    events: int
    first: Month
    months: int
    users: int
    batch: int
    seed: int
    skew: float = 0.0
    """How uneven users are: the n-th of them has a weight of n to the power of minus this."""

    @cached_property
    def starts_ms(self) -> Sequence[int]:
        """Where each month begins, and where the last one ends."""
        starts, month = [self.first.start_ms], self.first
        for _ in range(self.months):
            starts.append(month.end_ms)
            month = month.next()
        return starts

    @property
    def start_ms(self) -> int:
        """The first millisecond of the first month."""
        return self.starts_ms[0]

    @property
    def end_ms(self) -> int:
        """The first millisecond after the last month."""
        return self.starts_ms[-1]

    @property
    def live_ms(self) -> int:
        """All events are before this; live ones begin here."""
        return self.end_ms - LIVE_MS

    def write(self, spool: Spool, table: Path, say: Callable[[int], None]) -> None:
        """Writes the events as stream messages, and as lines in the text format of COPY.

        The columns of a line: id, type, user, source, time, session, tags, metadata; types, users and sources are the
        numbers in their names. The n-th message is of the source n modulo their number. `say` hears how many are done.
        """
        written = messages = 0
        with table.open("w", encoding="utf-8") as lines:
            for rows in self._arrivals():
                for at in range(0, len(rows), self.batch):
                    message, text = self._encode(rows[at : at + self.batch], messages % len(SOURCES))
                    spool.append(message)
                    lines.write(text)
                    messages += 1
                written += len(rows)
                say(written)
        spool.close()

    def _encode(self, rows: NDArray[Any], source: int) -> tuple[bytes, str]:
        request = ingest_pb2.AppendStreamRequest()
        add = request.batch.events.add
        times = np.datetime_as_string(rows["at"].astype("datetime64[ms]")).tolist()
        lines = []
        numbers, instants, contents = rows["number"].tolist(), rows["at"].tolist(), rows[_CONTENT].tolist()
        for number, at, time, (kind, user, session, tags, repo, ms) in zip(
            numbers, instants, times, contents, strict=True
        ):
            identity = uuid7(at, number, self.seed)
            held = _content(kind, user, session, tags, repo, ms)
            add(id=identity, timestamp_ms=at, **held)
            labels = ",".join(held["tags"])
            lines.append(
                f"{identity.hex()}\t{kind}\t{user}\t{source}\t{time}\t{session}\t{{{labels}}}\t{held['metadata']}\n"
            )
        return request.SerializeToString(), "".join(lines)

    def _arrivals(self) -> Iterator[NDArray[Any]]:
        """The rows as they arrive: whole batches at a time, the rest at the end."""
        random = np.random.default_rng(self.seed)
        waiting = np.empty(0, _ROW)
        for low in range(0, self.events, CHUNK_EVENTS):
            high = min(self.events, low + CHUNK_EVENTS)
            waiting = np.concatenate([waiting, self._draw(random, low, high)])
            waiting = waiting[np.argsort(waiting["due"], kind="stable")]
            here = len(waiting) if high == self.events else int(np.searchsorted(waiting["due"], high))
            here -= here % self.batch if high < self.events else 0
            yield waiting[:here]
            waiting = waiting[here:]

    def _draw(self, random: np.random.Generator, low: int, high: int) -> NDArray[Any]:
        rows = np.empty(high - low, _ROW)
        number = np.arange(low, high)
        span = self.live_ms - self.start_ms
        slots = self.start_ms + np.arange(low, high + 1) * span // self.events
        late = random.random(len(rows)) < LATE_SHARE
        delay_ms = np.where(late, random.exponential(LATE_MEAN_MS, len(rows)), 0.0)
        rows["due"] = number + (delay_ms * self.events / span).astype(np.int64)
        rows["number"] = number
        # One event a slot of time and anywhere in it: no two have the same.
        rows["at"] = slots[:-1] + (random.random(len(rows)) * np.diff(slots)).astype(np.int64)
        rows["type"] = random.integers(TYPES, size=len(rows))
        rows["user"] = self._users(random, len(rows))
        rows["session"] = random.integers(1_000_000, size=len(rows))
        rows["tags"] = np.searchsorted(np.cumsum(TAG_SHARES)[:-1], random.random(len(rows)), side="right")
        repo = random.integers(REPOS, size=len(rows))
        rows["repo"] = np.where(random.random(len(rows)) < WITHOUT_REPO_SHARE, -1, repo)
        rows["ms"] = np.round(random.lognormal(4.0, 1.0, len(rows)), 2)
        return rows

    def _users(self, random: np.random.Generator, count: int) -> NDArray[np.int64]:
        if not self.skew:
            return random.integers(self.users, size=count)
        users: NDArray[np.int64] = np.searchsorted(
            self._weights, random.random(count) * self._weights[-1], side="right"
        )
        return users

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        return np.cumsum(np.arange(1, self.users + 1, dtype=np.float64) ** -self.skew)


class LiveTraffic(Traffic):
    """Events like those of a history that happen where it ends, one a millisecond."""

    def __init__(self, seed: int, *, start_ms: int, users: int) -> None:
        super().__init__(seed, start_ms=start_ms, events_per_ms=1)
        self._users = users

    def content(self, random: random.Random) -> dict[str, Any]:
        draw = random.randrange
        tags = random.choices(range(len(TAGS)), TAG_SHARES)[0]
        ms = round(random.lognormvariate(4.0, 1.0), 2)
        return _content(draw(TYPES), draw(self._users), draw(1_000_000), tags, draw(REPOS), ms)


def type_name(number: int) -> str:
    """How the type of a number is called. In all names the digits at the end are the number."""
    return f"type_{number:02d}"


def user_name(number: int) -> str:
    """How the user of a number is called."""
    return f"user-{number:07d}"


def _content(kind: int, user: int, session: int, tags: int, repo: int, ms: float) -> dict[str, Any]:
    at = f'"repo":"repo-{repo:02d}",' if repo >= 0 else ""
    return {
        "type": type_name(kind),
        "user_id": user_name(user),
        "session_id": f"s{session:06d}",
        "tags": TAGS[tags],
        "metadata": f'{{{at}"ms":{ms:.2f}}}',
    }
