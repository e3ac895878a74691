"""What planning knows of a store: states computed from rows, contradictions refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from retention.facts import Facts, FactsError, Held, MonthFacts, State, state_of
from retention.policy import Claim
from tests.support.months import JUNE, archived, month, stock


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
