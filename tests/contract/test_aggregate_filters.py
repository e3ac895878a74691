"""What aggregate questions promise about the events they look at: filters, time ranges, the cut and its moment."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import pytest

from retention.month import Month
from server.errors import TrackdError, Unavailable
from server.question import (
    EVERYTHING,
    AllOf,
    AnyOf,
    Bucket,
    BucketUnit,
    Metric,
    MetricKind,
    Not,
    OneOf,
    Predicate,
    Present,
    Question,
    StartsWith,
)
from server.storage.contract import Reader, Store
from tests.support.answers import (
    EVENTS,
    SESSION,
    SOURCE,
    TAG,
    TYPE,
    USER,
    USERS,
    ask,
    counted,
    metadata,
    rows,
)
from tests.support.events import append, append_group, make_batch, make_event, ms, positions, read
from tests.support.homes import Home
from tests.support.population import populate

PATIENCE_S = 30
K, NAME = metadata("k"), Metric(MetricKind.MIN, "name")


def _seven(store: Store) -> None:
    """Events of three months that differ in everything; the number at "name" in their metadata tells them apart."""
    append(
        store,
        make_event(1, "2025-09", type="pr_opened", user_id="ann", tags=("auth",), metadata='{"name": 1, "k": "v"}'),
        make_event(2, "2025-10", type="pr_merged", user_id="", session_id="s-1", metadata='{"name": 2, "k": ""}'),
        make_event(3, "2025-10", type="pr_opened", user_id="Ann", tags=("ui", "auth/x"), metadata='{"name": 3}'),
        source="web",
    )
    append(
        store,
        make_event(4, "2025-11", type="review", user_id="annabel", tags=("ui",), metadata='{"name": 4, "k": null}'),
        make_event(5, "2025-09", type="review", user_id="李雷", session_id="s-2", metadata='{"name": 5, "k": 1.50}'),
        source="ci",
    )
    append(store, make_event(6, user_id="%", tags=("_",), metadata='{"name": 6, "k": true}'), source="ci/x")
    append(store, make_event(7, type="pr", user_id="bob", session_id="s", metadata='{"name": 7, "k": ["v"]}'))


FILTERS: dict[str, tuple[Predicate, set[int]]] = {
    "everything": (EVERYTHING, {1, 2, 3, 4, 5, 6, 7}),
    "type": (OneOf(TYPE, ("pr_opened",)), {1, 3, 6}),
    "types, one twice, one unknown": (OneOf(TYPE, ("review", "pr_merged", "review", "x")), {2, 4, 5}),
    "type starts": (StartsWith(TYPE, ("pr",)), {1, 2, 3, 6, 7}),
    "type starts with one of": (StartsWith(TYPE, ("pr_o", "rev", "review_")), {1, 3, 4, 5, 6}),
    "type has it, but later": (StartsWith(TYPE, ("opened", "r", "R", "pr_opened_")), {4, 5}),
    "type is there": (Present(TYPE), {1, 2, 3, 4, 5, 6, 7}),
    "source": (OneOf(SOURCE, ("ci", "nowhere")), {4, 5}),
    "source starts": (StartsWith(SOURCE, ("ci",)), {4, 5, 6}),
    "source is there": (Present(SOURCE), {1, 2, 3, 4, 5, 6, 7}),
    "user": (OneOf(USER, ("ann",)), {1}),
    "nobody": (OneOf(USER, ("",)), {2}),
    "nobody or somebody": (OneOf(USER, ("", "李雷")), {2, 5}),
    "no pattern": (OneOf(USER, ("%",)), {6}),
    "user starts": (StartsWith(USER, ("ann",)), {1, 4}),
    "user starts with a sign": (StartsWith(USER, ("%", "_")), {6}),
    "user starts, other script": (StartsWith(USER, ("李",)), {5}),
    "every user starts with nothing": (StartsWith(USER, ("",)), {1, 2, 3, 4, 5, 6, 7}),
    "user is longer": (StartsWith(USER, ("annabelle",)), set()),
    "somebody": (Present(USER), {1, 3, 4, 5, 6, 7}),
    "session": (OneOf(SESSION, ("s-1", "s")), {2, 7}),
    "no session": (OneOf(SESSION, ("",)), {1, 3, 4, 6}),
    "session starts": (StartsWith(SESSION, ("s-",)), {2, 5}),
    "a session": (Present(SESSION), {2, 5, 7}),
    "tag": (OneOf(TAG, ("auth",)), {1}),
    "one of its tags": (OneOf(TAG, ("ui", "auth")), {1, 3, 4}),
    "tag starts": (StartsWith(TAG, ("auth",)), {1, 3}),
    "tag has it, but later": (StartsWith(TAG, ("uth", "i", "/x", "Auth")), set()),
    "tag starts with a sign": (StartsWith(TAG, ("_",)), {6}),
    "tag starts with nothing": (StartsWith(TAG, ("",)), {1, 3, 4, 6}),
    "a tag": (Present(TAG), {1, 3, 4, 6}),
    "empty tag": (OneOf(TAG, ("",)), set()),
    "metadata": (OneOf(K, ("v",)), {1}),
    "metadata, empty": (OneOf(K, ("",)), {2}),
    "metadata as it was sent": (OneOf(K, ("1.50", "true")), {5, 6}),
    "metadata as it was not sent": (OneOf(K, ("1.5", "True", "null", '["v"]')), set()),
    "metadata starts": (StartsWith(K, ("1", "t")), {5, 6}),
    "metadata has it, but later": (StartsWith(K, (".50", "rue", '"v')), set()),
    "metadata starts with nothing": (StartsWith(K, ("",)), {1, 2, 5, 6}),
    "metadata is there": (Present(K), {1, 2, 5, 6}),
    "no values": (OneOf(TYPE, ()), set()),
    "no prefixes": (StartsWith(TYPE, ()), set()),
    "any of nothing": (AnyOf(()), set()),
    "not everything": (Not(EVERYTHING), set()),
    "nobody, as a denial": (Not(Present(USER)), {2}),
    "other tags or none": (Not(OneOf(TAG, ("ui",))), {1, 2, 5, 6, 7}),
    "other values or none": (Not(OneOf(K, ("v", ""))), {3, 4, 5, 6, 7}),
    "no value": (Not(StartsWith(K, ("",))), {3, 4, 7}),
    "not not": (Not(Not(OneOf(TYPE, ("pr",)))), {7}),
    "both": (AllOf((StartsWith(TYPE, ("pr",)), Present(SESSION))), {2, 7}),
    "two tags": (AllOf((OneOf(TAG, ("ui",)), OneOf(TAG, ("auth/x",)))), {3}),
    "either": (AnyOf((OneOf(SOURCE, ("web",)), OneOf(USER, ("bob",)), OneOf(USER, ("ann",)))), {1, 2, 3, 7}),
    "neither": (Not(AnyOf((OneOf(SOURCE, ("web",)), OneOf(USER, ("bob",))))), {4, 5, 6}),
    "deep": (
        AllOf(
            (
                AnyOf((Present(K), AllOf((Present(TAG), Not(OneOf(TAG, ("auth/x",))))))),
                Not(AllOf((OneOf(SOURCE, ("ci",)), Not(Present(SESSION))))),
                AnyOf((AllOf(()), AnyOf(()))),
            )
        ),
        {1, 2, 5, 6},
    ),
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_selects(store: Store, reader: Reader, name: str) -> None:
    """Exactly the matching events are looked at, whatever the metrics and dimensions are."""
    where, expected = FILTERS[name]
    _seven(store)
    (total,) = ask(reader, Question((EVENTS,), where=where))
    found = ask(reader, Question((NAME,), (metadata("name"),), where=where))
    assert (total, found) == ((len(expected),), [(str(name), float(name)) for name in sorted(expected)])


def test_filters_put_together(store: Store, reader: Reader) -> None:
    """Two filters, many times: both, either, the first without the second, and neither."""
    _seven(store)
    questions, expected = [], []
    for (one, first), (other, second) in random.Random(7).sample(list(combinations(FILTERS.values(), 2)), 200):
        for where, numbers in (
            (AllOf((one, other)), first & second),
            (AnyOf((one, other)), first | second),
            (AllOf((one, Not(other))), first - second),
            (Not(AnyOf((other, one))), {1, 2, 3, 4, 5, 6, 7} - first - second),
        ):
            questions.append(Question((NAME,), (metadata("name"),), where=where))
            expected.append([(str(number), float(number)) for number in sorted(numbers)])
    assert [rows(table) for table in reader.aggregate(questions).tables] == expected


def test_a_filter_on_a_dimension_keeps_its_other_values(store: Store, reader: Reader) -> None:
    """An event that is selected by one of its tags lies in the groups of all of them."""
    _seven(store)
    assert counted(reader, TAG, where=OneOf(TAG, ("ui",))) == [("auth/x", 1), ("ui", 2)]
    assert counted(reader, TAG, where=Not(OneOf(TAG, ("ui",)))) == [("_", 1), ("auth", 1), (None, 3)]


# Time


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (None, None),
        (("2025-10", 0), None),
        (None, ("2025-12", 0)),
        (("2025-10", 1), ("2025-12", 1)),
        (("2025-10", 86_400_000), ("2025-10", 86_400_001)),
        (("2025-10", -1), ("2025-11", 0)),
        (("2025-11", 0), ("2025-11", 0)),
        (("2025-12", 0), ("2025-10", 0)),
        (None, ("2025-09", 0)),
        (("2026-02", 0), None),
        (("2000-01", 0), ("2030-01", 0)),
    ],
)
def test_a_time_range_is_half_open(
    store: Store, reader: Reader, start: tuple[str, int] | None, end: tuple[str, int] | None
) -> None:
    """From the first millisecond on and before the last; a range turned round, or where no event is, is empty."""
    events = populate(store)
    start_ms, end_ms = (None if place is None else ms(*place) for place in (start, end))
    inside = [
        event
        for event in events
        if (start_ms is None or event.timestamp_ms >= start_ms) and (end_ms is None or event.timestamp_ms < end_ms)
    ]
    users = {event.user_id for event in inside if event.user_id}
    assert ask(reader, Question((EVENTS, USERS), start_ms=start_ms, end_ms=end_ms)) == [(len(inside), len(users))]
    months = Counter(Month.of(event.timestamp_ms).start_ms for event in inside)
    by_month = counted(reader, Bucket(BucketUnit.MONTH), start_ms=start_ms, end_ms=end_ms)
    assert by_month == sorted(months.items())


def test_months_outside_of_the_range_are_not_opened(lasting_home: Home) -> None:
    """A month that cannot be read does not keep others from answering."""
    store = lasting_home.open()
    append(store, make_event(1, "2025-11"), make_event(2, "2025-12"), make_event(3, "2026-01"))
    store = lasting_home.reopen()
    reader = store.reader()
    try:
        with lasting_home.broken("2025-12"):
            assert counted(reader, TYPE, end_ms=ms("2025-12")) == [("pr_opened", 1)]
            assert counted(reader, USER, start_ms=ms("2026-01")) == [("ann", 1)]
    finally:
        reader.close()


# The cut


def test_an_answer_has_what_was_acknowledged_before(store: Store, reader: Reader) -> None:
    """A reader that has answered sees what came since, late events too, and says how far it looked."""
    assert reader.aggregate([Question((EVENTS,))]).as_of == 0
    for number, month in enumerate(["2025-11", "2025-12", "2025-09", "2025-12", "2025-10"], 1):
        append(store, make_event(number, month))
        answer = reader.aggregate([Question((EVENTS,)), Question((EVENTS,), start_ms=ms(month), end_ms=ms(month) + 1)])
        assert answer.as_of == store.head
        assert rows(answer.tables[0]) == [(number,)]
        assert rows(answer.tables[1]) == [(2,) if number == 4 else (1,)]


def test_what_is_not_stored_is_not_counted(store: Store, reader: Reader) -> None:
    """Neither repeats nor conflicts nor aborted batches show, in no metric."""
    append(store, make_event(1, metadata='{"n": 1}'), make_event(1, metadata='{"n":1}'), make_event(1, user_id="bob"))
    append(store, make_event(2, metadata='{"n": 2}'), make_event(1, user_id="eve"), atomic=True)
    append(store, make_event(1, metadata='{"n": 1}'))
    assert ask(reader, Question((EVENTS, USERS, Metric(MetricKind.SUM, "n")), (USER,))) == [("ann", 1, 1, 1.0)]


def test_questions_of_one_call_are_answered_in_their_order(store: Store, reader: Reader) -> None:
    """Each has its own metrics, dimensions, filter, range and limit; asked again alone each answers the same."""
    populate(store)
    questions = [
        Question((EVENTS,)),
        Question((USERS, EVENTS), (TAG, TYPE), OneOf(SOURCE, ("ci", "web"))),
        Question((EVENTS,), (USER,), start_ms=ms("2025-10"), end_ms=ms("2025-12"), limit=2),
        Question((EVENTS,), (Bucket(BucketUnit.DAY),), time_zone="Asia/Kolkata"),
        Question((USERS,), (Bucket(BucketUnit.DAY),), time_zone="America/New_York"),
        Question((EVENTS,)),
    ]
    together = [rows(table) for table in reader.aggregate(questions).tables]
    assert together == [ask(reader, question) for question in questions]
    assert len({tuple(table) for table in together}) == len(questions) - 1


def test_questions_of_one_call_are_of_one_moment(store: Store) -> None:
    """Beside a writer: all questions of a call see the same events, over months: those up to the head that is told."""
    november = Question((EVENTS,), start_ms=ms("2025-11"), end_ms=ms("2025-12"))
    questions = [november, Question((EVENTS,), start_ms=ms("2025-12")), Question((EVENTS, USERS)), november]
    told: dict[int, int] = {0: 0}

    def write() -> None:
        for number in range(600):
            if len(told) > 30:
                break
            event, other = make_event(number, user_id=f"u{number}"), make_event(number, "2025-12", user_id="x")
            append_group(store, make_batch(event), make_batch(other))

    with ThreadPoolExecutor(1) as pool:
        writing, reader = pool.submit(write), store.reader()
        while not writing.done():
            answer = reader.aggregate(questions)
            ((one,),), ((other,),), ((both, users),), ((again,),) = map(rows, answer.tables)
            assert one == other == again
            assert (both, users) == (2 * int(one or 0), one and int(one) + 1)
            assert max(told) <= answer.as_of <= store.head
            told[answer.as_of] = int(both or 0)
        writing.result(PATIENCE_S)
        reader.close()
    stored = positions(read(store))
    assert told == {as_of: sum(position <= as_of for position in stored) for as_of in told}


# Declared dimensions, and interrupts


def test_declaring_dimensions_changes_no_answer(store: Store, reader: Reader) -> None:
    """Declared before the first event or afterwards, of types with and without events, changed and taken back."""
    questions = [
        Question((EVENTS, USERS, NAME), (K,)),
        Question((EVENTS,), (metadata("name"), TYPE)),
        Question((EVENTS,), (Bucket(BucketUnit.DAY), K), OneOf(K, ("v", "1.50", "true"))),
    ]
    store.register_type("review", "", 1, dimensions=("k",))
    _seven(store)
    before = [rows(table) for table in reader.aggregate(questions).tables]
    assert before[0] == [("", 1, 0, 2.0), ("1.50", 1, 1, 5.0), ("true", 1, 1, 6.0), ("v", 1, 1, 1.0), (None, 3, 3, 3.0)]
    for dimensions in [("k", "name"), ("other",), ()]:
        for name in ("pr_opened", "review", "unused"):
            entry = store.register_type(name, "", 2, dimensions=dimensions)
            assert entry.dimensions == dimensions
        store.maintain(idle=True)
        assert [rows(table) for table in reader.aggregate(questions).tables] == before


def test_values_of_a_dimension_may_be_long(store: Store, reader: Reader) -> None:
    """Of one type only, beside short ones; a value of any length is grouped and found."""
    store.register_type("review", "", 1, dimensions=("k", "name"))
    store.register_type("deploy", "", 1, dimensions=("k",))
    long = "é" * 5_000
    append(
        store,
        make_event(1, type="review", metadata=json.dumps({"k": long, "name": "short"})),
        make_event(2, type="review", metadata='{"k":"short","name":"short"}'),
        make_event(3, type="deploy", metadata='{"k":"short"}'),
        make_event(4, type="deploy", metadata='{"k":0}'),
    )
    store.maintain(idle=True)
    question = Question((EVENTS,), (K,), order=())
    assert [rows(table) for table in reader.aggregate([question]).tables] == [[("0", 1), ("short", 2), (long, 1)]]
    found = Question((EVENTS,), (TYPE,), OneOf(K, (long,)))
    assert [rows(table) for table in reader.aggregate([found]).tables] == [[("review", 1)]]
    named = Question((EVENTS,), (metadata("name"),), OneOf(TYPE, ("review",)))
    assert [rows(table) for table in reader.aggregate([named]).tables] == [[("short", 2)]]


def test_an_interrupt_without_a_question_is_harmless(store: Store, reader: Reader) -> None:
    """Interrupting an idle reader does nothing to later questions."""
    events = populate(store)
    for _ in range(3):
        reader.interrupt()
        assert counted(reader) == [(len(events),)]


def test_an_interrupt_stops_the_question_that_runs(store: Store) -> None:
    """A call that computes for long raises INTERRUPTED soon; the reader goes on answering."""
    append(store, *(make_event(number, user_id=f"u{number}", tags=("a", "b")) for number in range(20_000)))
    reader = store.reader()
    stopped: list[TrackdError] = []
    question = Question((EVENTS,), (USER, metadata("k"), TAG), StartsWith(USER, ("u1", "u2")))

    def compute() -> None:
        until = time.monotonic() + PATIENCE_S
        try:
            while time.monotonic() < until:
                reader.aggregate([question] * 10)
        except TrackdError as error:
            stopped.append(error)

    computing = threading.Thread(target=compute)
    computing.start()
    while computing.is_alive():
        reader.interrupt()
        computing.join(0.002)
    (error,) = stopped
    assert isinstance(error, Unavailable)
    assert error.reason == "INTERRUPTED"
    assert counted(reader) == [(20_000,)]
    reader.close()
