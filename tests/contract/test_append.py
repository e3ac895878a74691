"""What appending promises about positions, the head, months and registries."""

from __future__ import annotations

from itertools import pairwise

import pytest

from retention.month import Month
from server.model import Action, Appended, Change, ChangeStatus, Item, MonthState, Outcome
from server.storage.contract import Store
from tests.support.events import (
    RECEIVED_MS,
    Sent,
    append,
    append_group,
    make_batch,
    make_event,
    make_id,
    ms,
    positions,
    read,
    stored,
)
from tests.support.homes import Home

FULL = Sent(
    id=make_id(1),
    timestamp_ms=ms("2025-11", 1),
    type="review_submitted",
    user_id="ann",
    session_id="s-1",
    client_ip="2001:db8::7",
    description="approved with remarks",
    tags=("backend", "auth", "a"),
    metadata='{"b": 1, "a": {"z": [1, 2.5, null]}}',
    change=Change("pulls", "17", Action.UPDATE, '{"state": "open"}', '{"state":"merged"}', ChangeStatus.FAILED, 3),
)


def test_an_empty_store_has_nothing(store: Store) -> None:
    """A new store has head 0 and neither months nor types nor sources."""
    assert store.head == 0
    assert [*store.months(), *store.event_types(), *store.sources()] == []
    assert read(store) == []


def test_an_empty_group_and_an_empty_batch_are_answered(store: Store) -> None:
    """No batches: no answers. A batch without events: an answer with zeros, also between others, and nothing moves."""
    assert list(store.append([])) == []
    assert append(store) == append(store, atomic=True) == Appended(0, None, None, ())
    assert store.head == 0
    first, nothing, last = append_group(
        store, make_batch(make_event(1)), make_batch(source="silent"), make_batch(make_event(2))
    )
    assert (first.accepted, nothing, last.accepted) == (1, Appended(0, None, None, ()), 1)
    assert list(store.sources()) == ["reviews"]


def test_everything_the_sender_said_is_read_back(store: Store) -> None:
    """Each field of an event and of its change comes back letter by letter, with source and time of receipt."""
    append_group(store, make_batch(FULL, source="ci", received_ms=RECEIVED_MS + 5))
    assert stored(store) == [FULL]
    (event,) = read(store)
    assert (event.source, event.received_ms) == ("ci", RECEIVED_MS + 5)


def test_absent_is_empty(store: Store) -> None:
    """An event of which only id, type and time were said comes back with empty texts, no tags and no change."""
    bare = make_event(1, user_id="")
    append(store, bare)
    assert stored(store) == [bare]


@pytest.mark.parametrize(
    "change",
    [
        Change("pulls", "1", Action.CREATE, new_values='{"a":1}'),
        Change("pulls", "1", Action.DELETE, old_values='{"a":1}', rows_affected=0),
        Change("pulls", "", Action.UPDATE, status=ChangeStatus.FAILED, rows_affected=2**40),
    ],
    ids=["create", "delete", "many"],
)
def test_each_kind_of_change_is_read_back(store: Store, change: Change) -> None:
    """Changes keep action, status and row count; no row count and a row count of 0 are two things."""
    event = make_event(1, change=change)
    append(store, event, make_event(2))
    assert stored(store) == [event, make_event(2)]


@pytest.mark.parametrize(
    "text",
    [
        "Zoë Müller",
        "李雷",
        "\u05d0\u05e0\u05d9 \u202e rtl",
        "👩\u200d💻\U0010ffff",
        "'; DROP TABLE events; --",
        '%_\\"\n\t\r',
        "\ufeff\uffff",
        " padded ",
    ],
)
def test_any_text_is_kept(store: Store, text: str) -> None:
    """Texts of any script, with quotes, control characters and spaces at their ends come back as they were."""
    change = Change(text, text, Action.CREATE, new_values=f'{{"v": "{"x" if chr(34) in text else "é👩"}"}}')
    event = make_event(
        1, user_id=text, session_id=text, description=text, tags=(text, "x"), metadata='{"é": "👩"}', change=change
    )
    append(store, event)
    assert stored(store) == [event]


def test_texts_that_look_alike_stay_apart(store: Store) -> None:
    """Case, composed and decomposed letters and trailing spaces make different users."""
    users = ["ann", "Ann", "ann ", "Zoë", "Zoe\u0308"]
    append(store, *(make_event(number, user_id=user) for number, user in enumerate(users)))
    assert [event.user_id for event in read(store)] == users


def test_large_texts_are_kept(store: Store) -> None:
    """Metadata of 64 KiB and a description of 4 KiB come back whole."""
    event = make_event(1, metadata='{"k": "' + "é" * 32_000 + '"}', description="d" * 4_096)
    append(store, event)
    assert stored(store) == [event]


@pytest.mark.parametrize("value", [bytes(16), b"\xff" * 16, b"\x00abc'\"\\\n" + bytes(8), bytes(range(16))])
def test_any_sixteen_bytes_are_an_id(store: Store, value: bytes) -> None:
    """Ids are bytes: zeros, quotes and bytes that are no text come back and are recognised."""
    event = Sent(id=value, timestamp_ms=ms("2025-11"))
    append(store, event)
    assert append(store, event).duplicate == 1
    assert stored(store) == [event]


def test_positions_rise_in_the_order_given(store: Store) -> None:
    """Positions start above 0 and rise with the place in the batch, over batches, groups and months."""
    months = ["2025-11", "2024-02", "2025-11", "2025-12", "2024-02"]
    sent = [make_event(number, months[number % 5], number) for number in range(20)]
    answers = append_group(store, make_batch(*sent[:7]), make_batch(*sent[7:10], source="ci"))
    answers += append_group(store, make_batch(*sent[10:]))
    assert stored(store) == sent
    found = positions(read(store))
    assert found[0] > 0
    assert all(one < other for one, other in pairwise(found))
    assert [(answer.first_position, answer.last_position) for answer in answers] == [
        (found[0], found[6]),
        (found[7], found[9]),
        (found[10], found[19]),
    ]
    assert all(answer.items == () for answer in answers)


def test_first_and_last_are_those_of_stored_events(store: Store) -> None:
    """Duplicates at both ends of a batch do not count for its first and last position."""
    append(store, make_event(1), make_event(2))
    answer = append(store, make_event(1), make_event(3), make_event(1), make_event(4), make_event(2))
    found = positions(read(store))
    assert (answer.accepted, answer.first_position, answer.last_position) == (2, found[2], found[3])


def test_the_head_is_the_last_stored_position(store: Store) -> None:
    """The head is the position of the last stored event, and a batch that stores nothing does not move it."""
    append(store, make_event(1))
    answer = append(store, make_event(2), make_event(3, "2024-01"))
    assert store.head == answer.last_position
    append(store, make_event(3, "2024-01"), make_event(2))
    append(store)
    assert store.head == answer.last_position


def test_months_are_the_utc_months_of_event_time(store: Store) -> None:
    """Months are listed oldest first; their borders are those of UTC to the millisecond."""
    append(
        store,
        make_event(1, "2025-12", 0),
        make_event(1, "2025-11", -1),
        make_event(1, "2024-02", -1),
        make_event(1, "2024-03", 0),
        make_event(1, "2000-01", 0),
    )
    months = list(store.months())
    assert [str(info.month) for info in months] == ["2000-01", "2024-02", "2024-03", "2025-11", "2025-12"]
    assert {info.state for info in months} == {MonthState.OPEN}
    assert store.head == positions(read(store))[-1]


def test_late_events_are_new_positions(store: Store) -> None:
    """An event that is older than everything stored goes into its month and gets the highest position."""
    append(store, make_event(1, "2025-12", 5))
    answer = append(store, make_event(2, "2025-10", 5))
    append(store, make_event(3, "2025-12", 0))
    assert [event.timestamp_ms for event in read(store)] == [ms("2025-12", 5), ms("2025-10", 5), ms("2025-12")]
    assert answer.first_position == positions(read(store))[1]


def test_a_batch_may_span_many_months(store: Store) -> None:
    """One batch over 30 months is stored in the order given."""
    sent = [make_event(number, f"{2020 + number % 30 // 12}-{number % 12 + 1:02d}", number) for number in range(90)]
    assert append(store, *sent).accepted == 90
    assert stored(store) == sent
    assert [info.month for info in store.months()] == sorted({Month.of(event.timestamp_ms) for event in sent})


def test_a_big_batch_with_duplicates_in_the_middle(store: Store) -> None:
    """Of 5,000 events over three months each is stored once; the repeated ones are told by index and position."""
    months = ("2025-10", "2025-11", "2025-12")
    sent = [make_event(number, months[number % 3], number, user_id=f"u{number % 700}") for number in range(5_000)]
    append(store, *sent[100:110])
    known = dict(zip(range(100, 110), positions(read(store)), strict=True))
    batch = [*sent[:2_500], *sent[2_000:2_050], *sent[2_500:]]
    answer = append(store, *batch)
    assert (answer.accepted, answer.duplicate, answer.rejected) == (4_990, 60, 0)
    place = {event.id: event.position for event in read(store)}
    expected = [Item(index, Outcome.DUPLICATE, existing_position=known[index]) for index in range(100, 110)]
    expected += [
        Item(index, Outcome.DUPLICATE, existing_position=place[sent[index - 500].id]) for index in range(2_500, 2_550)
    ]
    assert list(answer.items) == expected
    assert stored(store) == sent[100:110] + sent[:100] + sent[110:]


def test_a_group_of_many_batches(store: Store) -> None:
    """Two hundred small batches of one group are answered one by one, in their order."""
    sent = [make_event(number, "2025-11", number, user_id=f"u{number}") for number in range(600)]
    groups = [make_batch(*sent[start : start + 3], source=f"s{start % 9}") for start in range(0, 600, 3)]
    answers = append_group(store, *groups)
    found = positions(read(store))
    assert [(answer.first_position, answer.last_position) for answer in answers] == [
        (found[start], found[start + 2]) for start in range(0, 600, 3)
    ]
    assert stored(store) == sent
    assert list(store.sources()) == ["s0", "s3", "s6"]


# Registries


def test_types_and_sources_of_stored_events_are_registered(store: Store) -> None:
    """New types and sources are listed by name; a type that an event brought has no description and is not declared."""
    append_group(
        store,
        make_batch(make_event(1, type="b"), make_event(2, type="a"), source="web"),
        make_batch(make_event(3, type="b"), make_event(4, "2025-12", type="Ä"), source="app"),
    )
    entries = [(entry.name, entry.description, entry.declared) for entry in store.event_types()]
    assert entries == [("a", "", False), ("b", "", False), ("Ä", "", False)]
    assert list(store.sources()) == ["app", "web"]


def test_a_source_without_stored_events_is_not_listed(store: Store) -> None:
    """Sources are those that stored an event: sending only duplicates or rejected events is not enough."""
    append(store, make_event(1))
    append(store, make_event(1), source="repeats")
    append(store, make_event(1, user_id="bob"), source="conflicts")
    append(store, make_event(1, user_id="bob"), make_event(2), source="aborts", atomic=True)
    assert list(store.sources()) == ["reviews"]


def test_declaring_a_type(store: Store) -> None:
    """A type can be declared before it has events; its events then change nothing about it."""
    entry = store.register_type("deploy", "a roll-out", 5)
    assert (entry.name, entry.description, entry.registered_ms, entry.declared) == ("deploy", "a roll-out", 5, True)
    append(store, make_event(1, type="deploy"))
    assert list(store.event_types()) == [entry]


def test_declaring_a_type_again_changes_nothing(store: Store) -> None:
    """The same declaration at a later time is the same entry."""
    entry = store.register_type("deploy", "a roll-out", 5)
    assert store.register_type("deploy", "a roll-out", 900) == entry
    assert list(store.event_types()) == [entry]


def test_declaring_changes_the_description_only(store: Store) -> None:
    """Another description replaces the old one, also by an empty one; the time of registration stays."""
    store.register_type("deploy", "a roll-out", 5)
    again = store.register_type("deploy", "роллаут", 900)
    assert (again.description, again.registered_ms, again.declared) == ("роллаут", 5, True)
    assert list(store.event_types()) == [again]
    assert store.register_type("deploy", "", 901).description == ""


def test_declaring_a_type_that_events_brought(store: Store) -> None:
    """A type that came with an event can be declared later: it keeps its time and its events."""
    append(store, make_event(1, type="deploy"))
    (seen,) = store.event_types()
    entry = store.register_type("deploy", "a roll-out", seen.registered_ms + 900)
    assert (entry.registered_ms, entry.declared) == (seen.registered_ms, True)
    assert list(store.event_types()) == [entry]
    assert [event.type for event in read(store)] == ["deploy"]


# The limit on months


def test_events_that_would_open_too_many_months_are_rejected(home: Home) -> None:
    """Months are opened in the order of the events until the limit; events of other months are rejected one by one."""
    store = home.open(months_max=2)
    answer = append(
        store,
        make_event(1, "2025-12"),
        make_event(2, "2025-10"),
        make_event(3, "2025-09"),
        make_event(4, "2025-12"),
        make_event(5, "2026-01"),
    )
    assert [(item.index, item.outcome, item.reason) for item in answer.items] == [
        (2, Outcome.REJECTED, "MONTH_LIMIT"),
        (4, Outcome.REJECTED, "MONTH_LIMIT"),
    ]
    assert all(item.existing_position is None and item.message for item in answer.items)
    assert [str(info.month) for info in store.months()] == ["2025-10", "2025-12"]
    assert [event.id for event in read(store)] == [make_id(1), make_id(2), make_id(4)]


def test_a_store_at_its_limit_takes_events_of_its_months(home: Home) -> None:
    """At the limit, in later batches too, known months take events and duplicates are recognised."""
    store = home.open(months_max=1)
    answers = append_group(store, make_batch(make_event(1)), make_batch(make_event(2, "2025-12"), make_event(2)))
    assert [answer.accepted for answer in answers] == [1, 1]
    answer = append(store, make_event(3), make_event(1), make_event(3, "2024-12"))
    assert [(item.index, item.outcome, item.reason) for item in answer.items] == [
        (1, Outcome.DUPLICATE, ""),
        (2, Outcome.REJECTED, "MONTH_LIMIT"),
    ]
    assert answer.accepted == 1


def test_an_atomic_batch_over_the_month_limit_is_rejected_whole(home: Home) -> None:
    """Each event of an atomic batch whose month cannot be opened is rejected with MONTH_LIMIT; others go on."""
    store = home.open(months_max=1)
    one, rejected, other = append_group(
        store,
        make_batch(make_event(1)),
        make_batch(make_event(2, "2025-12"), make_event(3, "2025-12"), atomic=True),
        make_batch(make_event(4)),
    )
    assert (one.accepted, rejected.accepted, other.accepted) == (1, 0, 1)
    assert [(item.index, item.reason) for item in rejected.items] == [(0, "MONTH_LIMIT"), (1, "MONTH_LIMIT")]
    assert [event.id for event in read(store)] == [make_id(1), make_id(4)]
