"""Plans: what is overdue, what stops a plan, and what makes it another one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from retention.facts import Copy, CopyKind, Facts, Held
from retention.guards import GUARDS
from retention.month import Month
from retention.plan import ExitCode, PlanUnreadable, differences, exit_code, from_document
from retention.policy import Claim
from tests.support.months import ALL, archived, kinds, made, month, ms, planned, stock
from tests.support.policies import LOOSE, anonymize, archive, drop, event_class, policy

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
    newer = planned(rules, replace(facts, oldest_backup_ms=ms("2024-08-20")), "2024-09-01").overdue
    assert [(one.months, one.where) for one in newer] == [(3, ("archive", "live", "restored"))]
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
