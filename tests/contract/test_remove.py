"""What removing promises: gone from every answer and for good, and nothing else is."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from retention.month import Month
from server.model import Action, Change, Count, Dimension, Event, EventFilter, Keyset, Order
from server.question import Bucket, BucketUnit, Metric, MetricKind, OneOf, Question
from server.storage.contract import Reader, Store
from server.storage.memory import aggregation
from tests.support.answers import EVENTS, SOURCE, TAG, TYPE, USER, USERS, Row, alike, ask, counted, metadata, rows
from tests.support.events import EVERYTHING, append, make_event, only_item, pages, positions, read
from tests.support.homes import Home, contents
from tests.support.population import MONTHS, populate

PATIENCE_S = 30
NOVEMBER = Month.parse("2025-11")
WITHIN = EventFilter(NOVEMBER.start_ms, NOVEMBER.end_ms)
QUESTIONS = [
    Question((EVENTS, USERS)),
    Question((EVENTS, USERS), (TYPE,)),
    Question((EVENTS, USERS), (SOURCE,), start_ms=NOVEMBER.start_ms, end_ms=NOVEMBER.end_ms),
    Question((EVENTS,), (USER, metadata("a")), OneOf(TAG, ("auth", "ui"))),
    Question((EVENTS, USERS), (Bucket(BucketUnit.DAY), TAG), time_zone="Asia/Kolkata"),
    Question((EVENTS, USERS), (Bucket(BucketUnit.MONTH), TYPE)),
]


def _recounted(events: Sequence[Event]) -> list[list[Row]]:
    """What QUESTIONS come to over these events."""
    return [rows(aggregation.table(question, events)) for question in QUESTIONS]


def _answers(reader: Reader) -> list[list[Row]]:
    return [rows(table) for table in reader.aggregate(QUESTIONS).tables]


def test_a_removed_event_is_in_no_answer(store: Store, reader: Reader) -> None:
    """Lists in every order, counts and tables are those of the events that are left; the number removed is told."""
    events = populate(store)
    assert _answers(reader) == _recounted(events)
    gone = positions(read(store, WITHIN))[::3]
    assert store.remove(NOVEMBER, gone) == len(gone) > 5
    left = [event for event in events if event.position not in gone]
    assert read(store) == left
    for order in Order:
        assert sorted(positions(read(store, order=order))) == positions(left)
    assert list(reader.count_events(EVERYTHING, (), as_of=store.head)) == [Count((), len(left))]
    by_user = reader.count_events(WITHIN, (Dimension.USER,), as_of=store.head)
    assert sum(count.events for count in by_user) == len(read(store, WITHIN))
    assert _answers(reader) == _recounted(left)


def test_a_removed_event_is_not_in_the_past_either(store: Store, reader: Reader) -> None:
    """A cut from before the removal shows what is left of what there was then."""
    events = populate(store)
    gone = positions(read(store, WITHIN))[:5]
    store.remove(NOVEMBER, gone)
    for cut in (events[40].position, events[-1].position, store.head):
        left = [event for event in events if event.position <= cut and event.position not in gone]
        assert read(store, as_of=cut) == left
        assert list(reader.count_events(EVERYTHING, (), as_of=cut)) == [Count((), len(left))]


def test_metrics_are_those_of_what_is_left(store: Store, reader: Reader) -> None:
    """Extremes, percentiles and distinct users are computed anew; a group without events is gone."""
    texts = ['{"n": 1}', '{"n": 100}', '{"n": 5}', '{"n": 7}', '{"m": 1}']
    append(store, *(make_event(number, user_id=f"u{number}", metadata=text) for number, text in enumerate(texts)))
    append(store, make_event(10, user_id="u0", metadata='{"n": 3}'), make_event(11, "2025-12", user_id="u1"))
    kinds = (MetricKind.MIN, MetricKind.MAX, MetricKind.AVG, MetricKind.P50)
    question = Question((EVENTS, USERS, *(Metric(kind, "n") for kind in kinds)))
    assert alike(ask(reader, question), [(7, 5, 1.0, 100.0, 23.2, 5.0)])
    low, high, middle, other, none, again, _elsewhere = positions(read(store))
    assert store.remove(NOVEMBER, [high, low]) == 2
    assert alike(ask(reader, question), [(5, 5, 3.0, 7.0, 5.0, 5.0)])
    assert store.remove(NOVEMBER, [middle, none]) == 2
    assert alike(ask(reader, question), [(3, 3, 3.0, 7.0, 5.0, 5.0)])
    assert counted(reader, USER) == [("u0", 1), ("u1", 1), ("u3", 1)]
    assert store.remove(NOVEMBER, [other, again]) == 2
    assert ask(reader, question) == [(1, 1, None, None, None, None)]


def test_unknown_positions_are_passed_over(store: Store) -> None:
    """Positions of other months, of nothing, of what is gone already; one that is named twice is one."""
    append(store, make_event(1, "2025-10"), make_event(2), make_event(2), make_event(3), make_event(4, "2025-12"))
    october, first, second, december = positions(read(store))
    before = contents(store)
    for month in (NOVEMBER, Month.parse("2024-02"), Month.parse("2030-01")):
        assert store.remove(month, []) == 0
        assert store.remove(month, [october, december, 0, -1, store.head + 1, 2**62]) == 0
    assert contents(store) == before
    assert store.remove(NOVEMBER, [second, december, second, 0, second]) == 1
    assert store.remove(NOVEMBER, [second]) == 0
    assert positions(read(store)) == [october, first, december]


def test_a_store_without_events_has_nothing_to_remove(store: Store) -> None:
    """An empty store stays empty."""
    assert store.remove(NOVEMBER, [1, 2]) == 0
    assert (store.head, list(store.months())) == (0, [])


def test_the_head_stays_and_positions_go_on(store: Store, reader: Reader) -> None:
    """Also if the last event is removed, or all are: no position is given twice, and tables tell the same head."""
    append(store, make_event(1, "2025-10"), make_event(2), make_event(3))
    head = store.head
    assert store.remove(NOVEMBER, [head]) == 1
    assert store.head == head
    assert store.remove(NOVEMBER, positions(read(store))) == 1
    assert store.remove(Month.parse("2025-10"), positions(read(store))) == 1
    assert store.head == head
    answer = reader.aggregate([Question((EVENTS,))])
    assert (answer.as_of, rows(answer.tables[0])) == (head, [(0,)])
    assert (append(store, make_event(4)).first_position or 0) > head


def test_what_was_learned_stays(store: Store) -> None:
    """Months, sources and types are those that ever had events."""
    append(store, make_event(1, "2025-10", type="once"), source="web")
    append(store, make_event(2), source="ci")
    before = contents(store)
    (first, _second) = positions(read(store))
    assert store.remove(Month.parse("2025-10"), [first]) == 1
    assert contents(store) == before | {"events": read(store)}


def test_an_id_can_be_stored_anew(store: Store, reader: Reader) -> None:
    """With the same or other content, at a new position; from then on it is compared with the new content."""
    change = Change("pulls", "1", Action.UPDATE, '{"a": 1}', '{"a": 2}')
    event, other = make_event(1, change=change, tags=("a",), metadata='{"k": 1}'), make_event(1, user_id="bob")
    place = append(store, event).first_position
    for again in (event, other, event, event):
        assert store.remove(NOVEMBER, [place or 0]) == 1
        answer = append(store, again)
        assert answer.accepted == 1
        assert (answer.first_position or 0) > (place or 0)
        place = answer.first_position
        (found,) = read(store)
        assert (found.position, found.user_id, found.change) == (place, again.user_id, again.change)
        assert only_item(append(store, again)).existing_position == place
        assert append(store, other if again is event else event).rejected == 1
        assert counted(reader, USER, TAG, metadata("k")) == [
            ("ann", "a", "1", 1) if again is event else ("bob", None, None, 1)
        ]


def test_what_was_removed_does_not_conflict(store: Store) -> None:
    """An atomic batch, and a batch that brings an id twice, find nothing of it."""
    append(store, make_event(1), make_event(2))
    first, second = positions(read(store))
    store.remove(NOVEMBER, [first])
    assert append(store, make_event(1, user_id="bob"), make_event(3), atomic=True).accepted == 2
    store.remove(NOVEMBER, [second])
    answer = append(store, make_event(2, user_id="eve"), make_event(2, user_id="eve"), make_event(2))
    assert (answer.accepted, answer.duplicate, answer.rejected) == (1, 1, 1)


@pytest.mark.parametrize("order", Order)
def test_pages_go_on_over_a_removal(store: Store, reader: Reader, order: Order) -> None:
    """What is removed between two pages is not on the next one, also if it is where the next one begins."""
    events = read(store, order=order) if populate(store) else []
    cut = store.head
    page = list(reader.list_events(EVERYTHING, order, 40, after=None, as_of=cut))
    assert page == events[:40]
    for month in map(Month.parse, MONTHS):
        store.remove(month, positions([*page[-1:], *events[50:60]]))
    after = Keyset(page[-1].timestamp_ms, page[-1].position)
    rest = [event for found in pages(reader, EVERYTHING, order, 7, as_of=cut, after=after) for event in found]
    assert rest == events[40:50] + events[60:]


def test_many_at_once(store: Store, reader: Reader) -> None:
    """Thousands of positions in one call, and the month goes on."""
    append(store, *(make_event(number, user_id=f"u{number}") for number in range(5_000)))
    kept = positions(read(store))[7::1_000]
    assert store.remove(NOVEMBER, [place for place in positions(read(store)) if place not in kept]) == 4_995
    assert positions(read(store)) == kept
    assert append(store, *(make_event(number, user_id="again") for number in range(5_000))).accepted == 4_995
    assert ask(reader, Question((EVENTS, USERS))) == [(5_000, 6)]


@pytest.mark.parametrize("seed", range(3))
def test_removals_between_appends_and_upkeep(store: Store, reader: Reader, seed: int) -> None:
    """In any order of new events, late ones, ids that come again, removals and upkeep: tables recount what is left."""
    chance = random.Random(seed)
    left: list[Event] = []
    for step in range(40):
        head = store.head
        if step % 4 < 2:
            numbers = [chance.randrange(60) for _ in range(12)]
            append(
                store,
                *(
                    make_event(number, MONTHS[number % 5], number % 3, user_id=f"u{number % 7}", type="ab"[number % 2])
                    for number in numbers
                ),
                source=f"s{step % 3}",
            )
            left += read(store, EventFilter(after_position=head))
        elif left:
            gone = chance.sample(positions(left), min(len(left), chance.choice((1, 3, 9))))
            removed = sum(store.remove(Month.parse(month), gone) for month in MONTHS)
            assert removed == len(gone)
            left = [event for event in left if event.position not in gone]
        if chance.random() < 0.3:
            store.maintain(idle=chance.random() < 0.5)
        assert _answers(reader) == _recounted(left)
    assert read(store) == left


def test_a_removal_is_seen_whole(store: Store) -> None:
    """Beside the writer: of events that are appended and removed together a table shows all or none."""
    rounds = 60

    def write() -> None:
        for number in range(rounds):
            head = store.head
            append(store, *(make_event(number * 4 + row, user_id=f"u{number}") for row in range(4)))
            places = positions(read(store, EventFilter(after_position=head)))
            store.remove(NOVEMBER, places if number % 2 else places[:2])

    with ThreadPoolExecutor(1) as pool:
        writing, reader = pool.submit(write), store.reader()
        while not writing.done():
            ((events, users),) = ask(reader, Question((EVENTS, USERS)))
            assert int(events or 0) - 2 * int(users or 0) in (0, 2)
        writing.result(PATIENCE_S)
        assert ask(reader, Question((EVENTS, USERS))) == [(rounds, rounds // 2)]
        reader.close()


@pytest.mark.parametrize("restart", [Home.reopen, Home.crash], ids=["closed", "crashed"])
def test_what_was_removed_does_not_come_back(lasting_home: Home, restart: Callable[[Home], Store]) -> None:
    """After a clean end and after a crash: the same events, the same head, and ids are free."""
    store = lasting_home.open()
    events = populate(store)
    last = events[-1]
    gone = [*positions(read(store, WITHIN))[::2], last.position]
    removed = store.remove(NOVEMBER, gone) + store.remove(Month.of(last.timestamp_ms), [last.position])
    left = [event for event in events if event.position not in gone]
    assert removed == len(events) - len(left)
    before = contents(store)
    for _ in range(2):
        store = restart(lasting_home)
        assert contents(store) == before
        reader = store.reader()
        assert _answers(reader) == _recounted(left)
        reader.close()
    assert store.remove(NOVEMBER, gone) == 0
    answer = append(store, make_event(int.from_bytes(last.id), str(Month.of(last.timestamp_ms)), user_id="anew"))
    assert answer.accepted == 1
    assert (answer.first_position or 0) > last.position
