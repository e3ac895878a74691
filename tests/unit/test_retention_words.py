"""The words of a policy file: periods, spans, cron expressions, globs."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retention import globs
from retention.cron import parse_cron
from retention.faults import Misworded
from retention.month import Month
from retention.period import DAY_MS, Period, parse_span_ms

PERIODS = st.one_of(
    st.integers(1, 1_200).map(lambda months: Period(months=months)),
    st.integers(1, 36_500).map(lambda days: Period(days=days)),
)


def ms(text: str) -> int:
    """Milliseconds of a date or time, UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("text", "month", "date"),
    [
        ("13 months", "2024-01", "2025-03-01"),
        ("1 month", "2024-01", "2024-03-01"),
        ("2 years", "2024-02", "2026-03-01"),
        ("11 months", "2023-12", "2024-12-01"),
        ("12 months", "2023-12", "2025-01-01"),
        ("90 days", "2024-01", "2024-05-01"),
        ("1 week", "2024-12", "2025-01-08"),
        ("1 day", "2024-02", "2024-03-02"),
    ],
)
def test_ages_count_from_the_end_of_the_month(text: str, month: str, date: str) -> None:
    """Months are those of the calendar, days have 24 hours."""
    assert Period.parse(text).after(Month.parse(month)) == ms(date)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("24 months", "2 years"), ("13 months", "13 months"), ("2 weeks", "14 days"), ("1 years", "1 year")],
)
def test_equal_periods_are_equal_and_shown_alike(text: str, shown: str) -> None:
    """However they were written."""
    assert str(Period.parse(text)) == shown
    assert Period.parse(shown) == Period.parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "13", "months", "0 days", "-1 days", "1.5 years", "13 Months", "13  months", "101 years", "1 hour", "1 day "],
)
def test_what_is_no_period_is_refused_with_advice(text: str) -> None:
    """None is guessed at."""
    with pytest.raises(Misworded, match="write a") as caught:
        Period.parse(text)
    assert caught.value.advice


@settings(max_examples=200, deadline=None)
@given(PERIODS, PERIODS, st.integers(2000, 2100), st.integers(1, 12))
def test_never_longer_is_true_of_every_month_or_of_none(left: Period, right: Period, year: int, month: int) -> None:
    """Where it says so, no month ends later by the first than by the second; otherwise there is one that does."""
    if left.never_longer_than(right):
        assert left.after(Month(year, month)) <= right.after(Month(year, month))
    else:
        months = [Month(2000 + number // 12, number % 12 + 1) for number in range(4_800)]
        assert any(left.after(one) > right.after(one) for one in months)


def test_months_of_different_lengths_decide() -> None:
    """A month is 28 to 31 days, a year 365 or 366."""
    assert Period(months=1).never_longer_than(Period(days=31))
    assert not Period(months=1).never_longer_than(Period(days=30))
    assert Period(days=28).never_longer_than(Period(months=1))
    assert not Period(days=29).never_longer_than(Period(months=1))
    assert not Period(months=12).never_longer_than(Period(days=365))
    assert Period(days=365).never_longer_than(Period(months=12))
    assert Period(months=12).most_days == 366


@pytest.mark.parametrize(
    ("text", "expected"), [("20 minutes", 1_200_000), ("1 hour", 3_600_000), ("2 weeks", 14 * DAY_MS)]
)
def test_spans_of_the_clock_are_milliseconds(text: str, expected: int) -> None:
    """For jitter and gaps, which have no calendar."""
    assert parse_span_ms(text) == expected


@pytest.mark.parametrize("text", ["", "1 month", "0 minutes", "1 year", "99999 weeks"])
def test_what_is_no_span_is_refused(text: str) -> None:
    """Months have no length in milliseconds, and a hundred years are enough."""
    with pytest.raises(Misworded):
        parse_span_ms(text)


@pytest.mark.parametrize(
    "text",
    [
        "17 3 * * *",
        "*/15 * * * *",
        "0 0 1,15 * 1-5",
        "0 0 29 2 *",
        "0 0 1,30 2 *",
        "0 4 * jan-mar mon",
        "5/20 * * * 7",
        " 0  0 * * *",
    ],
)
def test_cron_expressions_are_taken(text: str) -> None:
    """Lists, ranges, steps and names; with single spaces afterwards."""
    assert parse_cron(text) == " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("60 * * * *", "minute '60'"),
        ("* 24 * * *", "hour '24'"),
        ("* * 0 * *", "day of the month '0'"),
        ("* * * 13 *", "month '13'"),
        ("* * * * 8", "weekday"),
        ("* * * * fun", "week 'fun'"),
        ("9-5 * * * *", "'9-5' ends before"),
        ("*/0 * * * *", "minute '0'"),
        ("1, * * * *", "minute ''"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 4,jun *", "never fires"),
    ],
)
def test_what_is_no_cron_expression_is_refused(text: str, problem: str) -> None:
    """With the field at fault, also if it is a date that never comes."""
    with pytest.raises(Misworded, match=problem.replace("weekday", "day of the week '8'")):
        parse_cron(text)


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("review_*", "review_submitted", True),
        ("review_*", "review_", True),
        ("review_*", "preview_x", False),
        ("*_merged", "pr_merged", True),
        ("a*b*c", "abc", True),
        ("a*b*c", "acb", False),
        ("*", "anything", True),
        ("pr.merged", "pr_merged", False),
        ("PR", "pr", False),
    ],
)
def test_globs_stand_for_whole_names(glob: str, name: str, expected: bool) -> None:
    """A star is any run of letters, everything else is itself."""
    assert globs.matches(glob, name) is expected


@pytest.mark.parametrize(
    ("left", "right", "name"),
    [
        ("a", "a", "a"),
        ("a", "b", None),
        ("review_*", "*_submitted", "review_submitted"),
        ("review_*", "*view_sub*", "review_sub"),
        ("a*", "*b", "ab"),
        ("*", "*", "x"),
        ("*", "abc", "abc"),
        ("a*c", "ab", None),
    ],
)
def test_two_globs_overlap_in_a_name(left: str, right: str, name: str | None) -> None:
    """The shortest one is the example that lint shows."""
    assert globs.common_name(left, right) == name


NAMES = ["".join(letters) for length in range(1, 5) for letters in product("ab", repeat=length)]


@settings(max_examples=300, deadline=None)
@given(st.text("ab*", min_size=1, max_size=4), st.text("ab*", min_size=1, max_size=4))
def test_overlap_is_what_trying_all_names_finds(left: str, right: str) -> None:
    """Over all names of up to four letters; a longer one is never needed here."""
    both = [name for name in NAMES if globs.matches(left, name) and globs.matches(right, name)]
    found = globs.common_name(left, right)
    if found is None:
        assert both == []
    else:
        assert globs.matches(left, found)
        assert globs.matches(right, found)
        assert len(found) <= min(map(len, both), default=len(found))
