"""Months are fenced, sealed and opened again: answers do not change, and whatever comes late is told so."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from retention.month import Month
from server.errors import NotFound, Precondition, TrackdError
from server.model import Action, Change, Event, EventFilter, Item, MonthInfo, MonthState, Order, Outcome
from server.question import Bucket, BucketUnit, Field, FieldKind, Metric, MetricKind, Question
from server.storage.contract import Store
from server.storage.digest import digest_of
from tests.support.answers import rows
from tests.support.events import Sent, append, append_group, make_batch, make_event, pages
from tests.support.homes import Home

OCTOBER, NOVEMBER = Month(2025, 10), Month(2025, 11)
EVENTS, USERS = Metric(MetricKind.EVENTS), Metric(MetricKind.USERS)
QUESTIONS = (
    Question((EVENTS, USERS), (Bucket(BucketUnit.DAY), Field(FieldKind.TYPE))),
    Question((EVENTS,), (Field(FieldKind.USER),)),
    Question((EVENTS,), (Field(FieldKind.TAG), Field(FieldKind.SOURCE))),
    Question((EVENTS, Metric(MetricKind.SUM, "n")), (Field(FieldKind.METADATA, "k"),)),
)
STRANGE = 'a "quoted" \\ back\x00slash\x1f\x7f é \u2028 \U0001f600 </script>\r\n\t\b\f'


def history(month: str, first: int = 0, count: int = 30) -> list[Sent]:
    """Events of a month: users, tags, metadata and changes of several kinds."""
    return [
        make_event(
            first + number,
            month,
            number * 3_600_000,
            type=f"type-{number % 3}",
            user_id=("", "ann", STRANGE)[number % 3],
            description=STRANGE if number % 5 == 0 else "",
            tags=("urgent", "ü") if number % 4 == 0 else (),
            metadata=f'{{"k": "v", "n": {number}}}' if number % 2 else "",
            change=Change("rows", str(number), Action.UPDATE, '{"a":1}', '{"a":2}') if number % 6 == 0 else None,
        )
        for number in range(count)
    ]


def late(number: int) -> Sent:
    """An event of October that is not in the history."""
    return make_event(number, "2025-10", type="type-0")


def told(store: Store) -> object:
    """Every answer about the store."""
    reader = store.reader()
    try:
        orders = (Order.TIME_DESC, Order.POSITION_ASC)
        wheres = (EventFilter(), EventFilter(user_ids=("ann",)), EventFilter(tags=("urgent",)))
        lists = [list(pages(reader, where, order, 7, as_of=store.head)) for where in wheres for order in orders]
        tables = [rows(table) for table in reader.aggregate(QUESTIONS).tables]
    finally:
        reader.close()
    return lists, tables, store.head, store.sources(), store.event_types()


def events_of(store: Store, month: Month) -> list[Event]:
    """Its events in the order of positions."""
    reader = store.reader()
    try:
        where = EventFilter(start_ms=month.start_ms, end_ms=month.end_ms)
        return [event for page in pages(reader, where, Order.POSITION_ASC, 100, as_of=store.head) for event in page]
    finally:
        reader.close()


def seal(store: Store, month: Month) -> MonthInfo:
    """All three steps."""
    store.fence(month)
    return store.adopt(store.rebuild(month, MonthState.SEALED))


def reopen(store: Store, month: Month) -> MonthInfo:
    """Both steps."""
    return store.adopt(store.rebuild(month, MonthState.OPEN))


def states(store: Store) -> list[tuple[str, MonthState]]:
    """The months and what they are."""
    return [(str(info.month), info.state) for info in store.months()]


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with two months."""
    append(store, *history("2025-10"), source="reviews")
    append(store, *history("2025-11", 1_000), source="deploys")
    return store


def judged(store: Store, *events: Sent, atomic: bool = False) -> Sequence[Item]:
    """What is said of each of some events."""
    (answer,) = append_group(store, make_batch(*events, atomic=atomic))
    return answer.items


def test_a_fenced_month_takes_no_event(filled: Store) -> None:
    """But tells apart what it has; other months go on."""
    before = told(filled)
    assert filled.fence(OCTOBER) == MonthInfo(OCTOBER, 1, MonthState.SEALING)
    assert filled.fence(OCTOBER).state is MonthState.SEALING
    assert states(filled) == [("2025-10", MonthState.SEALING), ("2025-11", MonthState.OPEN)]
    assert told(filled) == before
    same, *_ = history("2025-10")
    items = judged(
        filled,
        same,
        late(500),
        make_event(1, "2025-10", 3_600_000, type="other"),
        make_event(501, "2025-11"),
    )
    assert [(item.index, item.outcome, item.reason, item.existing_position) for item in items] == [
        (0, Outcome.DUPLICATE, "", 1),
        (1, Outcome.REJECTED, "MONTH_SEALED", None),
        (2, Outcome.REJECTED, "ID_CONFLICT", 2),
    ]
    assert not any(item.retryable for item in items)
    assert len(events_of(filled, OCTOBER)) == 30
    assert len(events_of(filled, NOVEMBER)) == 31


def test_sealing_changes_no_answer(home: Home, filled: Store) -> None:
    """Nor does a restart; the month has another generation, and late events are judged as before."""
    before = told(filled)
    heard: list[int] = []
    filled.fence(OCTOBER)
    rebuilt = filled.rebuild(OCTOBER, MonthState.SEALED, heard.append)
    assert told(filled) == before
    assert (rebuilt.built_from, rebuilt.generation, rebuilt.state, rebuilt.rows) == (1, 2, MonthState.SEALED, 30)
    events = events_of(filled, OCTOBER)
    assert rebuilt.digest == digest_of(events)
    times = [event.timestamp_ms for event in events]
    assert (rebuilt.first_ms, rebuilt.last_ms) == (min(times), max(times))
    assert heard[-1] == 30
    assert filled.adopt(rebuilt) == MonthInfo(OCTOBER, 2, MonthState.SEALED)
    assert filled.fence(OCTOBER).state is MonthState.SEALED
    assert told(filled) == before
    assert {item.reason for item in judged(filled, late(500), history("2025-10")[3])} == {
        "MONTH_SEALED",
        "",
    }
    assert list(filled.check()) == []
    if home.persists:
        again = home.reopen()
        assert states(again) == [("2025-10", MonthState.SEALED), ("2025-11", MonthState.OPEN)]
        assert told(again) == before
        assert [item.reason for item in judged(again, late(501))] == ["MONTH_SEALED"]


def test_a_sealed_month_can_be_opened_again(home: Home, filled: Store) -> None:
    """And takes events at new positions; sealed once more it has them all."""
    before = told(filled)
    head = filled.head
    seal(filled, OCTOBER)
    assert reopen(filled, OCTOBER) == MonthInfo(OCTOBER, 3, MonthState.OPEN)
    assert told(filled) == before
    appended = append(filled, late(500))
    assert appended.first_position is not None
    assert appended.first_position > head
    assert [item.outcome for item in judged(filled, late(500))] == [Outcome.DUPLICATE]
    assert seal(filled, OCTOBER) == MonthInfo(OCTOBER, 4, MonthState.SEALED)
    assert len(events_of(filled, OCTOBER)) == 31
    if home.persists:
        assert len(events_of(home.reopen(), OCTOBER)) == 31


def test_late_events_in_atomic_batches(filled: Store) -> None:
    """All or nothing; what is stored already is a duplicate."""
    seal(filled, OCTOBER)
    first, second, *_ = history("2025-10")
    assert [item.outcome for item in judged(filled, first, second, atomic=True)] == [Outcome.DUPLICATE] * 2
    items = judged(filled, first, late(500), atomic=True)
    assert [item.reason for item in items] == ["ATOMIC_ABORTED", "MONTH_SEALED"]


def test_a_rebuilt_generation_can_be_out_of_date(filled: Store) -> None:
    """It is refused when events were erased meanwhile, or when the month has moved on."""
    filled.fence(OCTOBER)
    stale = filled.rebuild(OCTOBER, MonthState.SEALED)
    assert filled.remove(OCTOBER, [2, 3]) == 2
    with pytest.raises(Precondition) as caught:
        filled.adopt(stale)
    assert caught.value.reason == "MONTH_CHANGED"
    rebuilt = filled.rebuild(OCTOBER, MonthState.SEALED)
    filled.adopt(rebuilt)
    with pytest.raises(Precondition) as caught:
        filled.adopt(rebuilt)
    assert caught.value.reason == "MONTH_CHANGED"
    assert len(events_of(filled, OCTOBER)) == 28
    with pytest.raises(Precondition) as caught:
        filled.remove(OCTOBER, [4])
    assert caught.value.reason == "MONTH_SEALED"
    reopen(filled, OCTOBER)
    assert filled.remove(OCTOBER, [4]) == 1
    assert len(events_of(filled, OCTOBER)) == 27
    seal(filled, OCTOBER)
    assert len(events_of(filled, OCTOBER)) == 27


def test_an_empty_month_is_sealed(filled: Store) -> None:
    """All of its events were erased: positions still go on."""
    assert filled.remove(OCTOBER, list(range(1, 31))) == 30
    seal(filled, OCTOBER)
    before = told(filled)
    assert events_of(filled, OCTOBER) == []
    reopen(filled, OCTOBER)
    assert told(filled) == before


@pytest.mark.parametrize("state", [MonthState.SEALED, MonthState.OPEN])
def test_only_some_states_follow_each_other(filled: Store, state: MonthState) -> None:
    """An open month is not rebuilt, and none that is not there."""
    for error, reason, month in ((Precondition, "MONTH_STATE", OCTOBER), (NotFound, "MONTH_UNKNOWN", Month(2024, 1))):
        with pytest.raises(error) as caught:
            filled.rebuild(month, state)
        assert caught.value.reason == reason
    with pytest.raises(NotFound):
        filled.fence(Month(2024, 1))


def test_rebuilding_can_be_stopped(filled: Store) -> None:
    """By whoever hears of its progress; then it can be begun again."""

    class Enough(Exception):
        pass

    def stop(_rows: int) -> None:
        raise Enough

    before = told(filled)
    filled.fence(OCTOBER)
    with pytest.raises(Enough):
        filled.rebuild(OCTOBER, MonthState.SEALED, stop)
    assert told(filled) == before
    assert filled.adopt(filled.rebuild(OCTOBER, MonthState.SEALED)).state is MonthState.SEALED
    assert told(filled) == before


def test_nothing_is_lost_between_the_steps(home: Home, filled: Store) -> None:
    """A crash after each of them: the month is what it was, and the same steps end the same."""
    if not home.persists:
        return
    before = told(filled)
    filled.fence(OCTOBER)
    store = home.crash()
    assert states(store)[0] == ("2025-10", MonthState.SEALING)
    digest = store.rebuild(OCTOBER, MonthState.SEALED).digest
    store = home.crash()
    assert told(store) == before
    rebuilt = store.rebuild(OCTOBER, MonthState.SEALED)
    assert rebuilt.digest == digest
    store.adopt(rebuilt)
    store.maintain(idle=True)
    store = home.crash()
    assert states(store)[0] == ("2025-10", MonthState.SEALED)
    assert told(store) == before
    assert list(store.check()) == []


def test_refusals_are_errors_of_trackd(filled: Store) -> None:
    """None of the driver's leave the engine."""
    for action in (lambda: filled.rebuild(NOVEMBER, MonthState.DAMAGED), lambda: filled.fence(Month(1999, 1))):
        with pytest.raises(TrackdError):
            action()
