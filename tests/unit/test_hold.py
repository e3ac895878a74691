"""Holds: which rows they hold, and that a hold which means nothing cannot be placed."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retention.faults import Misworded
from retention.hold import Hold, holding
from retention.month import Month

MAY, JUNE, JULY = (Month(2025, number) for number in (5, 6, 7))
ANN = Hold("H-1", "LITIGATION", 0, users=frozenset({"ann"}))


def held(hold: Hold, **row: Any) -> bool:
    """Whether the hold holds a row: this one, but for what is said."""
    return hold.holds(**{"user": "ann", "event_type": "pr_merged", "source": "ci", "month": JUNE} | row)


@pytest.mark.parametrize(
    ("selectors", "yes", "no"),
    [
        ({"users": frozenset({"ann", "ben"})}, {"user": "ben"}, {"user": "Ann"}),
        ({"types": ("pr_*", "x")}, {"event_type": "pr_merged"}, {"event_type": "review"}),
        ({"sources": frozenset({"ci"})}, {"source": "ci"}, {"source": "cd"}),
        ({"first_month": JUNE}, {"month": JULY}, {"month": MAY}),
        ({"last_month": JUNE}, {"month": JUNE}, {"month": JULY}),
        ({"first_month": JUNE, "last_month": JUNE}, {"month": JUNE}, {"month": MAY}),
    ],
)
def test_each_selector_selects(selectors: dict[str, Any], yes: dict[str, Any], no: dict[str, Any]) -> None:
    """And one that is empty selects everything."""
    hold = Hold("H-1", "LITIGATION", 0, **selectors)
    assert held(hold, **yes)
    assert not held(hold, **no)


SELECTORS: dict[str, tuple[Any, Any]] = {
    "users": (frozenset({"ann"}), frozenset({"ben"})),
    "types": (("pr_*",), ("x",)),
    "sources": (frozenset({"ci"}), frozenset({"cd"})),
    "first_month": (JUNE, JULY),
    "last_month": (JUNE, MAY),
}


@pytest.mark.parametrize("fitting", list(product((True, False), repeat=4)))
def test_a_row_is_held_if_all_selectors_match(fitting: tuple[bool, ...]) -> None:
    """One that does not match is enough to let it go."""
    names = ("users", "types", "sources", "first_month")
    chosen = {name: SELECTORS[name][0 if fits else 1] for name, fits in zip(names, fitting, strict=True)}
    assert held(Hold("H-1", "LITIGATION", 0, **chosen)) is all(fitting)


@given(st.sampled_from(["pr_merged", "x"]), st.sampled_from([MAY, JUNE, JULY]), st.data())
def test_where_a_hold_touches_nothing_no_row_is_held(event_type: str, month: Month, data: st.DataObject) -> None:
    """So that months and types can be left out without looking at rows."""
    names = data.draw(st.sets(st.sampled_from(sorted(SELECTORS))))
    chosen = {name: data.draw(st.sampled_from(SELECTORS[name])) for name in sorted(names)}
    if chosen.get("first_month", MAY) > chosen.get("last_month", JULY):
        del chosen["last_month"]
    hold = replace(ANN, **chosen)
    if not hold.touches(month, event_type):
        assert not any(held(hold, user=user, event_type=event_type, month=month) for user in ("ann", "ben"))
    elif not chosen.get("sources"):
        assert any(held(hold, user=user, event_type=event_type, month=month) for user in ("ann", "ben"))


def test_only_active_holds_hold() -> None:
    """A released one is history. Codes come in order."""
    holds = [replace(ANN, code="B"), replace(ANN, code="A"), replace(ANN, code="C", released_ms=1)]
    row: dict[str, Any] = {"user": "ann", "event_type": "x", "source": "ci", "month": JUNE}
    assert holding(holds, **row) == ("A", "B")
    assert holding(holds, **row | {"user": "ben"}) == ()
    assert holds[0].active
    assert not holds[2].active


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"code": "Ann's case"}, "no code of a hold"),
        ({"code": ""}, "no code of a hold"),
        ({"reason": "because of ann"}, "no reason code"),
        ({"users": frozenset()}, "selects nothing"),
        ({"types": ("a b",)}, "is no type"),
        ({"first_month": JULY, "last_month": JUNE}, "2025-07 is after 2025-06"),
        ({"released_ms": -1}, "released before it is placed"),
    ],
)
def test_what_is_no_hold_is_refused(changes: dict[str, Any], problem: str) -> None:
    """A code that may tell a name, and a selection that cannot be meant."""
    with pytest.raises(Misworded, match=problem):
        replace(ANN, **changes)
