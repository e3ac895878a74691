"""Plans: what is due in a month by which line of the policy, and what stops it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from retention.facts import Copy, CopyKind, Facts, FactsError, Held, MonthFacts, State, Stock, state_of
from retention.guards import GUARDS
from retention.month import Month
from retention.plan import ExitCode, Kind, Plan, PlanUnreadable, differences, exit_code, from_document
from retention.planning import plan
from retention.policy import Claim, Policy
from tests.support.policies import LOOSE, anonymize, archive, drop, event_class, policy

JUNE = Month(2024, 6)
"""Ended on 2024-07-01."""
DIGEST = "d" * 64


def ms(text: str) -> int:
    """Milliseconds of a date or time, UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def month(*stocks: Stock, sealed: bool = True, of: Month = JUNE, **more: Any) -> MonthFacts:
    """A month with event times in it."""
    times = (of.start_ms, of.end_ms - 1) if stocks else (None, None)
    return MonthFacts(of, 2, DIGEST if sealed else "", sealed, stocks, *times, **more)


def stock(rows: int = 100, event_type: str = "review", **more: Any) -> Stock:
    """Rows of ten bytes."""
    return Stock(event_type, rows, rows * 10, **more)


def archived(name: str = "a1", **more: Any) -> Copy:
    """An archive that counts."""
    values: dict[str, Any] = {"types": ("review",), "rows": 100, "bytes": 500, "created_ms": 0, "target": "local"}
    return Copy(CopyKind.ARCHIVE, name, **values | {"verified": True} | more)


def made(*steps: dict[str, Any], most: str = "5 years", **more: Any) -> Policy:
    """A policy with one class of all types, and guards that stop nothing."""
    sections = {key: more.pop(key) for key in ("guards", "clock", "backups") if key in more}
    return policy(event_class("a", ["*"], most, *steps, **more), **LOOSE | sections)


def planned(rules: Policy, facts: Facts | MonthFacts, at: str, *accepted: str) -> Plan:
    """The plan for a store, or for one month that is all of it."""
    return plan(rules, facts if isinstance(facts, Facts) else Facts((facts,)), ms(at), accepted)


def kinds(found: Plan) -> list[str]:
    """What it does, in order."""
    return [str(one.kind) for one in found.actions]


ALL = made(archive("2 months", "2 years"), anonymize("3 months"), drop("6 months"))


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2024-06-30", []),
        ("2024-07-07T23:59:59", []),
        ("2024-07-08", ["seal"]),
        ("2024-08-31T23:59:59", ["seal"]),
        ("2024-09-01", ["seal", "freeze", "archive"]),
        ("2024-10-01", ["seal", "freeze", "archive", "anonymize"]),
        ("2025-01-01", ["seal", "freeze", "archive", "drop"]),
        ("2026-07-01", ["seal", "freeze", "drop"]),
    ],
)
def test_a_month_does_all_that_is_due_at_once(at: str, expected: list[str]) -> None:
    """To the day; without what a later step makes needless: rows that go are not anonymized first."""
    found = planned(ALL, month(stock(), sealed=False), at)
    assert kinds(found) == expected


def test_an_action_says_what_it_does_and_why() -> None:
    """The line of the policy, the date, the month as it is, types, rows, bytes, numbers that change."""
    found = planned(ALL, month(stock(held=Held(40, (("H-1", 40),))), frozen=frozenset({"review"})), "2025-02-03")
    kept, gone = found.actions
    assert kept.kind is Kind.ARCHIVE
    assert (kept.rows, kept.bytes, kept.target, kept.forms) == (100, 1000, "local", ("",))
    assert (gone.kind, gone.class_name, gone.types) == (Kind.DROP, "a", ("review",))
    assert (gone.generation, gone.digest) == (2, DIGEST)
    assert gone.rule == 'class "a", step 3: after = "6 months", do = "drop"'
    assert gone.due_ms == ms("2025-01-01")
    assert (gone.rows, gone.bytes, gone.held) == (60, 600, Held(40, (("H-1", 40),)))
    assert gone.numbers == ("rows",)
    assert not gone.ends_month


def test_the_last_class_takes_the_month_with_it() -> None:
    """Only the last, and only if nothing is held."""
    rules = policy(
        event_class("a", ["x"], "1 year", drop("1 month")), event_class("b", ["y"], "1 year", drop("2 months")), **LOOSE
    )
    both = month(stock(event_type="x"), stock(event_type="y"), frozen=frozenset("xy"))
    assert [one.ends_month for one in planned(rules, both, "2024-08-15").actions] == [False]
    assert [one.ends_month for one in planned(rules, both, "2024-09-15").actions] == [False, True]


def test_rows_of_no_class_are_named_and_left_alone() -> None:
    """Nothing is ever done to them, so somebody has to be told."""
    rules = policy(event_class("a", ["x"], "1 year", drop("1 month")), **LOOSE)
    found = planned(rules, month(stock(event_type="x"), stock(event_type="y"), frozen=frozenset("xy")), "2025-01-01")
    assert found.without_policy == ("y",)
    assert [(one.types, one.ends_month) for one in found.actions] == [(("x",), False)]


def test_numbers_are_frozen_once() -> None:
    """Before the first change, all types of the class together; those that are frozen already are not."""
    both = month(stock(event_type="x"), stock(event_type="y"), frozen=frozenset("x"))
    first = planned(made(anonymize("1 month"), drop("1 year")), both, "2024-09-01").actions
    assert [(one.kind, one.types) for one in first] == [(Kind.FREEZE, ("y",)), (Kind.ANONYMIZE, ("x", "y"))]


def test_rows_go_through_a_profile_once() -> None:
    """Also if the profile was given another name; through another one they go again."""
    rules = made(anonymize("1 month"), drop("1 year"))
    (profile,) = rules.profiles
    frozen = frozenset({"review"})
    assert kinds(planned(rules, month(stock(profile=profile), frozen=frozen), "2024-09-01")) == []
    assert kinds(planned(rules, month(stock(profile="e" * 64), frozen=frozen), "2024-09-01")) == ["anonymize"]
    partly = planned(rules, month(stock(profile=profile), stock(7), frozen=frozen), "2024-09-01")
    assert [(one.rows, one.forms) for one in partly.actions] == [(7, ("",))]


def test_a_coarser_profile_is_not_undone_by_a_finer_one() -> None:
    """Rows that went through the profile of a later step already do not go through that of an earlier one."""
    rules = made(anonymize("1 month"), anonymize("2 years", "anon"))
    anonymous = next(digest for digest, one in rules.profiles.items() if one.claim is Claim.ANONYMOUS)
    facts = month(stock(profile=anonymous), frozen=frozenset({"review"}))
    assert kinds(planned(rules, facts, "2024-09-01")) == []


@pytest.mark.parametrize(
    ("facts", "label"),
    [
        (Facts((month(stock(), frozen=frozenset({"review"})),)), "anonymous"),
        (Facts((month(stock(), frozen=frozenset({"review"})),), oldest_backup_ms=0), "pseudonymous"),
        (Facts((month(stock(), copies=(archived(rows=1),)),)), "pseudonymous"),
        (Facts((month(stock(held=Held(1, (("H-1", 1),)))),)), "pseudonymous"),
    ],
)
def test_a_plan_promises_no_label_that_cannot_hold(facts: Facts, label: str) -> None:
    """While an archive, a backup or a hold has the originals, rows are pseudonymous whatever the profile claims."""
    found = planned(made(anonymize("1 month", "anon")), facts, "2024-09-01")
    assert [one.claim for one in found.actions if one.kind is Kind.ANONYMIZE] == [label]


# Holds


def test_what_is_all_held_is_withheld_and_not_an_action() -> None:
    """With the codes, nothing else, and an exit code of its own."""
    held = month(stock(held=Held(100, (("H-1", 70), ("H-2", 50)))), frozen=frozenset({"review"}))
    found = planned(made(drop("1 month")), held, "2024-09-01")
    assert found.actions == ()
    assert [(one.kind, one.rows, one.by) for one in found.withheld] == [(Kind.DROP, 100, (("H-1", 70), ("H-2", 50)))]
    assert exit_code(found) is ExitCode.HELD


def test_originals_that_are_held_are_not_archived_where_only_anonymized_rows_belong() -> None:
    """The others are; the hold does not stop that."""
    rules = made(anonymize("1 month"), archive("2 months", "2 years"), drop("3 years"))
    (profile,) = rules.profiles
    held = Held(40, (("H-1", 40),))
    facts = month(stock(40, held=held), stock(60, profile=profile), frozen=frozenset({"review"}))
    (action,) = planned(rules, facts, "2024-10-01").actions
    assert (action.kind, action.rows, action.forms) == (Kind.ARCHIVE, 60, (profile,))


# Archives and other copies


def test_an_archive_counts_only_after_it_was_read_back() -> None:
    """And only where the policy wants one, and only if nothing was cut out of it."""
    rules = made(archive("1 month", "2 years"), drop("2 years"))
    for copy, expected in (
        (archived(), []),
        (archived(verified=False), ["freeze", "archive"]),
        (archived(whole=False), ["freeze", "archive"]),
        (archived(target="far"), ["freeze", "archive"]),
        (archived(types=("other",)), ["freeze", "archive"]),
    ):
        assert kinds(planned(rules, month(stock(), copies=(copy,)), "2024-09-01")) == expected


def test_archives_end_at_their_age_and_other_copies_at_their_date() -> None:
    """Each by its name; what is held in them stays."""
    rules = made(archive("1 month", "1 year"), drop("2 months"))
    restored = Copy(CopyKind.RESTORED, "r1", ("review",), 100, 500, 0, until_ms=ms("2025-03-01"))
    held = archived("a2", held=Held(30, (("H-1", 30),)))
    facts = month(copies=(archived(), held, restored))
    assert kinds(planned(rules, facts, "2025-02-28")) == []
    assert [one.copy for one in planned(rules, facts, "2025-03-01").actions] == ["r1"]
    found = planned(rules, facts, "2025-07-01").actions
    assert [(one.kind, one.copy, one.rows) for one in found] == [
        (Kind.DESTROY_ARCHIVE, "a1", 100),
        (Kind.DESTROY_ARCHIVE, "a2", 70),
        (Kind.EXPIRE, "r1", 100),
    ]
    assert found[0].rule == 'class "a", step 1: keep = "1 year"'


def test_an_archive_that_no_step_asks_for_ends_at_keep_at_most() -> None:
    """Such as one of an earlier policy."""
    rules = made(drop("2 months"), most="1 year")
    assert kinds(planned(rules, month(copies=(archived(),)), "2025-06-30")) == []
    (action,) = planned(rules, month(copies=(archived(),)), "2025-07-01").actions
    assert action.rule == 'class "a": keep_at_most = "1 year"'


def test_the_only_complete_copy_stays_until_keep_at_least() -> None:
    """An archive whose own age has come: while the rows live, it goes; once they do not, it stays."""
    rules = made(archive("1 month", "3 months"), drop("2 years"), keep_at_least="2 years")
    frozen = frozenset({"review"})
    assert kinds(planned(rules, month(stock(), copies=(archived(),), frozen=frozen), "2024-11-01")) == [
        "destroy_archive"
    ]
    assert kinds(planned(rules, month(copies=(archived(),), frozen=frozen), "2024-11-01")) == []
    assert kinds(planned(rules, month(copies=(archived(),), frozen=frozen), "2026-07-01")) == ["destroy_archive"]


def test_rows_stay_until_keep_at_least_where_no_complete_archive_is() -> None:
    """The archive of an earlier policy has anonymized rows only: the drop waits, and says why."""
    rules = made(archive("1 month", "2 years"), drop("2 months"), keep_at_least="2 years")
    partial = month(stock(), copies=(archived(complete=False),), frozen=frozenset({"review"}))
    found = planned(rules, partial, "2024-10-01")
    assert found.actions == ()
    assert [(one.kind, one.because, one.rows) for one in found.withheld] == [(Kind.DROP, "keep_at_least", 100)]
    assert exit_code(found) is ExitCode.NOTHING
    assert kinds(planned(rules, partial, "2026-07-01")) == ["drop", "destroy_archive"]


# Overdue


def test_overdue_counts_every_copy() -> None:
    """Live rows, archives, restored copies, and backups from before rows were taken away; held rows may stay."""
    rules = made(drop("2 months"), most="1 year", backups={"max_age": "35 days"})
    restored = Copy(CopyKind.RESTORED, "r", ("review",), 11, 0, 0, until_ms=ms("2030-01-01"))
    facts = Facts(
        (
            month(stock(5), of=Month(2023, 1)),
            month(of=Month(2023, 2), copies=(archived(rows=7),)),
            month(of=Month(2023, 3), copies=(restored,)),
            month(of=Month(2023, 4), gone=(("review", ms("2024-08-20")),)),
            month(stock(100, held=Held(100, (("H-1", 100),))), of=Month(2022, 1)),
            month(stock(), of=Month(2024, 1)),
        ),
        oldest_backup_ms=ms("2024-08-10"),
    )
    (found,) = planned(rules, facts, "2024-09-01").overdue
    assert (found.class_name, found.since_ms, found.months, found.rows) == ("a", ms("2024-02-01"), 4, 23)
    assert found.where == ("archive", "backup", "live", "restored")
    old = planned(rules, replace(facts, oldest_backup_ms=ms("2024-07-01")), "2024-09-01").overdue
    assert [(one.class_name, one.where) for one in old] == [("", ("backup",)), ("a", found.where)]


def test_what_is_overdue_is_told_even_if_the_plan_ends_it() -> None:
    """The exit code of a plan is that of overdue until the rows are gone."""
    found = planned(made(drop("2 months"), most="3 months"), month(stock()), "2024-10-01")
    assert kinds(found)[-1] == "drop"
    assert exit_code(found) is ExitCode.OVERDUE
    assert exit_code(planned(made(drop("2 months"), most="3 months"), month(stock()), "2024-09-30")) is ExitCode.CHANGES


def test_anonymous_rows_are_not_overdue() -> None:
    """Those that were found to be, not those that were hoped to be."""
    rules = made(anonymize("1 month", "anon"), most="2 months")
    (profile,) = rules.profiles
    for claim, expected in ((Claim.ANONYMOUS, 0), (Claim.PSEUDONYMOUS, 1)):
        facts = month(stock(profile=profile, claim=claim), frozen=frozenset({"review"}))
        found = planned(rules, facts, "2025-01-01")
        assert (len(found.overdue), found.actions) == (expected, ())


# Guards


def test_a_clock_that_jumped_stops_everything_until_it_is_accepted() -> None:
    """Also sealing: a month that is sealed a year early refuses its events. The jump is not recorded as a run."""
    rules = made(drop("1 month"), clock={"max_gap": "40 days"})
    months = (month(stock(), sealed=False), month(copies=(archived(),), of=Month(2019, 1)))
    for last, stopped in (("2024-07-01", True), ("2024-10-12", True), ("2024-08-20", False), ("2024-09-30", False)):
        found = planned(rules, Facts(months, clock_accepted_ms=ms(last)), "2024-09-01")
        assert [one.blocked for one in found.actions] == [("clock",) if stopped else ()] * 4
    facts = Facts(months, clock_accepted_ms=ms("2024-06-01"))
    found = planned(rules, facts, "2024-09-01")
    assert {one.blocked for one in found.actions} == {("clock",)}
    assert found.clock_to_record_ms == ms("2024-06-01")
    accepted = planned(rules, facts, "2024-09-01", "clock")
    assert {one.blocked for one in accepted.actions} == {()}
    assert accepted.clock_to_record_ms == ms("2024-09-01")


def test_a_clock_far_from_the_newest_event_is_not_believed_while_events_come_in() -> None:
    """In a store that is no longer written to, time goes on without events."""
    rules = made(drop("1 month"), clock={"max_gap": "40 days"})
    for active, expected in ((True, ["clock"]), (False, [])):
        found = planned(rules, Facts((month(stock()),), ingest_active=active), "2024-09-01")
        assert [one.name for one in found.guards] == expected


def test_guards_of_size_stop_what_cannot_be_undone_and_what_builds_on_it() -> None:
    """Sealing, freezing and an archive of what is not to be anonymized first go on."""
    rules = policy(
        event_class("a", ["x"], "5 years", anonymize("1 month"), archive("2 months", "2 years"), drop("3 years")),
        event_class("b", ["y"], "5 years", archive("1 month", "2 years", "far"), drop("2 months")),
        guards={"share_of_store_max": 0.5, "months_per_run_max": 1},
        clock=LOOSE["clock"],
    )
    both = month(stock(event_type="x"), stock(event_type="y"), sealed=False)
    found = planned(rules, both, "2024-10-01")
    share = ("share_of_store",)
    assert [(str(one.kind), one.class_name, one.blocked) for one in found.actions] == [
        ("seal", "", ()),
        ("freeze", "a", ()),
        ("anonymize", "a", share),
        ("archive", "a", share),
        ("freeze", "b", ()),
        ("archive", "b", ()),
        ("drop", "b", share),
    ]
    assert {one.blocked for one in planned(rules, both, "2024-10-01", "share_of_store").actions} == {()}
    two = Facts((both, month(stock(event_type="y"), of=Month(2024, 5)), month(stock(9_999, "x"), of=Month(2024, 9))))
    assert [one.name for one in planned(rules, two, "2024-10-01").guards] == ["months_per_run"]


def test_rows_that_are_anonymized_and_dropped_are_lost_once() -> None:
    """Half of the store is not all of it."""
    rules = made(anonymize("1 month"), archive("2 months", "2 years"), drop("3 months"),
                 guards={"share_of_store_max": 0.5})  # fmt: skip
    facts = Facts((month(stock()), month(stock(), of=Month(2024, 12))))
    found = planned(rules, facts, "2024-12-31")
    assert [str(one.kind) for one in found.actions] == ["freeze", "anonymize", "archive", "drop"]
    assert found.guards == ()


def test_an_import_keeps_months_open() -> None:
    """And all that would come behind; nobody can accept that away. What is sealed already goes on."""
    rules = made(drop("1 month"))
    facts = Facts((month(stock(), sealed=False), month(stock(), of=Month(2024, 5))), importing=True)
    found = planned(rules, facts, "2024-09-01", *GUARDS)
    assert [(str(one.month), one.blocked, one.ends_month) for one in found.actions] == [
        ("2024-05", (), False),
        ("2024-05", (), True),
        ("2024-06", ("import",), False),
        ("2024-06", ("import",), False),
        ("2024-06", ("import",), False),
    ]


def test_only_known_guards_can_be_accepted() -> None:
    """A typing error must not look like a word of consent."""
    with pytest.raises(ValueError, match="clock, months_per_run, share_of_store"):
        planned(ALL, month(stock()), "2024-09-01", "shares")


def test_actions_of_two_persons_are_marked() -> None:
    """As the policy says; who they are is for those who apply."""
    rules = made(drop("1 month"), guards={**LOOSE["guards"], "two_person": ["drop"]})
    found = planned(rules, month(stock()), "2024-09-01")
    assert [one.two_person for one in found.actions] == [False, True]


def test_a_reopened_month_is_sealed_again() -> None:
    """And the plan says why a second time."""
    found = planned(ALL, month(stock(), sealed=False, late_events=True), "2024-07-20")
    assert [one.rule for one in found.actions] == [
        'rotation: seal_after = "7 days" again, with the late events that it was opened for'
    ]


# Identity


def test_the_id_is_of_what_is_done_and_to_what() -> None:
    """Not of the clock; of rows, generation, digest, policy and consent. To seal is to seal what came until then."""
    sealed, opened = month(stock()), month(stock(), sealed=False)
    rules = made(drop("1 month"))
    first = planned(rules, sealed, "2024-09-01")
    assert planned(rules, sealed, "2024-09-02").id == first.id
    for other in (
        planned(rules, month(stock(101)), "2024-09-01"),
        planned(rules, replace(sealed, generation=3), "2024-09-01"),
        planned(rules, replace(sealed, digest="e" * 64), "2024-09-01"),
        planned(made(drop("1 month"), most="4 years"), sealed, "2024-09-01"),
        planned(rules, sealed, "2024-09-01", "clock"),
    ):
        assert other.id != first.id
        assert differences(first, other)
    more = month(stock(120), sealed=False)
    assert planned(rules, more, "2024-07-20").id == planned(rules, opened, "2024-07-20").id
    assert planned(rules, more, "2024-09-20").id != planned(rules, opened, "2024-09-20").id


def test_a_stale_plan_says_what_would_be_done_otherwise() -> None:
    """Action by action, and the policy."""
    rules = made(drop("1 month"))
    first = planned(rules, month(stock()), "2024-09-01")
    assert differences(first, planned(rules, month(stock(held=Held(1, (("H-1", 1),)))), "2024-09-01"))[0].startswith(
        "2024-06 drop a: rows 100 became 99"
    )
    assert differences(first, planned(rules, month(), "2024-09-01")) == [
        "2024-06 drop a: is not to be done any more",
        "2024-06 freeze a: is not to be done any more",
    ]
    later = planned(made(drop("2 months")), month(stock()), "2024-08-10")
    assert differences(later, first) == [
        "the policy was changed",
        "2024-06 drop a: was not planned",
        "2024-06 freeze a: was not planned",
    ]
    assert exit_code(first, stale=True) is ExitCode.STALE


def test_a_plan_that_was_changed_is_not_read() -> None:
    """Nor one of another format, nor what is none."""
    document = json.loads(planned(ALL, month(stock()), "2025-02-03").json())
    assert from_document(document).document() == document
    changed = json.loads(json.dumps(document))
    changed["actions"][-1]["rows"] = 1
    for wrong, problem in (
        (changed, "it was changed; plan again"),
        (document | {"format": 2}, "format 2 and not 1"),
        (document | {"actions": [{}]}, "this is no plan"),
        ({}, "this is no plan"),
    ):
        with pytest.raises(PlanUnreadable, match=problem):
            from_document(wrong)


# Facts


@pytest.mark.parametrize(
    ("facts", "types", "state"),
    [
        (month(stock(), sealed=False), "review", State.OPEN),
        (month(stock()), "review", State.SEALED),
        (month(stock(profile="e")), "review", State.ANONYMIZED),
        (month(stock(profile="e"), stock(2, held=Held(2, (("H", 2),)))), "review", State.ANONYMIZED),
        (month(stock(profile="e"), stock(2)), "review", State.SEALED),
        (month(stock(), copies=(archived(),)), "review", State.ARCHIVED),
        (month(stock(), copies=(archived(verified=False),)), "review", State.SEALED),
        (month(gone=(("review", 5),), copies=(archived(),)), "review", State.DROPPED),
        (month(gone=(("review", 5),)), "review", State.DROPPED),
        (month(gone=(("review", 3),)), "review", State.CLOSED),
        (month(stock()), "other", None),
    ],
)
def test_the_state_of_a_class_is_that_of_its_rows(facts: MonthFacts, types: str, state: State | None) -> None:
    """Computed, so that it cannot say anything else than the rows; the oldest backup is of time 4."""
    assert state_of(facts, [types], oldest_backup_ms=4) is state


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: stock(0),
        lambda: stock(5, held=Held(6, (("H", 6),))),
        lambda: stock(claim=Claim.ANONYMOUS),
        lambda: Held(5, (("H", 4),)),
        lambda: Held(3, (("H", 4),)),
        lambda: Held(2, (("B", 1), ("A", 1))),
        lambda: archived(types=("b", "a")),
        lambda: archived(target=""),
        lambda: archived(anonymous=True),
        lambda: month(stock(), stock()),
        lambda: month(copies=(archived(), archived())),
        lambda: replace(month(stock()), digest=""),
        lambda: replace(month(stock()), max_ms=JUNE.end_ms),
        lambda: replace(month(stock()), min_ms=None),
        lambda: replace(month(), min_ms=JUNE.start_ms),
        lambda: Facts((month(), month())),
    ],
)
def test_facts_that_contradict_themselves_are_refused(wrong: Any) -> None:
    """Before anything is planned on them."""
    with pytest.raises(FactsError):
        wrong()
