"""What the puller needs of a consumer group: the real Redis does it, and so does the one in memory of other tests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import pytest
import redis

from server.cli.pulling.entry import Entry
from server.cli.pulling.ledger import Refusal, Settlement
from server.cli.pulling.streams import RedisAway, RedisRefused, RedisStreams, Streams
from tests.redis.conftest import RedisProcess
from tests.support.streams import FakeStreams, Group, Key, says


class Home(ABC):
    """A group `g` over the streams `s` and `r`."""

    @abstractmethod
    def consumer(self, name: str = "one") -> Streams:
        """One of its consumers."""

    @abstractmethod
    def add(self, stream: str, *contents: list[bytes]) -> list[Key]:
        """Adds entries."""

    @abstractmethod
    def delete(self, stream: str, identifier: str) -> None:
        """Deletes one."""

    @abstractmethod
    def later(self) -> None:
        """Lets all that was given be idle for a minute."""

    @abstractmethod
    def pending(self) -> list[Key]:
        """What was given and not acknowledged."""

    @abstractmethod
    def dead(self) -> list[tuple[str, str, str]]:
        """Dead letters: stream, entry and reason."""


class FakeHome(Home):
    """In memory."""

    def __init__(self) -> None:
        self._group = Group(streams={"s": {}, "r": {}})

    def consumer(self, name: str = "one") -> Streams:
        return FakeStreams(self._group, name, ("s", "r"))

    def add(self, stream: str, *contents: list[bytes]) -> list[Key]:
        return self._group.add(stream, *contents)

    def delete(self, stream: str, identifier: str) -> None:
        self._group.trim((stream, identifier))

    def later(self) -> None:
        self._group.now_s += 60.0

    def pending(self) -> list[Key]:
        return sorted(self._group.pending)

    def dead(self) -> list[tuple[str, str, str]]:
        return [(*refusal.entry.key, refusal.reason) for refusal in self._group.dead]


class RealHome(Home):
    """The real one."""

    def __init__(self, server: RedisProcess, client: Any) -> None:
        self._server = server
        self._client = client
        for stream in ("s", "r"):
            client.xgroup_create(stream, "g", "0", mkstream=True)

    def consumer(self, name: str = "one") -> Streams:
        return RedisStreams(self._server.url, ("s", "r"), "g", name, "dead")

    def add(self, stream: str, *contents: list[bytes]) -> list[Key]:
        return [(stream, self._client.execute_command("XADD", stream, "*", *content)) for content in contents]

    def delete(self, stream: str, identifier: str) -> None:
        self._client.xdel(stream, identifier)

    def later(self) -> None:
        for stream, identifier in self.pending():
            (told,) = self._client.xpending_range(stream, "g", identifier, identifier, 1)
            # A deleted one could not be claimed like this: deletes come behind.
            assert self._client.xclaim(stream, "g", told["consumer"], 0, [identifier], idle=60_000)

    def pending(self) -> list[Key]:
        return sorted(
            (stream, told["message_id"])
            for stream in ("s", "r")
            for told in self._client.xpending_range(stream, "g", "-", "+", 100)
        )

    def dead(self) -> list[tuple[str, str, str]]:
        told = [fields for _, fields in self._client.xrange("dead")]
        return [(one["trackd.stream"], one["trackd.entry"], one["trackd.reason"]) for one in told]


@pytest.fixture(params=["memory", "redis"])
def home(request: pytest.FixtureRequest) -> Home:
    """Each test is about both."""
    if request.param == "memory":
        return FakeHome()
    return RealHome(request.getfixturevalue("server"), request.getfixturevalue("client"))


def keys(entries: Sequence[Entry]) -> list[Key]:
    """Their names."""
    return [entry.key for entry in entries]


def test_new_entries_are_given_to_one_consumer_each(home: Home) -> None:
    """So many of each stream, in order, with every field as it was written."""
    first = home.add("s", says(type="a"), [b"x", b"1", b"x", b"\xff"], says(type="c"))
    second = home.add("r", says(type="d"))
    one, two = home.consumer("one"), home.consumer("two")
    assert one.read(2, 0) == [
        Entry("s", first[0][1], says(type="a")),
        Entry("s", first[1][1], [b"x", b"1", b"x", b"\xff"]),
        Entry("r", second[0][1], says(type="d")),
    ]
    assert keys(two.read(2, 0)) == first[2:]
    assert one.read(2, 0) == two.read(2, 5) == []
    assert home.pending() == sorted(first + second)


def test_what_a_consumer_was_given_is_told_again_until_it_is_acknowledged(home: Home) -> None:
    """To itself only, page by page behind an entry; a deleted one without content."""
    given = home.add("s", *(says(type=str(n)) for n in range(5)))
    one, two = home.consumer("one"), home.consumer("two")
    entries = one.read(5, 0)
    assert one.pending("s", "0", 3) == entries[:3]
    assert one.pending("s", entries[2].id, 3) == entries[3:]
    assert two.pending("s", "0", 3) == []
    one.settle(Settlement(acknowledge=entries[1:3]))
    home.delete(*given[0])
    assert one.pending("s", "0", 3) == [Entry(*given[0], []), *entries[3:]]


def test_what_was_left_behind_is_claimed_when_it_has_been_idle(home: Home) -> None:
    """From anybody; what was deleted meanwhile is named once, and then forgotten."""
    given = home.add("s", *(says(type=str(n)) for n in range(4)))
    one, two = home.consumer("one"), home.consumer("two")
    one.read(2, 0)
    two.read(2, 0)
    assert (two.claim("s", "0-0", 30_000, 10).entries, two.claim("r", "0-0", 0, 10).entries) == ([], [])
    home.later()
    home.delete(*given[1])
    step = two.claim("s", "0-0", 30_000, 10)
    assert sorted(step.entries) == [
        Entry(*key, [] if place == 1 else says(type=str(place))) for place, key in enumerate(given)
    ]
    assert step.cursor is None
    assert two.claim("s", "0-0", 30_000, 10).entries == []
    assert keys(two.pending("s", "0", 10)) == [given[0], *given[2:]]
    assert home.pending() == [given[0], *given[2:]]


def test_dead_letters_are_written_once_however_often_it_is_tried(home: Home) -> None:
    """And not at all for an entry that somebody else has brought to its end."""
    given = home.add("s", *(says(type=str(n)) for n in range(3)))
    one = home.consumer()
    entries = one.read(3, 0)
    one.settle(Settlement(acknowledge=entries[:1]))
    settlement = Settlement(entries[:1], [Refusal(entry, "BAD", "why") for entry in entries[:2]])
    one.settle(settlement)
    one.settle(settlement)
    assert home.dead() == [(*given[1], "BAD")]
    assert home.pending() == [given[2]]


def test_a_dead_letter_holds_the_entry_as_it_was(server: RedisProcess, client: Any) -> None:
    """Behind the reason, every field, whatever it holds; very many of them as one value in MessagePack."""
    home = RealHome(server, client)
    odd = [b"x", b"1", b"x", b"\xff\x00", b"", b""]
    home.add("s", odd, [b"f"] * 20_000)
    one = home.consumer()
    one.settle(Settlement(dead=[Refusal(entry, "BAD", "wh\u00fd") for entry in one.read(2, 0)]))
    with redis.Redis(unix_socket_path=str(server.socket), protocol=2) as raw:
        raw.set_response_callback("XRANGE", lambda answer, **_: answer)
        (_, first), (_, second) = raw.xrange("dead")
    assert first[8:] == odd
    assert first[:4] == [b"trackd.reason", b"BAD", b"trackd.message", "wh\u00fd".encode()]
    assert second[8] == b"trackd.content"
    assert len(second[9]) > 20_000
    assert home.pending() == []


def test_a_claim_goes_through_many_entries_step_by_step(server: RedisProcess, client: Any) -> None:
    """The cursor leads to the end."""
    home = RealHome(server, client)
    given = home.add("s", *(says(type=str(n)) for n in range(25)))
    home.consumer("gone").read(100, 0)
    one, cursor, claimed, steps = home.consumer(), "0-0", [], 0
    while cursor is not None:
        step = one.claim("s", cursor, 0, 10)
        claimed += keys(step.entries)
        cursor, steps = step.cursor, steps + 1  # type: ignore[assignment]
    assert (claimed, steps) == (given, 3)


def test_errors_say_what_is_wrong_and_never_quote_an_entry(server: RedisProcess, client: Any) -> None:
    """No group, a key of another kind, a dead-letter stream that is none; nobody there is another thing."""
    home = RealHome(server, client)
    home.add("s", says(type="secret"))
    entries = home.consumer().read(1, 0)
    client.set("dead", "no stream")
    with pytest.raises(RedisRefused, match="WRONGTYPE") as refused:
        home.consumer().settle(Settlement(dead=[Refusal(entries[0], "BAD", "secret")]))
    assert "secret" not in str(refused.value)
    assert len(home.pending()) == 1, "an entry that could not be copied must not be acknowledged"
    with pytest.raises(RedisRefused, match="--create-group"):
        RedisStreams(server.url, ("nothing",), "g", "one", None).read(1, 0)
    with pytest.raises(RedisRefused, match="WRONGTYPE"):
        RedisStreams(server.url, ("dead",), "g", "one", None).prepare("0")
    server.kill()
    with pytest.raises(RedisAway):
        home.consumer().read(1, 0)


def test_a_group_is_created_where_it_is_missing_and_kept_where_it_is(server: RedisProcess, client: Any) -> None:
    """With all that is there, or with what comes from now on; never moved back."""
    client.xadd("new", {"type": "t"})
    everything = RedisStreams(server.url, ("new",), "all", "one", None)
    from_now = RedisStreams(server.url, ("new",), "now", "one", None)
    with pytest.raises(RedisRefused, match="--create-group"):
        everything.prepare(None)
    everything.prepare("0")
    from_now.prepare("$")
    assert (len(everything.read(9, 0)), len(from_now.read(9, 0))) == (1, 0)
    everything.prepare("0")
    everything.prepare(None)
    assert everything.read(9, 0) == []
