"""Held rows of an archive are counted as the rules of holds say, and are what is left when its time has come."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from retention.facts import NOTHING_HELD, Held
from retention.hold import Hold, holding
from retention.month import Month
from server.archive import cutting, manifest, verifying
from server.archive.folders import LocalFolder
from server.archive.manifest import Manifest
from server.model import Event
from server.storage.digest import digest_of
from tests.archive.test_make import expected, read_back
from tests.support.archives import (
    OCTOBER,
    TYPES,
    USERS,
    archived,
    assert_tidy,
    files,
    made,
    remembering,
    varied,
    wanted,
)
from tests.support.retaining import KEEP, events_of, profile, rewrite

PLAN = "q" * 64


@pytest.fixture
def folder(tmp_path: Path) -> LocalFolder:
    """A target."""
    return LocalFolder(tmp_path)


def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives are made of several parts."""
    monkeypatch.setattr("server.archive.columns.BUCKET_ROWS", 12)


def codes(event: Event, holds: list[Hold]) -> tuple[str, ...]:
    """Of the holds that hold an event."""
    return holding(holds, user=event.user_id, event_type=event.type, source=event.source, month=OCTOBER)


def random_hold(code: str, chance: random.Random) -> Hold:
    """One that selects something, perhaps nothing that there is."""
    while True:
        users = chance.sample([*USERS, "user-3", "nobody-knows"], chance.choice((0, 0, 1, 2)))
        types = chance.choice(((), (), ("opened",), ("*ed",), ("merged", "re*")))
        sources = chance.choice(((), (), ("reviews",), ("deploys", "unheard-of")))
        months = chance.choice(((None, None), (Month(2025, 10), None), (None, Month(2025, 9)), (Month(2025, 11), None)))
        if users or types or sources or months != (None, None):
            return Hold(
                code=code,
                reason="LITIGATION",
                placed_ms=0,
                users=frozenset(users),
                types=types,
                sources=frozenset(sources),
                first_month=months[0],
                last_month=months[1],
                released_ms=chance.choice((None, None, None, 5)),
            )


@pytest.mark.parametrize("seed", range(12))
def test_what_is_held_is_counted_and_left(folder: LocalFolder, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """For random holds: as `retention.hold` says, event by event; and cutting down leaves exactly those."""
    several(monkeypatch)
    chance = random.Random(seed)
    holds = [random_hold(f"H{number}", chance) for number in range(chance.randrange(1, 4))]
    store = remembering(varied(120))
    found = archived(folder, store)
    events = events_of(store, OCTOBER)
    held = [event for event in events if codes(event, holds)]
    by = {hold.code: sum(hold.code in codes(event, holds) for event in events) for hold in holds}
    counted = Held(len(held), tuple(sorted((code, rows) for code, rows in by.items() if rows)))
    assert cutting.held(folder, found, holds) == counted
    left = cutting.cut_down(folder, found, holds, plan_id=PLAN)
    if not held:
        assert left is None
        assert files(folder) == {}
        return
    assert left is not None
    assert assert_tidy(folder) == [left]
    assert read_back(folder, left) == expected(held)
    assert (left.name, left.content_digest) == (found.name, digest_of(held))
    assert verifying.verify(folder, left) == []
    assert left.whole == (len(held) == len(events))
    assert cutting.held(folder, left, holds) == counted
    assert cutting.cut_down(folder, left, holds, plan_id=PLAN) == left


def test_only_touched_parts_are_written_anew(folder: LocalFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of which all is held stay as they are; those without held rows are not even read."""
    several(monkeypatch)
    store = remembering(varied())
    found = archived(folder, store)
    assert len(found.parts) > 3
    by_type = [Hold("H1", "LITIGATION", 0, types=TYPES)]
    assert cutting.cut_down(folder, found, by_type, plan_id=PLAN) == found
    (part, *others) = found.parts
    for other in others:
        (Path(folder.url) / other.path).write_bytes(b"unreadable")
    users = {event.user_id for event in events_of(store, OCTOBER) if part.path in paths_of(found, event)}
    by_user = [Hold("H2", "LITIGATION", 0, users=frozenset(users))]
    left = cutting.cut_down(folder, found, by_user, plan_id=PLAN)
    assert left is not None
    assert left.parts == (part,)
    assert (left.plan_id, left.whole, left.copy().whole) == (PLAN, False, False)
    assert assert_tidy(folder) == [left]


def paths_of(found: Manifest, event: Event) -> list[str]:
    """The part that an event is in."""
    from server.archive.columns import folded
    from server.storage.digest import bucket_of

    return [part.path for part in found.parts if part.bucket == folded(bucket_of(event.user_id), found.buckets)]


def test_rows_that_went_through_a_profile_are_not_held(folder: LocalFolder) -> None:
    """They are nobody's as far as a hold can tell, as in a month."""
    store = remembering(varied())
    how = profile(user_id=KEEP)
    rewrite(store, OCTOBER, how, TYPES)
    found = made(folder, store, wanted(store, forms=(how.digest,)))
    everything = [Hold("H1", "LITIGATION", 0, types=("*",))]
    assert cutting.held(folder, found, everything) == NOTHING_HELD
    assert cutting.cut_down(folder, found, everything, plan_id=PLAN) is None
    assert manifest.names(folder) == []


def test_other_archives_of_the_month_stay(folder: LocalFolder) -> None:
    """To the byte."""
    store = remembering(varied())
    other = archived(folder, store, target="other")
    before = files(folder)
    found = archived(folder, store)
    cutting.cut_down(folder, found, [Hold("H1", "LITIGATION", 0, users=frozenset({"ann"}))], plan_id=PLAN)
    assert {path: content for path, content in files(folder).items() if path in before} == before
    assert cutting.cut_down(folder, manifest.load(folder, found.name), [], plan_id=PLAN) is None
    assert files(folder) == before
    assert assert_tidy(folder) == [other]


def test_of_mixed_rows_those_as_they_were_sent_are_held(folder: LocalFolder) -> None:
    """Also where both lie in one part."""
    store = remembering(varied())
    how = profile(user_id=KEEP)
    rewrite(store, OCTOBER, how, TYPES[:1])
    found = made(folder, store, wanted(store, forms=("", how.digest)))
    raw = [event for event in events_of(store, OCTOBER) if event.type != TYPES[0]]
    everything = [Hold("H1", "LITIGATION", 0, types=("*",))]
    assert cutting.held(folder, found, everything) == Held(len(raw), (("H1", len(raw)),))
    left = cutting.cut_down(folder, found, everything, plan_id=PLAN)
    assert left is not None
    assert read_back(folder, left) == expected(raw)
