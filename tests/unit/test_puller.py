"""Pulling from a group in memory to a daemon in memory: cut off anywhere, each entry is stored once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import trackd

from server.cli.pulling.ledger import Settlement
from server.cli.pulling.puller import Plan, Puller, TooManyRefused
from server.cli.pulling.streams import RedisAway, RedisRefused
from tests.support.streams import ONCE, PATIENCE_S, FakeDaemon, FakeStreams, Group, Heard, pulled, says

FOREVER = Plan(batch=10)


def until(true: Callable[[], bool]) -> None:
    """Waits for what other threads do."""
    until_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until_s
        time.sleep(0.002)


def fine(count: int) -> list[list[bytes]]:
    """Contents of entries that are events."""
    return [says(type="t", user_id=str(one)) for one in range(count)]


@pytest.fixture
def group() -> Group:
    """An empty group."""
    return Group()


@pytest.fixture
def daemon() -> FakeDaemon:
    """An empty daemon."""
    return FakeDaemon()


def test_what_is_there_is_stored_and_acknowledged(group: Group, daemon: FakeDaemon) -> None:
    """Of all streams; and once more means nothing new."""
    group.add("s", *fine(25))
    group.add("other", *fine(3))
    counts = pulled(FakeStreams(group, names=("s", "other")), daemon).counts
    assert (counts.read, counts.stored, counts.acknowledged, counts.clean) == (28, 28, 28, True)
    assert len(daemon.stored) == 28
    assert not group.pending
    assert pulled(FakeStreams(group, names=("s", "other")), daemon).counts.read == 0


def test_an_entry_is_acknowledged_only_when_the_daemon_has_answered(group: Group, daemon: FakeDaemon) -> None:
    """While the daemon is away everything that was read stays pending, and not much more is read."""
    daemon.away.set()
    group.add("s", *fine(1_000))
    puller = Puller(FakeStreams(group), lambda answer: daemon.sender(answer, 10), FOREVER, Heard())
    puller.start()
    until(lambda: len(group.pending) >= 10)
    assert not puller.wait(0.2)
    assert (puller.counts.acknowledged, len(daemon.stored)) == (0, 0)
    assert len(group.pending) <= 30
    daemon.away.clear()
    until(lambda: puller.counts.acknowledged == 1_000)
    puller.stop()
    assert puller.wait(PATIENCE_S)
    assert puller.failure is None


def test_entries_that_never_got_an_end_come_first(group: Group, daemon: FakeDaemon) -> None:
    """Those of this consumer at the start; those of others when they have had them for long enough."""
    group.add("s", *fine(4))
    FakeStreams(group, "one").read(2, 0)
    FakeStreams(group, "gone").read(2, 0)
    counts = pulled(FakeStreams(group, "one"), daemon).counts
    assert (counts.stored, counts.claimed) == (2, 0)
    group.now_s = 60.0
    counts = pulled(FakeStreams(group, "one"), daemon).counts
    assert (counts.stored, counts.claimed) == (2, 2)
    assert not group.pending


def test_our_own_entries_are_not_sent_twice_because_they_take_long(group: Group, daemon: FakeDaemon) -> None:
    """Claiming them from ourselves finds that they are under way."""
    daemon.away.set()
    group.add("s", *fine(5))
    puller = Puller(
        FakeStreams(group), lambda answer: daemon.sender(answer, 1), replace(FOREVER, claim_idle_s=0.001), Heard()
    )
    puller.start()
    until(lambda: len(group.pending) == 5)
    group.now_s = 1_000.0
    daemon.away.clear()
    until(lambda: puller.counts.acknowledged == 5)
    puller.stop()
    assert puller.wait(PATIENCE_S)
    assert (puller.counts.read, puller.counts.duplicate) == (5, 0)


def test_refused_entries_do_not_stop_the_others_and_stay_pending(group: Group, daemon: FakeDaemon) -> None:
    """Both those that are no events and those that the daemon rejects; each told once, with its reason."""
    keys = group.add("s", says(type="t"), says(foo="x"), says(type="bad"), says(type="t", user="y"))
    heard = Heard()
    counts = pulled(FakeStreams(group), daemon, heard=heard).counts
    assert (counts.stored, counts.parked, counts.clean) == (2, 2, False)
    assert dict(counts.refused) == {"NOT_AN_EVENT": 1, "TYPE_INVALID": 1}
    assert sorted(group.pending) == [keys[1], keys[2]]
    assert sorted(refusal.entry.key for refusal in heard.refusals) == [keys[1], keys[2]]


def test_with_a_dead_letter_stream_refused_entries_go_there_once(group: Group, daemon: FakeDaemon) -> None:
    """Also those that an earlier run without one left pending."""
    keys = group.add("s", says(foo="x"), says(type="bad"), says(type="t"))
    pulled(FakeStreams(group), daemon)
    counts = pulled(FakeStreams(group), daemon, replace(ONCE, dead_letters=True)).counts
    assert (counts.refused.total(), counts.parked, counts.acknowledged, counts.clean) == (2, 0, 2, True)
    assert sorted(refusal.entry.key for refusal in group.dead) == keys[:2]
    assert not group.pending


def test_more_refused_entries_than_allowed_end_the_run(group: Group, daemon: FakeDaemon) -> None:
    """Of either kind. A poisoned entry does not stop a stream, a poisoned stream does."""
    for kind in ("t", "bad"):
        group.add("s", *(says(foo="x") if kind == "t" else says(type="bad") for _ in range(4)))
        puller = pulled(FakeStreams(group), daemon, replace(ONCE, refused_max=3))
        assert isinstance(puller.failure, TooManyRefused)
        group.pending.clear()
    group.add("s", says(foo="x"))
    assert pulled(FakeStreams(group), daemon, replace(ONCE, refused_max=1)).failure is None


def test_a_batch_that_the_daemon_cannot_take_is_taken_apart(group: Group, daemon: FakeDaemon) -> None:
    """Its other events are stored, and only the one that does it is refused."""
    contents = fine(20)
    contents[7] = says(type="broken")
    keys = group.add("s", *contents)
    counts = pulled(FakeStreams(group), daemon).counts
    assert (counts.stored, dict(counts.refused)) == (19, {"INTERNAL": 1})
    assert sorted(group.pending) == [keys[7]]


def test_what_may_be_taken_later_is_tried_again_later(group: Group, daemon: FakeDaemon) -> None:
    """It stays pending until it has been idle; nothing is copied or acknowledged."""
    (key,) = group.add("s", says(type="later"))
    plan = replace(ONCE, dead_letters=True)
    assert pulled(FakeStreams(group), daemon, plan).counts.deferred == 1
    assert (list(group.pending), group.dead) == ([key], [])


def test_entries_deleted_before_they_were_read_are_counted(group: Group, daemon: FakeDaemon) -> None:
    """Those that were given to us, and those that were given to others."""
    keys = group.add("s", *fine(4))
    FakeStreams(group, "one").read(2, 0)
    FakeStreams(group, "gone").read(2, 0)
    group.trim(keys[0], keys[2])
    group.now_s = 60.0
    counts = pulled(FakeStreams(group, "one"), daemon).counts
    assert (counts.stored, counts.trimmed, counts.clean) == (2, 2, False)
    assert not group.pending


def test_it_ends_when_nothing_new_has_come_for_long_enough(group: Group, daemon: FakeDaemon) -> None:
    """The time begins anew with every entry."""
    group.add("s", *fine(1))
    started_s = time.monotonic()
    puller = Puller(
        FakeStreams(group), lambda answer: daemon.sender(answer, 10), replace(FOREVER, until_idle_s=0.3), Heard()
    )
    puller.start()
    until(lambda: len(daemon.stored) == 1)
    time.sleep(0.1)
    group.add("s", *fine(1))
    assert puller.wait(PATIENCE_S)
    assert len(daemon.stored) == 2
    assert time.monotonic() - started_s >= 0.4


def test_stopping_finishes_what_is_under_way(group: Group, daemon: FakeDaemon) -> None:
    """Everything that was read is stored and acknowledged, nothing stays pending."""
    group.add("s", *fine(5_000))
    puller = Puller(FakeStreams(group), lambda answer: daemon.sender(answer, 10), FOREVER, Heard())
    puller.start()
    until(lambda: puller.counts.acknowledged > 50)
    puller.stop()
    assert puller.wait(PATIENCE_S)
    assert puller.failure is None
    assert (puller.under_way, group.pending) == (0, {})
    assert puller.counts.read == puller.counts.acknowledged == len(daemon.stored)


def test_ending_at_once_leaves_what_is_unanswered_pending(group: Group, daemon: FakeDaemon) -> None:
    """And what was answered is still acknowledged."""
    group.add("s", *fine(25))
    puller = Puller(FakeStreams(group), lambda answer: daemon.sender(answer, 10), FOREVER, Heard())
    puller.start()
    until(lambda: puller.counts.acknowledged == 25)
    daemon.away.set()
    added = group.add("s", *fine(7))
    until(lambda: len(group.pending) == 7)
    puller.stop()
    assert not puller.wait(0.1)
    puller.abort()
    assert puller.wait(PATIENCE_S)
    assert isinstance(puller.failure, trackd.GaveUp)
    assert (puller.under_way, sorted(group.pending)) == (7, added)


def test_a_redis_that_is_away_is_waited_for_and_answers_that_were_lost_are_read_again(
    group: Group, daemon: FakeDaemon
) -> None:
    """Connections break before or behind anything, so that entries are given to us in answers that never arrive."""
    rng = random.Random(5)
    group.add("s", *fine(300))
    heard = Heard()

    def flaky() -> None:
        if rng.random() < 0.1:
            raise RedisAway("gone")

    counts = pulled(FakeStreams(group, fault=flaky), daemon, heard=heard).counts
    assert len(daemon.stored) == counts.stored == 300
    assert not group.pending
    assert heard.outages[:2] == ["gone", "back"]


def test_a_redis_that_stays_away_is_given_up(group: Group, daemon: FakeDaemon) -> None:
    """After the time that was said."""

    def broken() -> None:
        raise RedisAway("gone")

    puller = pulled(FakeStreams(group, fault=broken), daemon, replace(FOREVER, give_up_after_s=0.2))
    assert isinstance(puller.failure, RedisAway)


def test_what_redis_refuses_ends_the_run(group: Group, daemon: FakeDaemon) -> None:
    """Also where it refuses acknowledgements only."""
    group.add("s", *fine(3))

    class NoAcknowledging(FakeStreams):
        """May read only."""

        def settle(self, settlement: object) -> None:
            raise RedisRefused("NOPERM")

    puller = pulled(NoAcknowledging(group), daemon, FOREVER)
    assert isinstance(puller.failure, RedisRefused)
    assert len(group.pending) == 3


def test_however_often_it_is_cut_off_each_entry_is_stored_once(group: Group, daemon: FakeDaemon) -> None:
    """Runs of two consumers end in the middle, by failing or at once; the last one finds nothing left to do."""
    rng = random.Random(9)
    wanted = 0
    for turn in range(40):
        added = rng.randrange(30)
        group.add("s", *(says(type="t", user_id=f"{turn}-{one}") for one in range(added)))
        wanted += added
        steps = rng.randrange(1, 25)
        calls = iter(range(1_000_000))

        def cut(calls: object = calls, steps: int = steps) -> None:
            if next(calls) > steps:  # type: ignore[call-overload]
                raise RedisRefused("killed")

        group.now_s += 30.0
        pulled(FakeStreams(group, rng.choice(["one", "two"]), fault=cut), daemon)
    group.now_s += 61.0
    puller = pulled(FakeStreams(group, "one"), daemon)
    assert puller.failure is None
    assert len({event.user_id for event in daemon.stored.values()}) == len(daemon.stored) == wanted
    assert not group.pending


def test_reads_grow_with_small_entries_and_shrink_with_large_ones(group: Group, daemon: FakeDaemon) -> None:
    """About as many bytes at once whatever their size, so that memory is bounded."""
    asked: list[int] = []

    class Asking(FakeStreams):
        """Notes how much is read at once."""

        def read(self, count: int, block_ms: int) -> list[object]:  # type: ignore[override]
            asked.append(count)
            return list(super().read(count, block_ms))

    group.add("s", *fine(1_000), *(says(type="t", description="x" * 100_000) for _ in range(600)))
    pulled(Asking(group), daemon, replace(ONCE, batch=500))
    assert asked[:4] == [64, 128, 256, 500]
    assert 41 in asked, asked


def test_no_more_is_read_than_a_few_batches_ahead_of_acknowledgements(group: Group, daemon: FakeDaemon) -> None:
    """Where those do not get through, memory is bounded, and nothing is lost."""
    group.add("s", *fine(1_000))
    broken = threading.Event()
    broken.set()

    class Slow(FakeStreams):
        """Takes no acknowledgements for now."""

        def settle(self, settlement: Settlement) -> None:
            if broken.is_set():
                raise RedisAway("gone")
            super().settle(settlement)

    puller = Puller(Slow(group), lambda answer: daemon.sender(answer, 10), ONCE, Heard())
    puller.start()
    until(lambda: puller.under_way >= 160)
    assert not puller.wait(0.1)
    assert puller.under_way < 180
    broken.clear()
    assert puller.wait(PATIENCE_S)
    assert (len(daemon.stored), group.pending) == (1_000, {})


def test_threads_end_with_the_run(group: Group, daemon: FakeDaemon) -> None:
    """Nothing is left behind."""
    group.add("s", *fine(200))
    pulled(FakeStreams(group), daemon)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("trackd-pull")]
