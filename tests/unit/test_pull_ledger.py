"""The account of entries: what is acknowledged is stored, and every entry ends as exactly one thing."""

from __future__ import annotations

import random

import pytest
import trackd
from hypothesis import given, settings
from hypothesis import strategies as st

from server.cli.pulling.entry import Entry
from server.cli.pulling.ledger import Ledger, Refusal, Settlement

EVENT = trackd.Event(type="t")


def entries(*identifiers: str) -> list[Entry]:
    """Entries of one stream."""
    return [Entry("s", one, [b"type", b"t"]) for one in identifiers]


def taken(ledger: Ledger, *identifiers: str) -> list[Entry]:
    """Entries that were read and sent."""
    fresh, _ = ledger.take(entries(*identifiers))
    ledger.sending(fresh)
    return fresh


def rejection(sequence: int, *, retryable: bool = False) -> trackd.Rejection:
    """The daemon does not want this one."""
    return trackd.Rejection(sequence, EVENT, "TYPE_INVALID", "a bad one", "type", retryable)


def test_what_is_stored_is_acknowledged_and_what_is_under_way_is_not_taken_again() -> None:
    """Also not while Redis has not taken the acknowledgement; afterwards it is forgotten."""
    ledger = Ledger(dead_letters=False)
    one, two = taken(ledger, "1-0", "2-0")
    assert ledger.take([one, two]) == ([], Settlement())
    verdict = ledger.answered(trackd.BatchResult(0, 2, accepted=1, duplicate=1))
    assert verdict.settlement == Settlement(acknowledge=[one, two])
    assert ledger.take([one]) == ([], Settlement())
    assert (ledger.under_way, ledger.counts.acknowledged) == (2, 0)
    ledger.done(verdict.settlement)
    assert (ledger.under_way, ledger.counts.acknowledged) == (0, 2)
    assert ledger.take([one])[0] == [one]


def test_answers_may_come_in_any_order() -> None:
    """A batch that was refused for now is answered behind younger ones."""
    ledger = Ledger(dead_letters=False)
    one, two, three = taken(ledger, "1-0", "2-0", "3-0")
    assert ledger.answered(trackd.BatchResult(1, 2, accepted=2)).settlement.acknowledge == [two, three]
    assert ledger.answered(trackd.BatchResult(0, 1, accepted=1)).settlement.acknowledge == [one]


def test_without_dead_letters_a_refused_entry_stays_pending_and_is_not_sent_again() -> None:
    """It is told about once, and never acknowledged."""
    ledger = Ledger(dead_letters=False)
    one, two = taken(ledger, "1-0", "2-0")
    verdict = ledger.answered(trackd.BatchResult(0, 2, accepted=1, rejected=1, rejections=(rejection(0),)))
    assert verdict.settlement == Settlement([two])
    assert verdict.refused == [Refusal(one, "TYPE_INVALID", "a bad one", "type")]
    assert ledger.take([one]) == ([], Settlement())
    assert (ledger.counts.parked, ledger.counts.clean) == (1, False)


def test_with_dead_letters_a_refused_entry_goes_there() -> None:
    """With the reason, and is under way until it is."""
    ledger = Ledger(dead_letters=True)
    (one,) = taken(ledger, "1-0")
    verdict = ledger.answered(trackd.BatchResult(0, 1, rejected=1, rejections=(rejection(0),)))
    assert [refusal.entry for refusal in verdict.settlement.dead] == [one]
    assert ledger.under_way == 1
    ledger.done(verdict.settlement)
    assert (ledger.under_way, ledger.counts.parked, ledger.counts.clean) == (0, 0, True)


def test_what_may_be_taken_later_stays_pending_and_is_sent_again_when_it_is_read_again() -> None:
    """Even with a dead-letter stream: it is not refused."""
    ledger = Ledger(dead_letters=True)
    (one,) = taken(ledger, "1-0")
    verdict = ledger.answered(trackd.BatchResult(0, 1, rejected=1, rejections=(rejection(0, retryable=True),)))
    assert (*verdict.settlement.acknowledge, *verdict.settlement.dead, *verdict.refused) == ()
    assert (ledger.under_way, ledger.counts.deferred, ledger.counts.clean) == (0, 1, False)
    assert ledger.take([one])[0] == [one]


def test_a_batch_refused_as_a_whole_condemns_none_of_its_events() -> None:
    """All are handed out again, once, to be sent alone; then the daemon's word counts."""
    ledger = Ledger(dead_letters=True)
    both = taken(ledger, "1-0", "2-0")
    error = trackd.TrackdError("it fails", code="INTERNAL")
    whole = trackd.BatchResult(0, 2, rejected=2, rejections=(rejection(0), rejection(1)), error=error)
    assert ledger.answered(whole).settlement == Settlement()
    assert ledger.suspicious
    assert (ledger.suspects(), ledger.suspects()) == (both, [])
    ledger.sending(both)
    alone = trackd.BatchResult(2, 1, rejected=1, rejections=(rejection(2),), error=error)
    assert [refusal.entry for refusal in ledger.answered(alone).settlement.dead] == both[:1]
    assert ledger.answered(trackd.BatchResult(3, 1, accepted=1)).settlement.acknowledge == both[1:]


def test_an_entry_that_is_gone_is_counted_and_acknowledged() -> None:
    """Nobody can store it; that it is missing must show."""
    ledger = Ledger(dead_letters=False)
    gone = Entry("s", "1-0", [])
    assert ledger.take([gone]) == ([], Settlement(acknowledge=[gone]))
    assert ledger.take([gone]) == ([], Settlement())
    assert (ledger.counts.trimmed, ledger.counts.read, ledger.counts.clean) == (1, 1, False)


@pytest.mark.parametrize("dead_letters", [False, True])
@settings(deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_every_entry_ends_as_one_thing_and_no_other(dead_letters: bool, seed: int) -> None:
    """Whatever comes again, in whatever batches and order it is answered, whenever Redis takes the acknowledgement."""
    rng = random.Random(seed)
    ledger = Ledger(dead_letters=dead_letters)
    everything = entries(*(f"{one}-0" for one in range(rng.randrange(1, 40))))
    fate = {entry.key: rng.choice(["stored", "stored", "refused", "later"]) for entry in everything}
    batches: list[list[tuple[int, Entry]]] = []
    settlements: list[Settlement] = []
    settled: list[tuple[str, str]] = []
    sequence = rounds = 0
    while rounds < 60 or batches or settlements:
        rounds += 1
        if rounds < 60:
            fresh, _ = ledger.take(rng.sample(everything, rng.randrange(len(everything) + 1)))
            ledger.sending(fresh)
            if fresh:
                batches.append(list(enumerate(fresh, sequence)))
                sequence += len(fresh)
        if batches and rng.random() < 0.7:
            batch = batches.pop(rng.randrange(len(batches)))
            rejections = tuple(
                rejection(place, retryable=fate[entry.key] == "later")
                for place, entry in batch
                if fate[entry.key] != "stored"
            )
            stored = len(batch) - len(rejections)
            verdict = ledger.answered(
                trackd.BatchResult(batch[0][0], len(batch), stored, 0, len(rejections), rejections=rejections)
            )
            assert all(fate[entry.key] == "stored" for entry in verdict.settlement.acknowledge)
            assert all(fate[refusal.entry.key] == "refused" for refusal in verdict.refused)
            assert bool(verdict.settlement.dead) == (dead_letters and bool(verdict.refused))
            settlements.append(verdict.settlement)
        if settlements and rng.random() < 0.7:
            one = settlements.pop(0)
            ledger.done(one)
            settled += [entry.key for entry in one.acknowledge] + [refusal.entry.key for refusal in one.dead]
    counts = ledger.counts
    assert ledger.under_way == 0
    assert counts.read == counts.settled == sequence
    assert counts.acknowledged == len(settled)
    assert counts.refused.total() == counts.parked + sum(fate[key] == "refused" for key in settled)
