"""When two events are the same, when they conflict, and what atomic batches make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from server.model import Action, Change, ChangeStatus, Item, Outcome
from server.storage.contract import Store
from tests.support.events import (
    Sent,
    append,
    append_group,
    make_batch,
    make_event,
    make_id,
    only_item,
    outcomes,
    positions,
    read,
    stored,
)

ORIGINAL = make_event(
    1,
    offset_ms=50,
    type="review_submitted",
    user_id="ann",
    session_id="s-1",
    client_ip="192.0.2.1",
    description="approved",
    tags=("backend", "auth"),
    metadata='{"a": 1, "b": {"c": [1, 2], "d": "é"}}',
    change=Change("pulls", "17", Action.UPDATE, '{"x": 1, "y": 2}', '{"x": 2}', ChangeStatus.SUCCESS, 1),
)
CHANGE = ORIGINAL.change
assert CHANGE is not None

DUPLICATE, REJECTED = Outcome.DUPLICATE, Outcome.REJECTED

SAME = {
    "letter by letter": ORIGINAL,
    "spacing of metadata": replace(ORIGINAL, metadata='{"a":1,"b":{"c":[1,2],"d":"é"}}'),
    "order of keys": replace(ORIGINAL, metadata='{"b": {"d": "é", "c": [1, 2]}, "a": 1}'),
    "escapes": replace(ORIGINAL, metadata='{"a": 1, "b": {"c": [1, 2], "d": "\\u00e9"}}'),
    "spacing of old values": replace(ORIGINAL, change=replace(CHANGE, old_values='{"y":2,"x":1}')),
    "spacing of new values": replace(ORIGINAL, change=replace(CHANGE, new_values='{"x":2}')),
}

OTHER = {
    "type": replace(ORIGINAL, type="review_requested"),
    "user": replace(ORIGINAL, user_id="Ann"),
    "no user": replace(ORIGINAL, user_id=""),
    "time within the month": replace(ORIGINAL, timestamp_ms=ORIGINAL.timestamp_ms + 1),
    "session": replace(ORIGINAL, session_id=""),
    "client_ip": replace(ORIGINAL, client_ip="192.0.2.2"),
    "description": replace(ORIGINAL, description="Approved"),
    "order of tags": replace(ORIGINAL, tags=("auth", "backend")),
    "fewer tags": replace(ORIGINAL, tags=("backend",)),
    "no tags": replace(ORIGINAL, tags=()),
    "value in metadata": replace(ORIGINAL, metadata='{"a": 2, "b": {"c": [1, 2], "d": "é"}}'),
    "order in an array": replace(ORIGINAL, metadata='{"a": 1, "b": {"c": [2, 1], "d": "é"}}'),
    "type of a value": replace(ORIGINAL, metadata='{"a": "1", "b": {"c": [1, 2], "d": "é"}}'),
    "no metadata": replace(ORIGINAL, metadata=""),
    "empty metadata": replace(ORIGINAL, metadata="{}"),
    "no change": replace(ORIGINAL, change=None),
    "table": replace(ORIGINAL, change=replace(CHANGE, table_name="issues")),
    "row": replace(ORIGINAL, change=replace(CHANGE, row_id="18")),
    "action": replace(ORIGINAL, change=replace(CHANGE, action=Action.DELETE)),
    "old values": replace(ORIGINAL, change=replace(CHANGE, old_values='{"x": 1, "y": 3}')),
    "new values": replace(ORIGINAL, change=replace(CHANGE, new_values="")),
    "status": replace(ORIGINAL, change=replace(CHANGE, status=ChangeStatus.FAILED)),
    "rows affected": replace(ORIGINAL, change=replace(CHANGE, rows_affected=2)),
    "rows affected unsaid": replace(ORIGINAL, change=replace(CHANGE, rows_affected=None)),
}


@pytest.mark.parametrize("again", SAME.values(), ids=SAME)
def test_the_same_content_is_a_duplicate(store: Store, again: Sent) -> None:
    """Sending an event again stores nothing and names the stored one; JSON is compared by value."""
    append(store, ORIGINAL)
    (position,) = positions(read(store))
    answer = append(store, again)
    assert list(answer.items) == [Item(0, DUPLICATE, existing_position=position)]
    assert (answer.accepted, answer.first_position, answer.last_position) == (0, None, None)
    assert stored(store) == [ORIGINAL]


@pytest.mark.parametrize("other", OTHER.values(), ids=OTHER)
def test_other_content_is_a_conflict(store: Store, other: Sent) -> None:
    """An event with a stored identity and other content is rejected, names the stored one, and leaves it as it is."""
    append(store, ORIGINAL)
    (position,) = positions(read(store))
    item = only_item(append(store, other))
    assert (item.index, item.outcome, item.reason) == (0, REJECTED, "ID_CONFLICT")
    assert (item.existing_position, item.retryable, bool(item.message)) == (position, False, True)
    assert stored(store) == [ORIGINAL]


@pytest.mark.parametrize(("first", "second"), [("", "{}"), ("{}", ""), ("", '{"a": 1}')])
def test_absent_json_is_not_an_empty_object(store: Store, first: str, second: str) -> None:
    """No metadata and metadata of another kind are other content."""
    append(store, make_event(1, metadata=first))
    assert outcomes(append(store, make_event(1, metadata=second))) == [(0, REJECTED, "ID_CONFLICT")]


def test_a_change_that_comes_later_is_a_conflict(store: Store) -> None:
    """An event that was stored without a change is another one with a change."""
    append(store, make_event(1))
    again = make_event(1, change=Change("pulls", "1", Action.CREATE))
    assert outcomes(append(store, again)) == [(0, REJECTED, "ID_CONFLICT")]
    assert stored(store) == [make_event(1)]


def test_source_and_time_of_receipt_are_not_content(store: Store) -> None:
    """The same event from another service at another time is a duplicate; what was stored first stays."""
    append_group(store, make_batch(ORIGINAL, source="ci", received_ms=5))
    answer = append_group(store, make_batch(ORIGINAL, source="web", received_ms=6))
    assert outcomes(answer[0]) == [(0, DUPLICATE, "")]
    (event,) = read(store)
    assert (event.source, event.received_ms) == ("ci", 5)


def test_the_same_id_in_two_months_is_two_events(store: Store) -> None:
    """Identity is month and id: each month has its own, within a batch, over batches, and for duplicates."""
    november, december = make_event(1, "2025-11", -1), make_event(1, "2025-12", 0, user_id="bob")
    assert append(store, november, december).accepted == 2
    assert append(store, make_event(1, "2026-01")).accepted == 1
    first, second, _third = positions(read(store))
    answer = append(store, december, november)
    assert [item.existing_position for item in answer.items] == [second, first]
    assert answer.duplicate == 2


def test_ids_that_differ_in_one_bit_are_two_events(store: Store) -> None:
    """All 16 bytes of an id count."""
    one, other = make_event(0), make_event(1)
    high = replace(one, id=b"\x80" + bytes(15))
    assert append(store, one, other, high).accepted == 3


def test_duplicates_within_a_batch(store: Store) -> None:
    """The first of equal events in a batch is stored; the others name it."""
    answer = append(store, make_event(1), make_event(2), make_event(1), make_event(1))
    first, second = positions(read(store))
    assert list(answer.items) == [Item(index, DUPLICATE, existing_position=first) for index in (2, 3)]
    assert (answer.accepted, answer.first_position, answer.last_position) == (2, first, second)


def test_conflicts_within_a_batch(store: Store) -> None:
    """The first of events with one id is stored; others conflict with it or repeat it, and later events are stored."""
    answer = append(store, make_event(1), make_event(1, user_id="bob"), make_event(2), make_event(1))
    first, _second = positions(read(store))
    assert outcomes(answer) == [(1, REJECTED, "ID_CONFLICT"), (3, DUPLICATE, "")]
    assert {item.existing_position for item in answer.items} == {first}
    assert stored(store) == [make_event(1), make_event(2)]


def test_what_repeats_a_rejected_event_is_rejected(store: Store) -> None:
    """A rejected event is not stored: repeating it is a conflict with the stored one again, not a duplicate."""
    append(store, make_event(1))
    bad = make_event(1, user_id="bob")
    assert outcomes(append(store, bad, bad)) == [(0, REJECTED, "ID_CONFLICT"), (1, REJECTED, "ID_CONFLICT")]
    assert outcomes(append(store, bad)) == [(0, REJECTED, "ID_CONFLICT")]


def test_events_of_a_group_see_the_batches_before_them(store: Store) -> None:
    """Between batches of one group the first comer is stored; later ones are duplicates or conflicts."""
    answers = append_group(
        store,
        make_batch(make_event(1), make_event(2)),
        make_batch(make_event(2), make_event(3), make_event(1, user_id="bob"), source="ci"),
        make_batch(make_event(3), make_event(4)),
    )
    place = {event.id: event.position for event in read(store)}
    assert [answer.accepted for answer in answers] == [2, 1, 1]
    assert outcomes(answers[1]) == [(0, DUPLICATE, ""), (2, REJECTED, "ID_CONFLICT")]
    assert [item.existing_position for item in answers[1].items] == [place[make_id(2)], place[make_id(1)]]
    assert list(answers[2].items) == [Item(0, DUPLICATE, existing_position=place[make_id(3)])]
    assert stored(store) == [make_event(number) for number in (1, 2, 3, 4)]


def test_a_resent_group_is_all_duplicates(store: Store) -> None:
    """Sending a whole group again, as after a lost answer, stores nothing and names every stored event."""
    group = [
        make_batch(make_event(1), make_event(2, "2025-12")),
        make_batch(make_event(3), make_event(3), source="ci"),
        make_batch(make_event(4), make_event(5), atomic=True),
    ]
    append_group(store, *group)
    before, head = read(store), store.head
    answers = append_group(store, *group)
    assert [(answer.accepted, answer.duplicate) for answer in answers] == [(0, 2), (0, 2), (0, 2)]
    places = positions(before)
    expected = [places[0], places[1], places[2], places[2], places[3], places[4]]
    assert [item.existing_position for answer in answers for item in answer.items] == expected
    assert (read(store), store.head) == (before, head)


def test_items_are_ordered_by_index_over_months_and_reasons(store: Store) -> None:
    """Items come by their place in the batch, whichever months they belong to and whatever became of them."""
    months = ("2025-12", "2025-10", "2025-11")
    events = [make_event(number, months[number % 3]) for number in range(12)]
    append(store, *events)
    mixed = [replace(event, user_id="bob") if number % 2 else event for number, event in enumerate(events)]
    fresh = [make_event(100 + number, months[number % 3]) for number in range(12)]
    answer = append(store, *(event for pair in zip(mixed, fresh, strict=True) for event in pair))
    assert [item.index for item in answer.items] == list(range(0, 24, 2))
    assert [item.outcome for item in answer.items] == [DUPLICATE, REJECTED] * 6
    assert answer.accepted == 12


# Atomic batches


def test_an_atomic_batch_without_fault_is_stored(store: Store) -> None:
    """An atomic batch of new events is stored like any other."""
    answer = append(store, make_event(1), make_event(2), atomic=True)
    first, second = positions(read(store))
    assert (answer.accepted, answer.first_position, answer.last_position, answer.items) == (2, first, second, ())


def test_duplicates_do_not_abort_an_atomic_batch(store: Store) -> None:
    """Duplicates, of stored events and within the batch, are no fault: the rest is stored."""
    append(store, make_event(1))
    answer = append(store, make_event(1), make_event(2), make_event(2), make_event(3), atomic=True)
    assert outcomes(answer) == [(0, DUPLICATE, ""), (2, DUPLICATE, "")]
    assert stored(store) == [make_event(1), make_event(2), make_event(3)]


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_conflict_aborts_an_atomic_batch(store: Store, at: int) -> None:
    """Wherever the conflict is: it keeps its reason, all others are rejected as aborted and may be sent again."""
    append(store, make_event(9))
    (position,) = positions(read(store))
    events = [make_event(1, type="new"), make_event(2, user_id="new"), make_event(3)]
    events.insert(at, make_event(9, user_id="bob"))
    answer = append(store, *events, source="atoms", atomic=True)
    reasons = ["ID_CONFLICT" if index == at else "ATOMIC_ABORTED" for index in range(4)]
    assert outcomes(answer) == [(index, REJECTED, reason) for index, reason in enumerate(reasons)]
    assert [item.retryable for item in answer.items] == [reason == "ATOMIC_ABORTED" for reason in reasons]
    assert [item.existing_position for item in answer.items if item.reason == "ID_CONFLICT"] == [position]
    assert (answer.accepted, answer.first_position, answer.last_position, answer.rejected) == (0, None, None, 4)
    assert (stored(store), store.head) == ([make_event(9)], position)


def test_every_conflict_of_an_atomic_batch_is_listed(store: Store) -> None:
    """All events at fault are told at once, so that one correction is enough."""
    append(store, make_event(1), make_event(2))
    answer = append(
        store, make_event(1, user_id="x"), make_event(3), make_event(2, user_id="x"), make_event(4), atomic=True
    )
    reasons = ["ID_CONFLICT", "ATOMIC_ABORTED", "ID_CONFLICT", "ATOMIC_ABORTED"]
    assert [item.reason for item in answer.items] == reasons


def test_a_duplicate_in_an_aborted_batch_is_aborted(store: Store) -> None:
    """In an atomic batch that is given up everything that is not at fault is aborted, what was stored before too."""
    append(store, make_event(1), make_event(2))
    answer = append(store, make_event(1), make_event(2, user_id="bob"), atomic=True)
    assert [item.reason for item in answer.items] == ["ATOMIC_ABORTED", "ID_CONFLICT"]


def test_an_atomic_batch_that_conflicts_with_itself(store: Store) -> None:
    """Two contents for one new id abort the batch, and no answer names a position that no event has."""
    append(store, make_event(7, "2025-10"))
    answer = append(store, make_event(1), make_event(1, user_id="bob"), make_event(2), make_event(1), atomic=True)
    reasons = ["ATOMIC_ABORTED", "ID_CONFLICT", "ATOMIC_ABORTED", "ATOMIC_ABORTED"]
    assert [item.reason for item in answer.items] == reasons
    assert [item.existing_position for item in answer.items] == [None] * 4
    assert stored(store) == [make_event(7, "2025-10")]


def test_an_aborted_batch_can_be_corrected_and_sent_again(store: Store) -> None:
    """What an aborted batch held, new users and types included, is stored when it comes without the fault."""
    append(store, make_event(1))
    good = [make_event(2, type="new", user_id="newcomer", tags=("t",)), make_event(3, change=CHANGE)]
    append(store, *good, make_event(1, user_id="bob"), source="atoms", atomic=True)
    assert append(store, *good, source="atoms", atomic=True).accepted == 2
    assert stored(store) == [make_event(1), *good]
    assert "new" in [entry.name for entry in store.event_types()]
    assert list(store.sources()) == ["atoms", "reviews"]


def _numbers(events: Sequence[Sent]) -> list[int]:
    return [int.from_bytes(event.id, "big") for event in events]


def test_an_aborted_batch_leaves_its_group_alone(store: Store) -> None:
    """The batches before and behind an aborted one are stored, and the ones behind do not see its events."""
    append(store, make_event(9))
    answers = append_group(
        store,
        make_batch(make_event(1), make_event(5, "2025-12")),
        make_batch(make_event(2), make_event(9, user_id="bob"), make_event(1), atomic=True),
        make_batch(make_event(2, user_id="other"), make_event(3)),
        make_batch(make_event(3), make_event(4), atomic=True),
        make_batch(make_event(4, user_id="bob"), make_event(6)),
    )
    assert [answer.accepted for answer in answers] == [2, 0, 2, 1, 1]
    assert outcomes(answers[3]) == [(0, DUPLICATE, "")]
    assert outcomes(answers[4]) == [(0, REJECTED, "ID_CONFLICT")]
    assert _numbers(stored(store)) == [9, 1, 5, 2, 3, 4, 6]


def test_an_atomic_batch_sees_the_batches_before_it(store: Store) -> None:
    """A conflict with an earlier batch of the same group aborts too, and names an event that is stored."""
    _first, aborted = append_group(
        store, make_batch(make_event(1)), make_batch(make_event(1, user_id="bob"), make_event(2), atomic=True)
    )
    assert [item.reason for item in aborted.items] == ["ID_CONFLICT", "ATOMIC_ABORTED"]
    assert aborted.items[0].existing_position == store.head
