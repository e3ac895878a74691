"""Redis as this command needs it: a consumer group over some streams. The only module that knows its library."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import msgspec
import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from server.cli.pulling import address
from server.cli.pulling.entry import Entry
from server.cli.pulling.ledger import Settlement

ANSWER_TIMEOUT_S = 15.0
"""Longer than any read waits for entries."""
CONNECT_TIMEOUT_S = 5.0
_NOT_NOW = ("MISCONF", "NOREPLICAS", "TRYAGAIN", "UNBLOCKED")
"""Beginnings of answers about something that may pass; the library has no classes for them."""
_AWAY = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.ClusterDownError,
)
_KEPT = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) > 0 then
  redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3))
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
end
"""
"""Copies an entry to the dead-letter stream and acknowledges it, both or neither, and once however often it is run."""
_CONTENT_MAX = 6_000
"""Names and values of an entry that is copied as it is: a script can pass on some thousands. More become one field."""


class RedisAway(Exception):
    """Redis cannot be reached, or cannot do it now. The outcome of the command is unknown; trying again is safe."""


class RedisRefused(Exception):
    """Redis will not do this, now or later. The text is fit for people: it holds no password."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """One step through what others left behind. `cursor` is where the next begins, None at the end."""

    entries: Sequence[Entry]
    cursor: str | None


class Streams(Protocol):
    """A consumer of a group over some streams. Everything raises RedisAway and RedisRefused."""

    names: Sequence[str]

    def pending(self, stream: str, after: str, count: int) -> list[Entry]:
        """What was given to this consumer before and is not acknowledged: up to `count` entries behind `after`."""

    def claim(self, stream: str, cursor: str, idle_ms: int, count: int) -> Claimed:
        """Takes over entries that were given to anybody `idle_ms` ago or longer, and not acknowledged."""

    def read(self, count: int, block_ms: int) -> list[Entry]:
        """New entries, up to `count` of each stream; waits for the first up to `block_ms`, with 0 not at all."""

    def settle(self, settlement: Settlement) -> None:
        """Copies the dead to the dead-letter stream and acknowledges all. May be repeated."""


class RedisStreams:
    """The real ones. Thread-safe."""

    def __init__(self, url: str, names: Sequence[str], group: str, consumer: str, dead_letter: str | None) -> None:
        """Connects when it is first used. Raises BadAddress; the address must have passed `address.check`."""
        self.names = names
        self._group = group
        self._consumer = consumer
        self._dead_letter = dead_letter
        # Whatever breaks is our own to notice: entries may have been given to us in an answer that was lost.
        try:
            self._redis = redis.Redis.from_url(
                url,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=ANSWER_TIMEOUT_S,
                socket_connect_timeout=CONNECT_TIMEOUT_S,
            )
            self._redis.connection_pool.make_connection()
        except (TypeError, ValueError, exceptions.RedisError):
            raise address.BadAddress("an option behind ? has a value, or is one, that makes no sense here") from None
        for command in ("XREADGROUP", "XAUTOCLAIM"):
            # As they come: a dictionary would drop all but the last of fields with the same name.
            self._redis.set_response_callback(command, _as_it_is)

    def prepare(self, create_from: str | None) -> None:
        """Sees to it that there is the group at each stream; creates what is missing if `create_from` says where from.

        Raises RedisRefused where the group is missing otherwise.
        """
        for name in self.names:
            if create_from is not None:
                try:
                    self._do("XGROUP", "CREATE", name, self._group, create_from, "MKSTREAM")
                except RedisRefused as refused:
                    if not str(refused).startswith("BUSYGROUP"):
                        raise
            # Fails if stream or group are missing.
            self.pending(name, "0", 1)

    def pending(self, stream: str, after: str, count: int) -> list[Entry]:
        """As promised."""
        return self._read("COUNT", count, "STREAMS", stream, after)

    def read(self, count: int, block_ms: int) -> list[Entry]:
        """As promised."""
        waiting = ("BLOCK", block_ms) if block_ms else ()
        return self._read("COUNT", count, *waiting, "STREAMS", *self.names, *(">" for _ in self.names))

    def claim(self, stream: str, cursor: str, idle_ms: int, count: int) -> Claimed:
        """As promised."""
        answer = self._do("XAUTOCLAIM", stream, self._group, self._consumer, idle_ms, cursor, "COUNT", count)
        following = answer[0].decode()
        # Before version 7 the deleted ones come as nil and stay pending, to be told by `pending` when we start again.
        entries = [_entry(stream, one) for one in answer[1] if one is not None]
        # From then on they are named, once, and are pending no more.
        entries += [Entry(stream, one.decode(), []) for one in answer[2]] if len(answer) > 2 else []
        return Claimed(entries, None if following == "0-0" else following)

    def settle(self, settlement: Settlement) -> None:
        """As promised."""
        pipeline = self._redis.pipeline(transaction=False)
        for stream, ids in _by_stream(settlement.acknowledge).items():
            pipeline.xack(stream, self._group, *ids)
        for refusal in settlement.dead:
            entry = refusal.entry
            told = ["trackd.reason", refusal.reason, "trackd.message", refusal.message]
            told += ["trackd.stream", entry.stream, "trackd.entry", entry.id]
            content = entry.content
            if len(content) > _CONTENT_MAX:
                content = [b"trackd.content", msgspec.msgpack.encode(content)]
            keys = (entry.stream, self._dead_letter or "")
            pipeline.eval(_KEPT, 2, *keys, self._group, entry.id, *told, *content)
        # Raised by itself, an error would quote the command, and with it the entry.
        with self._explained():
            for answer in pipeline.execute(raise_on_error=False):
                if isinstance(answer, exceptions.RedisError):
                    raise answer

    def close(self) -> None:
        """Ends the connections."""
        self._redis.close()

    def _read(self, *options: str | int) -> list[Entry]:
        answer = self._do("XREADGROUP", "GROUP", self._group, self._consumer, *options)
        return [_entry(stream.decode(), one) for stream, entries in answer or () for one in entries]

    def _do(self, *command: str | int) -> Any:
        with self._explained():
            return self._redis.execute_command(*command)  # type: ignore[no-untyped-call]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except exceptions.RedisError as error:
            self._explain(error)
        except OSError as error:
            raise RedisAway(str(error)) from None

    def _explain(self, error: exceptions.RedisError) -> NoReturn:
        text = " ".join(str(error).split())
        if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
            raise RedisRefused(f"Redis refuses the user or the password: {text}") from None
        if isinstance(error, _AWAY) or text.startswith(_NOT_NOW):
            raise RedisAway(text) from None
        if text.startswith("NOGROUP"):
            raise RedisRefused(
                f"there is no group {self._group} at one of the streams {', '.join(self.names)}: create it with "
                "--create-group, and --from 0 for all that is there or --from $ for what comes from now on"
            ) from None
        raise RedisRefused(text) from None


def _as_it_is(answer: Any, **_options: Any) -> Any:
    return answer


def _entry(stream: str, told: Any) -> Entry:
    identifier, content = told
    return Entry(stream, identifier.decode(), content or [])


def _by_stream(entries: Iterable[Entry]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for entry in entries:
        found[entry.stream].append(entry.id)
    return found
