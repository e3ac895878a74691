"""Messages of several services: every event is counted once, under the number it has in the message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import Invalid, Precondition, TrackdError, Unavailable
from server.ingest import by_source
from server.ingest.answer import Answer
from server.ingest.offered import Offered
from server.ingest.rules import Fault
from server.ingest.service import IngestService
from server.model import Durability, Item, Outcome


class Pending:
    """A batch whose answer is known."""

    def __init__(self, answer: Answer | TrackdError) -> None:
        self._answer = answer

    async def answer(self) -> Answer:
        """It, or the error."""
        if isinstance(self._answer, TrackdError):
            raise self._answer
        return self._answer


class Ingest:
    """Answers batches as the name of their source says; every event of a good source gets the next position."""

    def __init__(self) -> None:
        self.offered: list[tuple[str, int, int]] = []
        self.head = 0
        self.limit = 100

    def introduce(self, source: str, durability: Durability) -> None:
        """Refuses two names."""
        assert durability is Durability.DURABLE
        if source == "no source":
            raise Invalid("SOURCE_INVALID", "no", hint="mend it", field="source")
        if source == "too-many":
            raise Precondition("SOURCE_LIMIT", "no", field="source")

    def refuse_too_many(self, events: int) -> None:
        """As the service does."""
        if events > self.limit:
            raise Invalid("BATCH_TOO_LARGE", "too many")

    def refuse_if_full(self) -> None:
        """There is room."""

    def offer(
        self,
        decode: Callable[[], object],
        *,
        events: int,
        size_bytes: int,
        source: str,
        durability: Durability,
        atomic: bool,
    ) -> Pending:
        """Takes a batch."""
        self.offered.append((source, events, size_bytes))
        if source == "down":
            return Pending(Unavailable("DISK_FULL", "no room"))
        if source == "twice":
            items = tuple(Item(row, Outcome.DUPLICATE, existing_position=1) for row in range(events))
            return Pending(Answer(durability, duplicate=events, items=items))
        if source == "bad":
            items = tuple(Item(row, Outcome.REJECTED, "TYPE_INVALID", "no", "type") for row in range(events))
            return Pending(Answer(durability, rejected=events, items=items))
        first, self.head = self.head + 1, self.head + events
        return Pending(Answer(durability, accepted=events, first_position=first, last_position=self.head))


def never() -> tuple[Offered, dict[int, Fault]]:
    """Nobody reads here."""
    raise AssertionError


def parts(sources: Sequence[str]) -> list[by_source.Part]:
    """A part a source, of these rows."""
    rows = {source: [row for row, of in enumerate(sources) if of == source] for source in sources if source != "nobody"}
    return [by_source.Part(source, found, never) for source, found in rows.items()]


async def append(ingest: Ingest, sources: Sequence[str]) -> Answer:
    """Rows of these sources; "nobody" are faults."""
    faults = {row: Fault("TEXT_NOT_UTF8", "no", "x") for row, source in enumerate(sources) if source == "nobody"}
    size_bytes = 1_000
    return await by_source.append(cast(IngestService, ingest), parts(sources), size_bytes=size_bytes, faults=faults)


OUTCOMES = {
    "good": "",
    "fine": "",
    "twice": "",
    "bad": "TYPE_INVALID",
    "no source": "SOURCE_INVALID",
    "too-many": "SOURCE_LIMIT",
    "nobody": "TEXT_NOT_UTF8",
}


@given(st.lists(st.sampled_from(list(OUTCOMES)), max_size=12))
async def test_every_event_ends_in_one_outcome(sources: list[str]) -> None:
    """Mixed in any order: counts, items and positions are those of the message."""
    ingest = Ingest()
    answer = await append(ingest, sources)
    stored = [row for row, source in enumerate(sources) if source in ("good", "fine")]
    assert answer.accepted == len(stored)
    assert answer.duplicate == sources.count("twice")
    assert answer.accepted + answer.duplicate + answer.rejected == len(sources)
    assert [(item.index, item.reason) for item in answer.items] == [
        (row, OUTCOMES[source]) for row, source in enumerate(sources) if source not in ("good", "fine")
    ]
    assert (answer.first_position, answer.last_position) == ((1, len(stored)) if stored else (None, None))
    assert sum(size for _source, _events, size in ingest.offered) <= 1_000


async def test_one_source_is_answered_as_it_is() -> None:
    """The usual case costs nothing."""
    ingest = Ingest()
    assert (await append(ingest, ["good"] * 3)).accepted == 3
    assert ingest.offered == [("good", 3, 1_000)]


async def test_what_refuses_one_part_refuses_the_message() -> None:
    """It is sent again as a whole; what was stored is a duplicate then."""
    with pytest.raises(Unavailable):
        await append(Ingest(), ["good", "down", "fine"])


async def test_the_limit_is_on_the_message_and_nothing_of_it_is_queued() -> None:
    """Many small parts are as many events as one large."""
    ingest = Ingest()
    with pytest.raises(Invalid, match="too many"):
        await append(ingest, [f"s{number % 7}" for number in range(101)])
    assert ingest.offered == []
