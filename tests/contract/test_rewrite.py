"""Rows of sealed months go through profiles or go; what is not meant stays as it was, and all of it is recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TypeVar

import pytest

from retention.chain import Damage, verify
from retention.facts import RAW, Held
from retention.hold import Hold
from retention.month import Month
from retention.policy import Claim, FieldRule, Profile, Treatment
from server.errors import NotFound, Precondition
from server.frozen import ANY_TYPE
from server.model import Action, Change, ChangeStatus, EventFilter, MonthInfo, MonthState, Outcome
from server.question import Bucket, BucketUnit, Field, FieldKind, Metric, MetricKind, Question
from server.rewriting import Loss, Rewrite, Selection
from server.storage.contract import Store
from server.storage.digest import digest_of
from server.storage.treatment import DROPPED_SOURCE
from tests.support.answers import rows
from tests.support.events import Sent, append, make_event, outcomes, read
from tests.support.homes import Home
from tests.support.retaining import (
    DROP,
    HOUR,
    KEEP,
    NOW_MS,
    REKEY,
    allow,
    deed,
    events_of,
    freeze,
    here,
    profile,
    rewrite,
    seal,
    stocks,
)

T = TypeVar("T")
OCTOBER, NOVEMBER = Month(2025, 10), Month(2025, 11)
DAY_MS = 86_400_000
TYPES = ("opened", "reviewed", "merged")
COUNTS = Question((Metric(MetricKind.EVENTS),), (Bucket(BucketUnit.DAY), Field(FieldKind.TYPE)))


def history(month: str = "2025-10", first: int = 0, count: int = 60) -> list[Sent]:
    """Events with something in every field."""
    return [
        make_event(
            first + number,
            month,
            number * 7 * 3_600_000 + number * 1_234,
            type=TYPES[number % 3],
            user_id=("ann", "ben", "", "cem")[number % 4],
            session_id=f"s{number % 5}",
            client_ip=("192.168.7.9", "2001:db8:1:2::3", "", "nonsense")[number % 4],
            description="free text" if number % 2 else "",
            tags=("docs", "urgent") if number % 5 == 0 else (),
            metadata=f'{{"repo":"r{number % 2}","lines":1.50,"mail":"a@b"}}' if number % 3 else "",
            change=Change(
                "rows", f"row-{number % 4}", Action.UPDATE, '{"a":1,"b":2}', '{"a":3}', ChangeStatus.FAILED, 7
            )
            if number % 6 == 0
            else None,
        )
        for number in range(count)
    ]


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with a sealed month and an open one."""
    append(store, *history())
    append(store, *history("2025-11", 1_000), source="deploys")
    seal(store, OCTOBER)
    return store


def now_and_later(home: Home, store: Store) -> Iterator[Store]:
    """The store, and what it is after a restart."""
    yield store
    if home.persists:
        yield home.reopen()


def counts(store: Store) -> object:
    """Events by day and type."""
    reader = store.reader()
    try:
        return rows(reader.aggregate([COUNTS]).tables[0])
    finally:
        reader.close()


def test_each_field_is_treated_as_its_rule_says(home: Home, filled: Store) -> None:
    """And survives a restart; the other month and the other types are as they were."""
    before, totals, head = read(filled), counts(filled), filled.head
    how = profile(
        user_id=KEEP, session_id=DROP, client_ip=FieldRule(Treatment.TRUNCATE), received=HOUR, source=DROP,
        tags=allow("docs"), metadata=allow("repo", "lines"), change__table_name=KEEP, change__row_id=DROP,
        change__old_values=allow("a"), change__outcome=KEEP,
    )  # fmt: skip
    made = rewrite(filled, OCTOBER, how, ("opened", "reviewed"))
    assert (made.rows_before, made.treated, made.rebuilt.rows, made.withheld) == (60, 40, 60, ())
    assert dict(made.checks) == {"counts": "ok", "untouched": "ok"}
    for store in now_and_later(home, filled):
        after = read(store)
        assert [event.position for event in after] == [event.position for event in before]
        for old, new in zip(before, after, strict=True):
            if Month.of(old.timestamp_ms) != OCTOBER or old.type == "merged":
                assert new == old
                continue
            assert (new.id, new.type, new.user_id, new.timestamp_ms) == (
                old.id,
                old.type,
                old.user_id,
                old.timestamp_ms,
            )
            assert (new.session_id, new.description, new.source) == ("", "", DROPPED_SOURCE)
            assert new.received_ms == old.received_ms // 3_600_000 * 3_600_000
            networks = {"192.168.7.9": "192.168.7.0", "2001:db8:1:2::3": "2001:db8:1::"}
            assert new.client_ip == networks.get(old.client_ip, "")
            assert new.tags == tuple(tag for tag in old.tags if tag == "docs")
            repo = "1" if '"r1"' in old.metadata else "0"
            assert new.metadata == (f'{{"lines":1.50,"repo":"r{repo}"}}' if old.metadata else "")
            if old.change is None:
                assert new.change is None
            else:
                expected = replace(old.change, row_id="", old_values='{"a":1}', new_values="")
                assert new.change == expected
        assert counts(store) == totals
        assert store.head == head
    assert made.rebuilt.digest == digest_of(events_of(filled if not home.persists else store, OCTOBER))


def test_pseudonyms_hold_for_a_day(filled: Store) -> None:
    """One user has one name a day, another one on every other day; two users never share one, nobody stays nobody."""
    before = {event.position: event for event in events_of(filled, OCTOBER)}
    rewrite(filled, OCTOBER, profile(user_id=REKEY, session_id=REKEY), TYPES)
    for field in ("user_id", "session_id"):
        names: dict[tuple[str, int], set[str]] = {}
        for event in events_of(filled, OCTOBER):
            old = before[event.position]
            names.setdefault((getattr(old, field), old.timestamp_ms // DAY_MS), set()).add(getattr(event, field))
        assert all(len(known) == 1 for known in names.values())
        assert all(next(iter(known)) == "" for (name, _day), known in names.items() if not name)
        real = [next(iter(known)) for (name, _day), known in names.items() if name]
        assert len(set(real)) == len(real)
        assert not {"ann", "ben", "cem", "s1"} & set(real)
    (one, *_) = [event for event in events_of(filled, OCTOBER) if event.user_id]
    assert one.position in [event.position for event in read(filled, EventFilter(user_ids=(one.user_id,)))]
    assert not [
        event for event in read(filled, EventFilter(user_ids=("ann",))) if Month.of(event.timestamp_ms) == OCTOBER
    ]


def test_rounded_times_stay_in_the_month(filled: Store) -> None:
    """Down to a whole grain."""
    how = profile(timestamp=FieldRule(Treatment.ROUND, grain_ms=DAY_MS))
    made = rewrite(filled, OCTOBER, how, TYPES)
    assert {event.timestamp_ms % DAY_MS for event in events_of(filled, OCTOBER)} == {0}
    assert made.lost["opened"] == Loss(users=True, grain_ms=DAY_MS, source=True)
    assert filled.records.losses[OCTOBER]["opened"] == Loss(users=True, grain_ms=DAY_MS, since_ms=NOW_MS, source=True)


def test_dropped_rows_are_gone_and_the_others_stay(home: Home, filled: Store) -> None:
    """With their changes; the head stays, also over a restart, and ids that went are not stored again."""
    before, head = read(filled), filled.head
    made = rewrite(filled, OCTOBER, None, ("opened", "merged"))
    assert (made.treated, made.rebuilt.rows) == (40, 20)
    assert made.lost == {"opened": Loss(gone=True), "merged": Loss(gone=True)}
    left = [event for event in before if Month.of(event.timestamp_ms) != OCTOBER or event.type == "reviewed"]
    for store in now_and_later(home, filled):
        assert read(store) == left
        assert store.head == head
        answer = append(store, history()[0], history()[1])
        assert outcomes(answer) == [(0, Outcome.REJECTED, "MONTH_SEALED"), (1, Outcome.DUPLICATE, "")]
        assert set(stocks(store, OCTOBER)) == {("reviewed", RAW)}


def test_rows_under_a_hold_stay_as_they_are(filled: Store) -> None:
    """By user, type, source and month; a released hold holds nothing. They are told by code."""
    holds = (
        Hold("H-1", "LITIGATION", 1, users=frozenset({"ann"}), types=("op*",)),
        Hold("H-2", "TAX_AUDIT", 1, types=("opened",), sources=frozenset({"reviews", "other"})),
        Hold("H-3", "LITIGATION", 1, users=frozenset({"ben"}), first_month=NOVEMBER),
        Hold("H-4", "LITIGATION", 1, users=frozenset({"cem"}), released_ms=2),
        Hold("H-5", "LITIGATION", 1, users=frozenset({"", "unknown"}), last_month=OCTOBER),
    )
    before = {event.position: event for event in events_of(filled, OCTOBER)}
    known = stocks(filled, OCTOBER, *holds)
    assert known["opened", RAW].held == Held(20, (("H-1", 5), ("H-2", 20), ("H-5", 5)))
    assert known["reviewed", RAW].held == Held(5, (("H-5", 5),))
    made = rewrite(filled, OCTOBER, None, TYPES, holds=holds)
    assert made.withheld == (("H-1", 5), ("H-2", 20), ("H-5", 15))
    after = events_of(filled, OCTOBER)
    assert all(event == before[event.position] for event in after)
    assert Counter(event.type for event in after) == {"opened": 20, "reviewed": 5, "merged": 5}
    assert {event.user_id for event in after if event.type != "opened"} == {""}
    rewrite(filled, OCTOBER, None, ("opened",), holds=holds[:1])
    assert len([event for event in events_of(filled, OCTOBER) if event.type == "opened"]) == 5


def test_holds_on_an_open_month_are_known_before_it_is_sealed(filled: Store) -> None:
    """A plan that seals and drops in one go has to know what it may not."""
    hold = Hold("H-1", "LITIGATION", 1, users=frozenset({"ann"}))
    assert stocks(filled, NOVEMBER, hold)["opened", RAW].held == Held(5, (("H-1", 5),))
    assert stocks(filled, NOVEMBER)["opened", RAW].rows == 20


def test_rows_that_went_through_a_profile_are_told_by_it(home: Home, filled: Store) -> None:
    """They are not held, are duplicates of what is sent again, and only they are meant by their form."""
    how = profile(user_id=KEEP, metadata=KEEP)
    rewrite(filled, OCTOBER, how, ("opened",))
    store = home.reopen() if home.persists else filled
    hold = Hold("H-1", "LITIGATION", 1, types=("*",))
    known = stocks(store, OCTOBER, hold)
    assert known["opened", how.digest].rows == 20
    assert known["opened", how.digest].held == Held()
    assert known["opened", how.digest].claim is Claim.PSEUDONYMOUS
    assert known["merged", RAW].held.rows == 20
    assert outcomes(append(store, history()[0])) == [(0, Outcome.DUPLICATE, "")]
    made = rewrite(store, OCTOBER, None, TYPES, forms=(how.digest,), holds=(hold,))
    assert (made.treated, made.withheld) == (20, ())
    assert {event.type for event in events_of(store, OCTOBER)} == {"reviewed", "merged"}


def anonymous(k: int, **rules: FieldRule) -> Profile:
    """A profile that claims it."""
    return profile(Claim.ANONYMOUS, k, **{"timestamp": FieldRule(Treatment.ROUND, grain_ms=DAY_MS)} | rules)


def crowd(users: int) -> list[Sent]:
    """The same three events of each user, all on one day."""
    return [
        make_event(user * 3 + number, "2025-10", number * 1_000 + user, type=TYPES[number], user_id=f"u{user}")
        for user in range(users)
        for number in range(3)
    ]


def test_the_claim_anonymous_is_checked(home: Home, store: Store) -> None:
    """In a crowd it holds: nothing tells who, and neither ids nor positions are what they were."""
    append(store, *crowd(40))
    seal(store, OCTOBER)
    before = events_of(store, OCTOBER)
    made = rewrite(store, OCTOBER, anonymous(5, user_id=REKEY), TYPES)
    assert made.anonymous
    assert dict(made.checks)["claim"] == "ok"
    after = events_of(store, OCTOBER)
    assert {event.position for event in after} == {event.position for event in before}
    assert not {event.id for event in after} & {event.id for event in before}
    assert [event.type for event in after] != [event.type for event in before]
    assert {event.received_ms for event in after} == {0}
    assert Counter(event.type for event in after) == Counter(event.type for event in before)
    known = stocks(home.reopen() if home.persists else store, OCTOBER)
    assert {stock.claim for stock in known.values()} == {Claim.ANONYMOUS}


@pytest.mark.parametrize("odd", ["a rare event", "a rare sequence", "few users"])
def test_whoever_can_be_singled_out_is_not_anonymous(store: Store, odd: str) -> None:
    """Then the rows are called pseudonymous, which they are."""
    events = crowd(4 if odd == "few users" else 40)
    if odd == "a rare event":
        events.append(make_event(900, "2025-10", 5, type="opened", user_id="u1", tags=("rare",)))
    if odd == "a rare sequence":
        events.append(make_event(900, "2025-10", 5, type="opened", user_id="u1"))
    append(store, *events)
    seal(store, OCTOBER)
    made = rewrite(store, OCTOBER, anonymous(5, user_id=REKEY, tags=allow("rare")), TYPES)
    assert not made.anonymous
    assert dict(made.checks)["claim"] == "failed"
    assert {stock.claim for stock in stocks(store, OCTOBER).values()} == {Claim.PSEUDONYMOUS}


@pytest.mark.parametrize(("users", "holds"), [(40, True), (4, False)])
def test_frozen_numbers_become_coarse_with_a_claim_that_holds(
    home: Home, store: Store, users: int, *, holds: bool
) -> None:
    """In the same commit; of all types together, and of those that were claimed. Otherwise they stay as they are."""
    append(store, *crowd(users))
    seal(store, OCTOBER)
    freeze(store, OCTOBER, TYPES)
    before = store.records.frozen
    assert rewrite(store, OCTOBER, anonymous(5), TYPES[:2]).anonymous is holds
    for found in now_and_later(home, store):
        details = found.records.frozen[OCTOBER].details
        coarse = {name: detail.k for name, detail in details.items() if detail.k}
        assert coarse == (dict.fromkeys((*TYPES[:2], ANY_TYPE), 5) if holds else {})
        assert holds or found.records.frozen == before
        assert list(found.check()) == []


def test_without_anything_that_ties_events_together_sequences_do_not_count(store: Store) -> None:
    """A user who is dropped leaves no trace."""
    append(store, *crowd(40), make_event(900, "2025-10", 5, type="opened", user_id="u1"))
    seal(store, OCTOBER)
    assert rewrite(store, OCTOBER, anonymous(5), TYPES).anonymous


def test_a_dropped_month_is_gone(home: Home, filled: Store) -> None:
    """For all questions, after a restart, and for whoever sends events of it again; the head stays."""
    head = filled.head
    lost = dict.fromkeys(TYPES, Loss(gone=True))
    assert filled.drop(OCTOBER, lost, deed("drop")) == MonthInfo(OCTOBER, 2, MonthState.DROPPED)
    filled.maintain(idle=True)
    for store in now_and_later(home, filled):
        assert [str(info.month) for info in store.months() if info.state is MonthState.DROPPED] == ["2025-10"]
        assert {Month.of(event.timestamp_ms) for event in read(store)} == {NOVEMBER}
        assert store.head == head
        assert OCTOBER not in store.last_positions()
        assert store.records.losses[OCTOBER]["opened"] == Loss(gone=True, since_ms=NOW_MS)
        answer = append(store, history()[0], make_event(7_000, "2025-10"))
        assert outcomes(answer) == [(row, Outcome.REJECTED, "MONTH_DROPPED") for row in (0, 1)]
        assert list(store.check()) == []
        change = Rewrite(Selection(TYPES, (RAW,)), None)
        for refused in (
            partial(store.drop, OCTOBER, lost, deed("drop")),
            partial(store.rewrite, OCTOBER, change, here),
            partial(store.rebuild, OCTOBER, MonthState.OPEN),
        ):
            with pytest.raises(Precondition) as caught:
                refused()
            assert caught.value.reason == "MONTH_STATE"
    assert list(home.path.glob("months/2025-10/*")) == []


def test_only_sealed_months_are_rewritten_and_dropped(filled: Store) -> None:
    """And only those that there are; a rewritten month is not opened again."""
    change = Rewrite(Selection(TYPES, (RAW,)), None)
    for refused in (lambda: filled.rewrite(NOVEMBER, change, here), lambda: filled.drop(NOVEMBER, {}, deed("drop"))):
        with pytest.raises(Precondition) as caught:
            refused()
        assert caught.value.reason == "MONTH_STATE"
    with pytest.raises(NotFound):
        filled.rewrite(Month(2020, 1), change, here)
    rewrite(filled, OCTOBER, profile(), ("opened",))
    with pytest.raises(Precondition) as caught:
        filled.rebuild(OCTOBER, MonthState.OPEN)
    assert caught.value.reason == "MONTH_REWRITTEN"


def test_a_rewrite_is_adopted_once_and_of_what_it_was_made_from(filled: Store) -> None:
    """What was made on another generation is refused, and its deed is not recorded."""
    change = Rewrite(Selection(("opened",), (RAW,)), None)
    first, second = (filled.rewrite(OCTOBER, change, here) for _ in range(2))
    filled.adopt(second, deed())
    for made in (first, second):
        with pytest.raises(Precondition) as caught:
            filled.adopt(made, deed())
        assert caught.value.reason == "MONTH_CHANGED"
    assert filled.records.head.sequence == 1


def test_what_was_done_is_recorded_with_it(home: Home, filled: Store) -> None:
    """In one chain that nobody can change or cut off unseen, also after a restart."""
    rewrite(filled, OCTOBER, profile(), ("opened",))
    filled.drop(OCTOBER, {}, deed("drop", month="2025-10"))
    store = home.reopen() if home.persists else filled
    last = store.records.record(deed("apply"))
    lines = list(store.records.evidence())
    assert verify(lines, store.records.head) == []
    assert store.records.head == last.head
    assert list(store.records.evidence(after=2)) == lines[2:]
    assert list(store.records.evidence(limit=1)) == lines[:1]
    assert [finding.damage for finding in verify(lines[:2], store.records.head)] == [Damage.TRUNCATED]
