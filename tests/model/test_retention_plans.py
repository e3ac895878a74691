"""Plans over random stores and random policies: what holds for all of them."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from retention.facts import CopyKind
from retention.guards import GUARDS
from retention.hold import Hold
from retention.month import Month
from retention.plan import DESTRUCTIVE, Because, ExitCode, Kind, differences, exit_code, from_document
from retention.planning import plan
from retention.policy import Anonymize
from retention.policy_file import read
from tests.support.policies import LOOSE, TYPES, documents
from tests.support.retention_store import KeptCopy, Store, complete_rows, held_rows, late_classes

EXAMPLES = int(os.environ.get("TRACKD_RETENTION_EXAMPLES", "60"))
FIRST = Month(2020, 1)
USERS = ("ann", "ben", "cem")
NOW_MS = st.integers(Month(2020, 2).start_ms, Month(2028, 1).start_ms)
MONTHS = [FIRST]
for _ in range(30):
    MONTHS.append(MONTHS[-1].next())


@st.composite
def holds(draw: st.DrawFn) -> list[Hold]:
    """Some, by user, type and months; some of them released."""
    found = []
    for number in range(draw(st.integers(0, 2))):
        first = draw(st.sampled_from([None, *MONTHS[:20]]))
        found.append(
            Hold(
                code=f"H-{number}",
                reason="LITIGATION",
                placed_ms=0,
                users=frozenset(draw(st.sets(st.sampled_from(USERS), min_size=1, max_size=2))),
                types=tuple(draw(st.lists(st.sampled_from((*TYPES, "*_*")), max_size=2, unique=True))),
                first_month=first,
                last_month=draw(st.sampled_from([None, *MONTHS[20:]])),
                released_ms=draw(st.sampled_from((None, None, 1))),
            )
        )
    return found


@st.composite
def stores(draw: st.DrawFn) -> Store:
    """A few months with rows of some users and types, raw; restored copies beside some."""
    store = Store()
    for month in draw(st.lists(st.sampled_from(MONTHS), min_size=1, max_size=5, unique=True)):
        for event_type in draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True)):
            for user in draw(st.lists(st.sampled_from(USERS), min_size=1, max_size=3, unique=True)):
                store.add(month, event_type, user, draw(st.integers(1, 9)))
        kept = store.months[month]
        kept.sealed = draw(st.booleans())
        if kept.sealed and draw(st.integers(0, 3)) == 0:
            until_ms = draw(st.sampled_from((None, Month(2022, 1).start_ms)))
            kept.copies.append(KeptCopy(CopyKind.RESTORED, "restored-1", Counter(kept.cells), 0, until_ms=until_ms))
        for number in range(draw(st.integers(0, 2)) if kept.sealed else 0):
            target = draw(st.sampled_from(("local", "far")))
            some = draw(st.sets(st.sampled_from(sorted(kept.cells)), min_size=1))
            cells = Counter({key: rows for key, rows in kept.cells.items() if key in some})
            # What has only some of the rows of a type was cut down.
            whole = draw(st.booleans()) and cells == kept.cells
            verified = draw(st.booleans())
            name = f"archived-{number}"
            kept.copies.append(KeptCopy(CopyKind.ARCHIVE, name, cells, 0, target, verified=verified, whole=whole))
    store.holds = draw(holds())
    store.backups = draw(st.lists(st.integers(Month(2020, 1).start_ms, Month(2021, 1).start_ms), max_size=1))
    return store


RANDOM = given(documents(**LOOSE), stores(), NOW_MS)


@settings(max_examples=EXAMPLES, deadline=None)
@RANDOM
def test_after_a_plan_was_applied_nothing_is_left_to_do(document: dict[str, Any], store: Store, now_ms: int) -> None:
    """It converges in one run; what is still due is held, or has to be kept. Sealed and frozen once."""
    policy = read(document)
    first = plan(policy, store.facts(policy), now_ms, GUARDS)
    assert store.apply(first) == list(first.actions)
    again = plan(policy, store.facts(policy), now_ms, GUARDS)
    # An archive that another class asks to end earlier goes once its rows have another one that was read back.
    assert {one.kind for one in again.actions} <= {Kind.DESTROY_ARCHIVE}
    store.apply(again)
    again = plan(policy, store.facts(policy), now_ms, GUARDS)
    assert again.actions == ()
    event(f"actions: {min(len(first.actions), 5)}, withheld: {bool(again.withheld)}")
    held = any(one.because is Because.HOLD for one in again.withheld)
    if not again.overdue:
        assert exit_code(again) is (ExitCode.HELD if held else ExitCode.NOTHING)


@settings(max_examples=EXAMPLES, deadline=None)
@RANDOM
def test_a_complete_copy_is_there_until_keep_at_least(document: dict[str, Any], store: Store, now_ms: int) -> None:
    """Whatever a plan takes away before that age, the same rows are somewhere else with all their fields."""
    policy = read(document)
    before = complete_rows(store)
    store.apply(plan(policy, store.facts(policy), now_ms, GUARDS))
    after = complete_rows(store)
    for (month, event_type, user), rows in before.items():
        one = policy.class_of(event_type)
        if one and one.keep_at_least and one.keep_at_least.after(month) > now_ms:
            assert after.get((month, event_type, user), 0) >= rows, (month, event_type, user)


@settings(max_examples=EXAMPLES, deadline=None)
@RANDOM
def test_nothing_is_done_before_its_step_is_due(document: dict[str, Any], store: Store, now_ms: int) -> None:
    """Neither to live rows nor to copies: every action names a date that has come, and a rule of its class."""
    policy = read(document)
    for one in plan(policy, store.facts(policy), now_ms, GUARDS).actions:
        assert one.due_ms <= now_ms
        if one.class_name and one.kind in DESTRUCTIVE - {Kind.EXPIRE}:
            assert f'class "{one.class_name}"' in one.rule


@settings(max_examples=EXAMPLES, deadline=None)
@RANDOM
def test_held_rows_stay_wherever_they_are(document: dict[str, Any], store: Store, now_ms: int) -> None:
    """Live ones and those in copies, row by row."""
    policy = read(document)
    before = held_rows(store)
    assume(before)
    store.apply(plan(policy, store.facts(policy), now_ms, GUARDS))
    assert before <= held_rows(store)


@settings(max_examples=EXAMPLES, deadline=None)
@RANDOM
def test_what_is_too_old_is_overdue_until_it_is_gone(document: dict[str, Any], store: Store, now_ms: int) -> None:
    """Overdue is what a count of the rows says, before and after; applying leaves no live row overdue."""
    policy = read(document)
    facts = store.facts(policy)
    first = plan(policy, facts, now_ms, GUARDS)
    assert {one.class_name for one in first.overdue if "live" in one.where} == late_classes(policy, facts, now_ms)
    store.apply(first)
    facts = store.facts(policy)
    again = plan(policy, facts, now_ms, GUARDS)
    assert {one.class_name for one in again.overdue if "live" in one.where} == late_classes(policy, facts, now_ms)
    # Rows that claim to be anonymous and cannot be called so yet, because of a backup or another copy, stay overdue.
    waiting = {one.name for one in policy.classes if isinstance(one.steps[-1], Anonymize)}
    assert late_classes(policy, facts, now_ms) <= waiting


@settings(max_examples=EXAMPLES, deadline=None)
@given(documents(), stores(), NOW_MS, st.randoms(use_true_random=False))
def test_a_plan_is_the_same_whatever_order_things_come_in(
    document: dict[str, Any], store: Store, now_ms: int, rng: Any
) -> None:
    """Months, stocks, copies and classes; and it is read back from its JSON as it was."""
    policy = read(document)
    facts = store.facts(policy)
    first = plan(policy, facts, now_ms)
    shuffled = dict(document, **{"class": rng.sample(document["class"], len(document["class"]))})

    def mixed(things: Any) -> tuple[Any, ...]:
        return tuple(rng.sample(things, len(things)))

    months = [replace(one, stocks=mixed(one.stocks), copies=mixed(one.copies)) for one in mixed(facts.months)]
    second = plan(read(shuffled), replace(facts, months=tuple(months)), now_ms)
    assert second == first
    assert second.id == first.id
    assert differences(first, second) == []
    assert from_document(json.loads(first.json())) == first


@settings(max_examples=EXAMPLES, deadline=None)
@given(documents(**LOOSE), stores(), NOW_MS, st.integers(1, 5))
def test_a_plan_is_stale_exactly_when_it_would_be_another_one(
    document: dict[str, Any], store: Store, now_ms: int, more: int
) -> None:
    """New rows where something is to be done give another id; the same facts later only if a date has come."""
    policy = read(document)
    facts = store.facts(policy)
    first = plan(policy, facts, now_ms)
    later = plan(policy, facts, now_ms + more)
    assert (first.id == later.id) is (differences(first, later) == [])
    destroyed = [one for one in first.actions if one.kind is Kind.DROP]
    assume(destroyed)
    month = destroyed[0].month
    store.add(month, destroyed[0].types[0], "dee", more)
    changed = plan(policy, store.facts(policy), now_ms)
    assert changed.id != first.id
    assert any(str(month) in line for line in differences(first, changed))
