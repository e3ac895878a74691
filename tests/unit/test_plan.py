"""Plans: what is due in a month, by which line of the policy, and what is left alone."""

from __future__ import annotations

import pytest

from retention.facts import Copy, CopyKind, Facts, Held
from retention.plan import ExitCode, Kind, exit_code
from retention.policy import Claim
from tests.support.months import ALL, DIGEST, archived, kinds, made, month, ms, planned, stock
from tests.support.policies import LOOSE, anonymize, archive, drop, event_class, policy


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


def test_an_archive_that_ends_too_early_is_no_reason_to_drop() -> None:
    """The one that stays long enough has anonymized rows only, and the complete one goes before keep_at_least."""
    rules = made(
        archive("1 month", "1 year"), archive("1 month", "3 years", "far"), drop("2 months"), keep_at_least="2 years"
    )
    copies = (archived(), archived("a2", target="far", complete=False))
    assert planned(rules, month(stock(), copies=copies, frozen=frozenset({"review"})), "2024-10-01").actions == ()
    both = (archived(), archived("a2", target="far"))
    assert kinds(planned(rules, month(stock(), copies=both, frozen=frozenset({"review"})), "2024-10-01")) == ["drop"]


def test_an_archive_that_another_class_ends_is_replaced_before_it_is_relied_on() -> None:
    """One file of two classes, as an earlier policy made it: it ends for the one that asks first."""
    rules = policy(
        event_class("a", ["x"], "3 years", archive("1 month", "2 years"), drop("1 year"), keep_at_least="2 years"),
        event_class("b", ["y"], "3 months", drop("2 months")),
        **LOOSE,
    )
    shared, own = archived(types=("x", "y")), archived("a2", types=("x",))
    frozen = frozenset("xy")
    live = month(stock(event_type="x"), copies=(shared,), frozen=frozen)
    assert kinds(planned(rules, live, "2024-09-30")) == []
    assert kinds(planned(rules, live, "2024-10-01")) == ["archive", "destroy_archive"]
    only = planned(rules, month(copies=(shared,), frozen=frozen), "2025-08-01")
    assert only.actions == ()
    assert [one.class_name for one in only.overdue] == ["b"]
    both = planned(rules, month(copies=(shared, own), frozen=frozen), "2025-08-01")
    assert [one.copy for one in both.actions] == ["a1"]
