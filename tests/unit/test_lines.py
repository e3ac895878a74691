"""Lines in the terminal: they fit, they show where the values are, and nothing breaks them."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from server.cli.lines import HEIGHT, line_chart, show_number

values = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.integers(-(10**9), 10**9))


@given(st.lists(values, max_size=80), st.integers(20, 120), st.integers(1, 5))
def test_any_series_fits(column: list[float | None], width: int, count: int) -> None:
    """Whatever the values, gaps and lengths."""
    times = [f"2025-{n:02}" for n in range(len(column))]
    lines = line_chart("events", times, {f"series {n}": column for n in range(count)}, width=width)
    plain = [line.plain for line in lines]
    assert len(plain) >= HEIGHT + 3
    margin = plain[-2].index("└")
    assert all(len(line) <= max(width, margin + 12) for line in plain[-HEIGHT - 2 :])
    assert all(line[margin] in "│┤└" for line in plain[-HEIGHT - 2 : -1])


def test_a_line_rises_from_its_first_to_its_last_value() -> None:
    """The first dot is at the bottom on the left, the last at the top on the right."""
    lines = line_chart("events", ["a", "b", "c"], {"": [0, 50, 100]}, width=30, height=5)
    rows = [line.plain.partition("┤")[2] or line.plain.partition("│")[2] for line in lines[1:6]]
    assert rows[0].rstrip()[-1] != " "
    assert rows[0][:20].strip() == ""
    assert rows[-1][0] != " "
    assert rows[-1][10:].strip() == ""
    assert [line.plain[:4].strip() for line in lines[1:6]] == ["100", "", "50", "", "0"]


def test_a_gap_is_no_line() -> None:
    """Nothing is drawn where there is no value."""
    whole, gap = (
        line_chart("", ["a"] * 9, {"": column}, width=30) for column in ([5.0] * 9, [5.0] * 3 + [None] * 3 + [5.0] * 3)
    )
    assert any(" " in line.plain.rstrip()[5:] for line in gap[1:-2])
    assert not any(" " in line.plain.rstrip()[5:] for line in whole[1:-2])


def test_numbers_are_shown_in_few_characters() -> None:
    """Whole ones whole."""
    shown = [show_number(number) for number in (0, 1_234_567, 2.0, 1.5, -0.25, 0.0001, 1e300, math.inf, math.nan)]
    assert shown == ["0", "1,234,567", "2", "1.50", "-0.25", "0.0001", "1e+300", "inf", "nan"]
