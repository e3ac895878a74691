"""A store that lost something beside one that did not: what it says now is what it said before, or it refuses."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from retention.month import Month
from server.errors import Precondition
from server.question import Question
from server.storage.contract import Reader, Store
from tests.differential.population import SOURCES, Made
from tests.support.answers import Row, alike, rows
from tests.support.events import append_group, make_batch


@dataclass
class Case:
    """A store that lost something, and one with the same events that did not."""

    chance: random.Random
    events: list[Made]
    whole: Reader
    lossy: Reader
    lost: dict[Month, set[str]]
    """What was treated or went, by month."""
    refusal: str = ""

    def before(self, question: Question) -> list[Row]:
        """The answer from before."""
        return rows(self.whole.aggregate([question]).tables[0])

    def now(self, question: Question) -> list[Row] | None:
        """The answer now; None if it is refused for the one reason that there is."""
        try:
            return rows(self.lossy.aggregate([question]).tables[0])
        except Precondition as refusal:
            if refusal.reason != "FROZEN_GRAIN":
                raise
            self.refusal = str(refusal)
            return None

    def must_answer(self, question: Question) -> None:
        """It answers, and as before."""
        found = self.now(question)
        assert found is not None, f"{self.refusal}: {question}"
        assert alike(found, self.before(question)), question


def append_all(store: Store, events: Sequence[Made]) -> None:
    """A batch for each source."""
    append_group(
        store, *(make_batch(*(made.sent for made in events if made.source == one), source=one) for one in SOURCES)
    )


def forms_of(store: Store, month: Month) -> list[str]:
    """What forms its rows have."""
    reader = store.reader()
    try:
        return sorted({stock.profile for stock in reader.stocks(month).stocks})
    finally:
        reader.close()
