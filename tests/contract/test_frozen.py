"""Numbers of a month are frozen before its rows change or go; they go on to answer, or what is asked is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from retention.facts import RAW
from retention.hold import Hold
from retention.month import Month
from server.errors import NotFound, Precondition
from server.frozen import ANY_TYPE, Cell, Detail, Frozen, Kept, Quarters
from server.model import Count, Dimension, EventFilter, MonthState, Order
from server.question import Bucket, BucketUnit, Metric, MetricKind, OneOf, Predicate, Question, Read
from server.rewriting import Loss
from server.storage.contract import Reader, Store
from server.storage.memory.store import MemoryStore
from tests.support.answers import EVENTS, SOURCE, TAG, TYPE, USER, USERS, ask, instant
from tests.support.events import Sent, append, make_event, read
from tests.support.homes import Home
from tests.support.retaining import DROP, HOUR, KEEP, NOW_MS, REKEY, deed, freeze, profile, rewrite, seal

SEPTEMBER, OCTOBER, NOVEMBER = Month(2025, 9), Month(2025, 10), Month(2025, 11)
DAY, WEEK, MONTH = Bucket(BucketUnit.DAY), Bucket(BucketUnit.WEEK), Bucket(BucketUnit.MONTH)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
BERLIN = "Europe/Berlin"
TYPES = ("merged", "opened", "reviewed")


def history(month: Month, first: int, count: int = 90) -> list[Sent]:
    """Events of three types, of five users and nobody, one every seven hours and a bit."""
    return [
        make_event(
            first + number,
            str(month),
            number * (7 * HOUR_MS + 654_321),
            type=TYPES[number % 3],
            user_id=("", "ann", "ben", "cem", "dot", "eva")[number % 7 % 6],
            tags=("urgent",) if number % 4 == 0 else (),
            metadata=f'{{"n": {number}}}',
        )
        for number in range(count)
    ]


@pytest.fixture
def store(home: Home) -> Store:
    """Three months; October is sealed. Local days of Berlin are reported."""
    home.zones = (BERLIN,)
    store = home.open()
    for place, month in enumerate((SEPTEMBER, OCTOBER, NOVEMBER)):
        append(store, *history(month, 1_000 * place), source="reviews")
        append(store, *history(month, 1_000 * place + 500, 30), source="web")
    seal(store, OCTOBER)
    return store


def let_go(store: Store, types: Sequence[str] = TYPES, *holds: Hold) -> None:
    """October's rows of these types, frozen before."""
    freeze(store, OCTOBER, types)
    rewrite(store, OCTOBER, None, types, holds=holds)


def question(*by: Any, metrics: tuple[Metric, ...] = (EVENTS,), **rest: Any) -> Question:
    """A question about October, if nothing else is said."""
    return Question(metrics, by, **{"start_ms": OCTOBER.start_ms, "end_ms": OCTOBER.end_ms} | rest)


def of(*types: str) -> Predicate:
    """Events of these types."""
    return OneOf(TYPE, types)


def refused(reader: Reader, asked: Question) -> str:
    """The words of the refusal."""
    with pytest.raises(Precondition) as caught:
        reader.aggregate([asked])
    assert caught.value.reason == "FROZEN_GRAIN"
    assert caught.value.hint
    return caught.value.message


# Counting


def test_the_numbers_are_those_of_the_rows(store: Store, reader: Reader) -> None:
    """Quarter-hours by source; days, weeks and months of UTC and Berlin, clipped to the month."""
    plain = MemoryStore(reporting_time_zones=(BERLIN,))
    for event in read(store):
        sent = Sent(
            event.id,
            event.timestamp_ms,
            event.type,
            event.user_id,
        )
        append(plain, sent, source=event.source)
    seal(plain, OCTOBER)
    counted, expected = (side.freeze(OCTOBER, ["opened", "never", "merged"]) for side in (reader, plain.reader()))
    assert _plain(counted) == _plain(expected)
    assert counted.zones == ("UTC", BERLIN)
    assert counted.types["never"].cells == []
    assert sum(counted.types["opened"].quarters.events) == 40


def test_a_cell_is_clipped_to_the_month(home: Home) -> None:
    """An event of the last hour of October lies in Berlin's November, in a cell of its own that October keeps."""
    home.zones = (BERLIN,)
    store = home.open()
    append(store, make_event(1, "2025-10", -1, user_id="ann"), make_event(2, "2025-10", 0, user_id=""))
    append(store, make_event(3, "2025-11", 0, user_id="ben"))
    seal(store, OCTOBER)
    frozen = store.reader().freeze(OCTOBER, ["pr_opened"])
    berlin = [cell for cell in frozen.types["pr_opened"].cells if cell.zone == BERLIN]
    assert [cell for cell in berlin if cell.grain is BucketUnit.MONTH] == [
        Cell(BERLIN, BucketUnit.MONTH, instant("2025-09-30T22:00Z"), 1, 0),
        Cell(BERLIN, BucketUnit.MONTH, instant("2025-10-31T23:00Z"), 1, 1),
    ]
    last = NOVEMBER.start_ms - 900_000
    assert frozen.types["pr_opened"].quarters == Quarters([OCTOBER.start_ms, last], ["reviews"] * 2, [1, 1])


def _plain(frozen: Frozen) -> Any:
    """By value, whatever kind of sequence an engine likes."""
    types = {
        name: (list(numbers.quarters.starts_ms), list(numbers.quarters.sources), list(numbers.quarters.events),
               list(numbers.cells))
        for name, numbers in frozen.types.items()
    }  # fmt: skip
    return frozen.month, frozen.zones, types, list(frozen.together or ()), frozen.together is None


# Keeping


def test_numbers_are_kept_once_with_the_deed(store: Store, reader: Reader) -> None:
    """What is kept is known, in the chain, and never counted again; the other types still can be."""
    before = store.records.head.sequence
    freeze(store, OCTOBER, ["opened"])
    assert store.records.head.sequence == before + 1
    assert store.records.frozen_types == {OCTOBER: frozenset({"opened"})}
    assert store.records.frozen[OCTOBER].details == dict.fromkeys(("opened", ANY_TYPE), Detail(("UTC", BERLIN)))
    again = reader.freeze(OCTOBER, ["merged"])
    assert again.together is None
    with pytest.raises(Precondition) as caught:
        reader.freeze(OCTOBER, ["merged", "opened"])
    assert caught.value.reason == "NUMBERS_FROZEN"
    with pytest.raises(Precondition) as caught:
        store.records.keep(replace(again, types={**again.types, "opened": again.types["merged"]}), deed("freeze"))
    assert caught.value.reason == "NUMBERS_FROZEN"
    assert store.records.head.sequence == before + 1
    store.records.keep(again, deed("freeze"))
    assert store.records.frozen_types == {OCTOBER: frozenset({"merged", "opened"})}


def test_a_frozen_month_stays_sealed(store: Store) -> None:
    """More events would make its numbers wrong."""
    freeze(store, OCTOBER, ["opened"])
    with pytest.raises(Precondition) as caught:
        store.rebuild(OCTOBER, MonthState.OPEN)
    assert caught.value.reason == "NUMBERS_FROZEN"


def test_only_sealed_months_whose_rows_are_as_they_came_are_frozen(store: Store, reader: Reader) -> None:
    """Not an open one, none that is not there, and not after the first change, be it of another type."""
    for month, kind, reason in ((NOVEMBER, Precondition, "MONTH_STATE"), (Month(2001, 1), NotFound, "MONTH_UNKNOWN")):
        with pytest.raises(kind) as caught:
            reader.freeze(month, ["opened"])
        assert caught.value.reason == reason
    rewrite(store, OCTOBER, profile(user_id=DROP), ["opened"])
    with pytest.raises(Precondition) as late:
        reader.freeze(OCTOBER, ["merged"])
    assert late.value.reason == "ROWS_CHANGED"


def test_freezing_changes_no_answer(store: Store, reader: Reader) -> None:
    """As long as the rows are as they were, questions read them."""
    asked = question(DAY, TYPE, USER, metrics=(EVENTS, USERS, Metric(MetricKind.SUM, "n")))
    before = ask(reader, asked)
    freeze(store, OCTOBER, TYPES)
    assert ask(reader, asked) == before
    assert reader.aggregate([question()]).read.frozen == 0


def test_what_is_kept_is_there_after_a_restart(lasting_home: Home) -> None:
    """What is frozen, what was lost, and every number."""
    lasting_home.zones = (BERLIN,)
    store = lasting_home.open()
    append(store, *history(OCTOBER, 0))
    seal(store, OCTOBER)
    asked = [
        question(DAY, TYPE, metrics=(EVENTS, USERS)),
        question(SOURCE, Bucket(BucketUnit.QUARTER_HOUR)),
        question(DAY, metrics=(USERS,), time_zone=BERLIN, start_ms=instant("2025-10-01T22:00Z")),
    ]
    reader = store.reader()
    before = [ask(reader, each) for each in asked]
    reader.close()
    let_go(store)
    kept = store.records.frozen
    again = lasting_home.crash()
    assert again.records.frozen == kept == {OCTOBER: Kept(kept[OCTOBER].details, 90)}
    reader = again.reader()
    assert [ask(reader, each) for each in asked] == before
    reader.close()


# Answering


def test_counts_stay_true_when_rows_go(store: Store, reader: Reader) -> None:
    """By type, source and time, down to quarter-hours, in any zone that shows them, beside months that are whole."""
    asked = [
        Question((EVENTS,)),
        Question((EVENTS,), (MONTH, TYPE, SOURCE)),
        Question((EVENTS,), (Bucket(BucketUnit.HOUR),), time_zone="Asia/Kathmandu"),
        question(Bucket(BucketUnit.QUARTER_HOUR), SOURCE, where=of("opened", "merged")),
        question(start_ms=OCTOBER.start_ms + 9 * 900_000, end_ms=OCTOBER.end_ms - DAY_MS),
        question(TYPE, where=OneOf(SOURCE, ("web",))),
    ]
    before = [ask(reader, each) for each in asked]
    let_go(store, TYPES[:2])
    assert [ask(reader, each) for each in asked] == before
    freeze(store, OCTOBER, TYPES[2:])
    store.drop(OCTOBER, dict.fromkeys(TYPES, Loss(gone=True)), deed("drop"))
    assert [ask(reader, each) for each in asked] == before


def test_types_go_one_after_the_other(store: Store, reader: Reader) -> None:
    """What a reader has seen of a month's numbers before is not all that there is."""
    asked = [question(DAY, TYPE, metrics=(EVENTS, USERS)), question(DAY, metrics=(EVENTS, USERS)), question(SOURCE)]
    before = [ask(reader, each) for each in asked]
    for name in TYPES:
        let_go(store, [name])
        assert [ask(reader, each) for each in asked] == before


def test_held_rows_are_not_added_to_the_frozen_numbers(store: Store, reader: Reader) -> None:
    """They were counted with the others; a list shows them."""
    before = [ask(reader, question(TYPE)), ask(reader, question(metrics=(USERS,)))]
    let_go(store, TYPES, Hold("h", "LITIGATION", NOW_MS, users=frozenset({"ann"})))
    assert [ask(reader, question(TYPE)), ask(reader, question(metrics=(USERS,)))] == before
    october = EventFilter(start_ms=OCTOBER.start_ms, end_ms=OCTOBER.end_ms)
    left = reader.list_events(october, Order.TIME_ASC, 1_000, after=None, as_of=store.head)
    assert {event.user_id for event in left} == {"ann"}


def test_counts_stay_true_when_times_are_rounded_and_sources_dropped(store: Store, reader: Reader) -> None:
    """Rows lie in other quarter-hours and have no source any more; the counts are those from before."""
    asked = [
        question(Bucket(BucketUnit.QUARTER_HOUR), SOURCE),
        question(SOURCE, end_ms=OCTOBER.start_ms + 27 * HOUR_MS),
    ]
    before = [ask(reader, each) for each in asked]
    freeze(store, OCTOBER, TYPES)
    rewrite(store, OCTOBER, profile(user_id=KEEP, tags=KEEP, timestamp=HOUR), TYPES)
    assert [ask(reader, each) for each in asked] == before
    assert "2025-10" in refused(reader, question(TAG, Bucket(BucketUnit.QUARTER_HOUR)))
    assert ask(reader, question(TAG, Bucket(BucketUnit.HOUR)))


USERS_OF_CELLS = (
    question(metrics=(USERS,)),
    question(TYPE, metrics=(USERS, EVENTS)),
    question(metrics=(USERS,), where=of("opened")),
    question(DAY, metrics=(USERS,)),
    question(DAY, TYPE, metrics=(EVENTS, USERS)),
    question(DAY, metrics=(USERS,), where=of("opened"), end_ms=instant("2025-10-20T00:00Z")),
    question(WEEK, metrics=(USERS,), start_ms=instant("2025-10-06T00:00Z"), end_ms=instant("2025-10-27T00:00Z")),
    question(DAY, metrics=(USERS,), time_zone=BERLIN, start_ms=instant("2025-10-05T22:00Z")),
    question(metrics=(USERS,), start_ms=instant("2025-10-06T00:00Z"), end_ms=instant("2025-10-13T00:00Z")),
    question(metrics=(USERS,), start_ms=instant("2025-10-05T22:00Z"), end_ms=instant("2025-10-06T22:00Z")),
    Question((USERS,), (MONTH, TYPE)),
    Question((EVENTS, USERS), (MONTH,)),
)


def test_users_of_one_frozen_cell_stay_true(store: Store, reader: Reader) -> None:
    """Of one type or of all; a day, week or month of a kept zone, the whole month, or a range that is one."""
    before = [ask(reader, asked) for asked in USERS_OF_CELLS]
    freeze(store, OCTOBER, TYPES)
    rewrite(store, OCTOBER, profile(user_id=REKEY), TYPES[:2])
    assert [ask(reader, asked) for asked in USERS_OF_CELLS] == before
    rewrite(store, OCTOBER, None, TYPES[1:])
    assert [ask(reader, asked) for asked in USERS_OF_CELLS] == before


BEYOND_CELLS = (
    Question((USERS,)),
    question(metrics=(USERS,), where=of("opened", "merged")),
    question(metrics=(USERS,), where=OneOf(SOURCE, ("web",))),
    question(SOURCE, metrics=(USERS,)),
    question(Bucket(BucketUnit.HOUR), metrics=(USERS,)),
    question(DAY, metrics=(USERS,), time_zone="America/New_York"),
    question(DAY, metrics=(USERS,), end_ms=instant("2025-10-20T12:00Z")),
    Question((USERS,), (WEEK,)),
    question(USER),
    question(where=OneOf(USER, ("ann",))),
    question(TAG),
    question(where=OneOf(TAG, ("urgent",))),
    question(metrics=(Metric(MetricKind.AVG, "n"),)),
    question(end_ms=OCTOBER.end_ms - 1),
)


def test_what_frozen_numbers_cannot_tell_is_refused(store: Store, reader: Reader) -> None:
    """Users of several cells, parts of cells, and everything that only rows know: with months and types, by name."""
    let_go(store, ["merged", "opened"])
    for asked in BEYOND_CELLS:
        words = refused(reader, asked)
        assert "2025-10" in words
        assert "quarter-hour" in words
        assert BERLIN in words
        assert ask(reader, replace(asked, start_ms=NOVEMBER.start_ms, end_ms=NOVEMBER.end_ms)) is not None
        assert ask(reader, replace(asked, where=of("reviewed"))) is not None


def test_a_refusal_names_all_months_and_types(store: Store, reader: Reader) -> None:
    """Months that follow each other as a span."""
    seal(store, SEPTEMBER)
    for month, types in ((SEPTEMBER, ["opened"]), (OCTOBER, ["merged", "opened"])):
        freeze(store, month, types)
        rewrite(store, month, None, types)
    words = refused(reader, Question((EVENTS,), (USER,)))
    assert "2025-09 to 2025-10" in words
    assert "merged, opened" in words


def test_treated_rows_answer_as_they_are_now(store: Store, reader: Reader) -> None:
    """Other fields are read from the rows; users are refused, since those of the rows are not the users."""
    freeze(store, OCTOBER, TYPES)
    rewrite(store, OCTOBER, profile(user_id=REKEY, metadata=KEEP), TYPES)
    assert ask(reader, question(TAG)) == [(None, 120)]
    total = (Metric(MetricKind.SUM, "n"), USERS)
    assert ask(reader, question(metrics=total))[0] == (float(sum(range(90)) + sum(range(30))), 5)
    refused(reader, question(USER))
    refused(reader, question(where=OneOf(USER, ("ann",))))
    refused(reader, question(TAG, metrics=(USERS,)))


def test_what_came_frozen_is_told(store: Store, reader: Reader) -> None:
    """How many cells, and of which months; nothing of questions about what is whole."""
    let_go(store)
    told = reader.aggregate([Question((EVENTS,), (MONTH,))]).read
    assert (told.frozen_months, told.frozen > 0) == ({OCTOBER}, True)
    whole = reader.aggregate([Question((EVENTS,), (USER,), start_ms=NOVEMBER.start_ms)]).read
    assert (whole.frozen, whole.frozen_months) == (Read().frozen, set())


def test_counts_of_rows_are_refused_where_rows_cannot_tell(store: Store, reader: Reader) -> None:
    """`count_events` knows no frozen numbers; it counts what is whole, and the rows of types that only lack a user."""
    freeze(store, OCTOBER, TYPES)
    rewrite(store, OCTOBER, profile(user_id=DROP), ["opened"])
    as_of, by_user = store.head, [Dimension.USER]
    assert reader.count_events(EventFilter(types=("opened",)), (), as_of=as_of) == [Count((), 120)]
    rewrite(store, OCTOBER, None, ["merged"])
    for where, by in (
        (EventFilter(), ()),
        (EventFilter(types=("opened",)), by_user),
        (EventFilter(types=("opened",), user_ids=("ann",)), ()),
        (EventFilter(types=("merged",), after_position=3), ()),
    ):
        with pytest.raises(Precondition) as caught:
            reader.count_events(where, by, as_of=as_of)
        assert caught.value.reason == "FROZEN_GRAIN"
    assert reader.count_events(EventFilter(end_ms=OCTOBER.start_ms), by_user, as_of=as_of)
    assert reader.count_events(EventFilter(types=("reviewed",)), by_user, as_of=as_of)


def test_lists_have_the_rows_that_there_are(store: Store) -> None:
    """Of a month with some types gone the others; of a dropped month none; the months around it all."""
    let_go(store, ["merged"])
    assert {event.type for event in read(store) if Month.of(event.timestamp_ms) == OCTOBER} == {"opened", "reviewed"}
    freeze(store, OCTOBER, ["opened", "reviewed"])
    store.drop(OCTOBER, dict.fromkeys(TYPES, Loss(gone=True)), deed("drop"))
    assert {Month.of(event.timestamp_ms) for event in read(store)} == {SEPTEMBER, NOVEMBER}


def test_rows_that_went_without_frozen_numbers_are_never_counted_as_none(store: Store, reader: Reader) -> None:
    """Should that ever be, every question that touches them is refused."""
    rewrite(store, OCTOBER, None, ["merged"])
    refused(reader, question())
    assert ask(reader, question(where=of("opened"))) == [(40,)]


def test_a_range_that_ends_before_it_begins_has_no_events(store: Store, reader: Reader) -> None:
    """Also within a month that cannot tell."""
    let_go(store)
    asked = question(USER, start_ms=OCTOBER.start_ms + DAY_MS, end_ms=OCTOBER.start_ms + HOUR_MS)
    assert ask(reader, asked) == []


def test_forms_and_frozen_types_are_two_things(store: Store) -> None:
    """Freezing makes no other rows."""
    freeze(store, OCTOBER, TYPES)
    reader = store.reader()
    assert {stock.profile for stock in reader.stocks(OCTOBER).stocks} == {RAW}
    reader.close()
