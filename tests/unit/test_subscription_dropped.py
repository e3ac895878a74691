"""Subscribers are told of rows that retention dropped, whenever that was; the rows that are left come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from retention.month import Month
from server.model import EventFilter
from server.rewriting import Loss
from server.storage.contract import Store
from server.subscribe.frames import CaughtUp, Confirmed, Frame, Gap, GapReason
from tests.support.events import append, make_event, positions, read
from tests.support.following import delivered, following, frames, kinds
from tests.support.homes import HOMES, Home
from tests.support.retaining import deed, freeze, rewrite, seal

OCTOBER, NOVEMBER = Month(2025, 10), Month(2025, 11)
TYPES = ("merged", "opened")
DROPPED = Gap(OCTOBER, GapReason.DROPPED)


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    """A place for a store of each engine."""
    kind: type[Home] = request.param
    place = kind(tmp_path / "data")
    yield place
    place.finish()


@pytest.fixture
def store(home: Home) -> Store:
    """October, sealed, at positions 1 to 40; November behind it, up to 80."""
    store = home.open()
    for place, month in enumerate(("2025-10", "2025-11")):
        append(store, *(make_event(100 * place + n, month, n, type=TYPES[n % 2]) for n in range(40)))
    seal(store, OCTOBER)
    return store


def let_go(store: Store, *types: str) -> None:
    """October's rows of these types."""
    freeze(store, OCTOBER, types)
    rewrite(store, OCTOBER, None, types)


def drop(store: Store) -> None:
    """All of October."""
    freeze(store, OCTOBER, TYPES)
    store.drop(OCTOBER, dict.fromkeys(TYPES, Loss(gone=True)), deed("drop"))


def caught_up(frame: Frame) -> bool:
    """The end of what was there."""
    return isinstance(frame, CaughtUp)


async def told(store: Store, where: EventFilter = EventFilter(), *, after: int = 0) -> list[Frame]:  # noqa: B008
    """All that a new service tells a subscriber, up to the end of what was there."""
    async with following(store) as made:
        return await frames(await made.subscribe(where, after=after), caught_up)


async def test_rows_of_some_types_are_a_gap_and_the_others_come(store: Store) -> None:
    """Named once, to those who want such types and begin before the month's last event."""
    let_go(store, "opened")
    got = await told(store)
    assert [frame for frame in got if isinstance(frame, Gap)] == [DROPPED]
    assert delivered(got) == positions(read(store))
    assert "Gap" not in kinds(await told(store, EventFilter(types=("merged",))))
    assert DROPPED in await told(store, EventFilter(types=("merged", "opened"), user_ids=("ann",)))
    assert DROPPED in await told(store, after=39)
    assert "Gap" not in kinds(await told(store, after=40))
    assert "Gap" not in kinds(await told(store, EventFilter(start_ms=NOVEMBER.start_ms)))


async def test_a_dropped_month_is_a_gap_also_after_a_restart(home: Home, store: Store) -> None:
    """Nobody was there when it went."""
    drop(store)
    if home.persists:
        store = home.reopen()
    got = await told(store)
    assert kinds(got)[:2] == ["Confirmed", "Gap"]
    assert got[1] == DROPPED
    assert delivered(got) == positions(read(store)) == list(range(41, 81))
    assert "Gap" not in kinds(await told(store, after=40))


async def test_a_month_that_goes_while_somebody_is_on_the_way_is_told(store: Store) -> None:
    """Whoever is past it hears nothing; so does who follows the head."""
    async with following(store) as made:
        on_the_way, past, live = await made.subscribe(after=0), await made.subscribe(after=60), await made.subscribe()
        assert isinstance(await on_the_way.next(), Confirmed)
        assert "Gap" not in kinds(await frames(live, caught_up))
        let_go(store, "opened")
        drop_rest = await frames(on_the_way, lambda frame: isinstance(frame, Gap))
        assert drop_rest[-1] == DROPPED
        freeze(store, OCTOBER, ["merged"])
        store.drop(OCTOBER, dict.fromkeys(TYPES, Loss(gone=True)), deed("drop"))
        assert "Gap" not in kinds(await frames(past, caught_up))
        rest = await frames(on_the_way, caught_up)
        assert "Gap" not in kinds(rest)
        assert delivered(rest)[-1] == 80


async def test_rows_that_go_while_they_are_read_are_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The survey was made before, the reading came after: nothing was found, and the gap is told all the same."""
    async with following(store) as made:
        subscription = await made.subscribe(after=0)
        survey = made.service._missing.survey  # noqa: SLF001
        done: list[bool] = []

        def late() -> object:
            positions = survey()
            if not done:
                done.append(True)
                drop(store)
            return positions

        monkeypatch.setattr(made.service._missing, "survey", late)  # noqa: SLF001
        got = await frames(subscription, caught_up)
    assert DROPPED in got
    assert delivered(got) == list(range(41, 81))


async def test_a_position_ahead_is_refused_beside_dropped_months(store: Store) -> None:
    """Only a damaged month hides how far the head was; not one that was dropped, whatever was in it."""
    store.drop(OCTOBER, {}, deed("drop"))
    async with following(store) as made:
        with pytest.raises(Exception, match="the head is 80"):
            await made.subscribe(after=81)
