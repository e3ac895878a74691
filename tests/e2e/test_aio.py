"""The asyncio client says what the other one says: every call, side by side, against a real daemon."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator

import pytest
import trackd
import trackd.aio
from trackd import where

from tests.e2e.conftest import DaemonProcess
from tests.support.serving import serving

WAIT_S = 20.0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One with 2,500 events of three types."""
    with serving(tmp_path_factory.mktemp("daemon")) as served:
        with trackd.Client(served.target) as client:
            made = [trackd.new_event(f"type{n % 3}", user_id=f"user-{n % 7}", metadata={"n": n}) for n in range(2_500)]
            assert client.append(made, source="tests").accepted == 2_500
        yield served


@pytest.fixture
async def client(daemon: DaemonProcess) -> AsyncIterator[trackd.aio.Client]:
    """The one for asyncio."""
    async with trackd.aio.Client(daemon.target) as opened:
        yield opened


def test_both_clients_have_the_same_calls_with_the_same_arguments() -> None:
    """What one can do the other can; `aggregate` takes its words as a bag."""
    theirs = {name: call for name, call in inspect.getmembers(trackd.Client, inspect.isfunction) if name[0] != "_"}
    ours = {name: call for name, call in inspect.getmembers(trackd.aio.Client, inspect.isfunction) if name[0] != "_"}
    assert ours.keys() == theirs.keys()
    for name in theirs.keys() - {"aggregate"}:
        assert inspect.signature(ours[name]).parameters == inspect.signature(theirs[name]).parameters, name


async def test_questions_have_the_same_answers(daemon: DaemonProcess, client: trackd.aio.Client) -> None:
    """Lists over several pages, counts, aggregates, types, health."""
    chosen = trackd.EventFilter(types=["type1", "type2"])
    with trackd.Client(daemon.target) as other:
        assert [one async for one in client.list_events(chosen)] == list(other.list_events(chosen))
        assert await client.list_events_page(page_size=7) == other.list_events_page(page_size=7)
        assert await client.count_events(chosen, by=["type"]) == other.count_events(chosen, by=["type"])
        words = {"filter": where.is_("user", "user-3"), "order_by": "-events", "totals": True}
        table = await client.aggregate(["events", "max(n)"], "type", **words)  # type: ignore[arg-type]
        assert list(table) == list(other.aggregate(["events", "max(n)"], "type", **words))  # type: ignore[arg-type]
        assert table.totals["events"] == 357
        assert [one.name async for one in client.list_event_types()] == [one.name for one in other.list_event_types()]
        assert (await client.list_event_types_page(page_size=1)).next_page_token
        assert await client.health() is trackd.Health.SERVING


async def test_what_is_appended_is_there(client: trackd.aio.Client) -> None:
    """Many calls at once on one connection; the same again is a duplicate; a type can be registered."""
    events = [trackd.new_event("fresh", user_id=str(number)) for number in range(50)]
    results = await asyncio.gather(*(client.append([event], source="tests") for event in events))
    assert sum(result.accepted for result in results) == 50
    assert (await client.append(events, source="tests")).duplicate == 50
    registered = await client.register_event_type("fresh", "New.", dimensions=["n"])
    assert await client.describe_event_type("fresh") == registered


async def test_errors_are_those_of_the_tree(client: trackd.aio.Client) -> None:
    """With the daemon's reason, or Unreachable."""
    with pytest.raises(trackd.Invalid) as caught:
        await client.append([trackd.new_event("t")], source="no spaces, please")
    assert caught.value.reason == "SOURCE_INVALID"
    with pytest.raises(trackd.NotFound):
        await client.describe_event_type("nothing")
    async with trackd.aio.Client("127.0.0.1:1", timeout_s=WAIT_S) as nowhere:
        with pytest.raises(trackd.Unreachable):
            await nowhere.health()


async def test_a_call_that_its_task_gives_up_is_cancelled_and_one_whose_client_closes_fails(
    daemon: DaemonProcess,
) -> None:
    """A cancelled task stays cancelled; closing the Client is no cancellation of those who use it."""
    client = trackd.aio.Client(daemon.target)
    forever = client.subscribe()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(forever), 0.2)
    waiting = asyncio.ensure_future(anext(forever, None))
    await asyncio.sleep(0.2)
    await client.close()
    assert await asyncio.wait_for(waiting, WAIT_S) is None


async def test_following_sees_each_event_once_over_restarts_of_the_daemon(
    daemon: DaemonProcess, client: trackd.aio.Client
) -> None:
    """It resumes by itself behind its position; after an interrupted wait, too."""
    interruptions: list[trackd.TrackdError] = []
    quick = trackd.Backoff(first_s=0.02, max_s=0.1)
    got: list[int] = []
    async with client.subscribe(after_position=0, backoff=quick, on_interruption=interruptions.append) as following:
        while len(got) < 1_500:
            got.append((await asyncio.wait_for(anext(following), WAIT_S)).position)
        head = following.head
        assert head is not None
        while got[-1] < head:
            got.append((await asyncio.wait_for(anext(following), WAIT_S)).position)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(following), 0.2)
        waiting = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0.1)
        daemon.kill()
        await asyncio.to_thread(daemon.start)
        with trackd.Client(daemon.target) as other:  # a channel that has not failed to connect just now
            later = other.append([trackd.new_event("later")], source="tests")
        got.append((await asyncio.wait_for(waiting, WAIT_S)).position)
    assert got[-1] == later.last_position
    assert got == sorted(set(got))
    with trackd.Client(daemon.target) as other:
        assert [one.position for one in other.list_events(order="position_asc")] == got
    assert interruptions
    assert following.gaps == []


async def test_a_subscription_ends_when_it_is_closed_or_has_come_to_its_end(client: trackd.aio.Client) -> None:
    """`close` from another task wakes whoever waits; up_to_position ends it in order."""
    bounded = client.subscribe(trackd.EventFilter(up_to_position=5), after_position=0)
    assert [one.position async for one in bounded] == [1, 2, 3, 4, 5]
    endless = client.subscribe()
    waiting = asyncio.ensure_future(anext(endless, None))
    await asyncio.sleep(0.1)
    await endless.close()
    assert await asyncio.wait_for(waiting, WAIT_S) is None


async def test_a_position_that_cannot_be_is_refused(client: trackd.aio.Client) -> None:
    """Not waited out."""
    with pytest.raises(trackd.OutOfRange):
        await anext(client.subscribe(after_position=1 << 40))
