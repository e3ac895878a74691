"""Every engine answers random questions as DuckDB does.

Bounded and the same each time. To search longer: TRACKD_DIFFERENTIAL_QUESTIONS=5000 pytest tests/differential -s, which
prints a seed; TRACKD_SEED=<seed> beside it asks the same again.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from retention.month import Month
from server.model import EventFilter
from server.question import AllOf, AnyOf, Bucket, Not, Predicate, Question
from server.storage.contract import Store
from tests.differential.duck import Duck, Select
from tests.differential.population import Made, make_events, told_anew, vocabulary
from tests.support.answers import Row, alike, rows
from tests.support.events import append_group, make_batch, positions, read
from tests.support.homes import FOLDING_HOMES, HOMES, Home
from tests.support.questions import random_question

EVENTS = 3_000
QUESTIONS = 150
PER_CALL_MAX = 4
"""Questions of one call."""


@dataclass(frozen=True)
class Case:
    """What is asked, of which events, and what DuckDB says."""

    seed: int
    events: list[Made]
    questions: list[Question]
    expected: list[tuple[list[Row], bool]]


@pytest.fixture(scope="module")
def case() -> Case:
    """The events and questions of the seed."""
    longer = os.environ.get("TRACKD_DIFFERENTIAL_QUESTIONS")
    seed = int(os.environ.get("TRACKD_SEED") or (random.SystemRandom().getrandbits(32) if longer else 1))
    print(f"TRACKD_SEED={seed} TRACKD_DIFFERENTIAL_QUESTIONS={longer or QUESTIONS}")
    chance = random.Random(seed)
    events = make_events(chance, EVENTS)
    words = vocabulary(events)
    questions = [random_question(chance, words) for _ in range(int(longer or QUESTIONS))]
    duck = Duck(events, words.zones)
    try:
        return Case(seed, events, questions, [duck.ask(question) for question in questions])
    finally:
        duck.close()


@pytest.fixture(scope="module", params=HOMES + FOLDING_HOMES)
def store(request: pytest.FixtureRequest, case: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store of each engine that has come to hold the events, after many a detour."""
    kind: type[Home] = request.param
    home = kind(tmp_path_factory.mktemp("differential") / Path("data"))
    store = home.open()
    fill(store, case)
    yield store
    home.finish()


def fill(store: Store, case: Case) -> None:
    """Appends in pieces, some of it late; some is first told otherwise, removed and told anew, some comes twice."""
    chance = random.Random(case.seed)
    store.register_type("pr_opened", "", 1, dimensions=("plain", "mixed"))
    waiting = list(case.events)
    chance.shuffle(waiting)
    while waiting:
        piece, waiting = waiting[:170], waiting[170:]
        wrong = [told_anew(chance, made) for made in piece if chance.random() < 0.1]
        _append(store, wrong)
        _remove(store, {made.sent.id for made in wrong})
        _append(store, piece + piece[:10])
        if chance.random() < 0.3:
            store.maintain(idle=chance.random() < 0.5)
        if chance.random() < 0.2:
            store.register_type(chance.choice(["review", "deploy"]), "", 1, dimensions=("plain", "a.b"))
    assert len(read(store)) == len(case.events)


def _append(store: Store, events: list[Made]) -> None:
    sources = sorted({made.source for made in events})
    append_group(
        store, *(make_batch(*(made.sent for made in events if made.source == one), source=one) for one in sources)
    )


def _remove(store: Store, ids: set[bytes]) -> None:
    found = [event for event in read(store, EventFilter(after_position=0)) if event.id in ids]
    for month in sorted({Month.of(event.timestamp_ms) for event in found}):
        within = [event for event in found if Month.of(event.timestamp_ms) == month]
        assert store.remove(month, positions(within)) == len(within)


@pytest.mark.timeout(7_200)
def test_an_engine_answers_as_duckdb_does(store: Store, case: Case) -> None:
    """Rows, their order, and whether there are more: exactly, but for the rounding of sums."""
    chance, reader = random.Random(case.seed), store.reader()
    asked = 0
    while asked < len(case.questions):
        together = case.questions[asked : asked + chance.randint(1, PER_CALL_MAX)]
        answer = reader.aggregate(together)
        assert answer.as_of == store.head
        for number, (question, table) in enumerate(zip(together, answer.tables, strict=True), asked):
            found, (expected, more) = rows(table), case.expected[number]
            if not alike(found, expected) or table.more != more:
                pytest.fail(_difference(case, number, question, found, expected))
        asked += len(together)
    reader.close()


def _difference(case: Case, number: int, question: Question, found: list[Row], expected: list[Row]) -> str:
    select = Select(question)
    first = next((pair for pair in zip(found, expected, strict=False) if not alike(pair[:1], pair[1:])), None)
    return "\n".join(
        [
            f"TRACKD_SEED={case.seed} TRACKD_DIFFERENTIAL_QUESTIONS={len(case.questions)}: question {number}",
            f"{question}",
            f"{select}",
            f"{select.bindings}",
            f"{len(found)} rows, DuckDB has {len(expected)}; the first that differs, and DuckDB's: {first}",
        ]
    )


def test_the_questions_are_of_every_shape(case: Case) -> None:
    """Each metric, dimension, bucket and predicate is asked for, and most answers have rows that differ in numbers."""
    seen: Counter[object] = Counter()
    for question in case.questions:
        seen.update(metric.kind for metric in question.metrics)
        seen.update(by.unit if isinstance(by, Bucket) else by.kind for by in question.by)
        seen.update(map(type, _parts(question.where)))
    assert len(seen) == 9 + 5 + 6 + 6
    with_rows = [rows for rows, _more in case.expected if len(rows) > 3]
    assert len(with_rows) > len(case.questions) // 3
    assert len([more for _rows, more in case.expected if more]) > len(case.questions) // 20


def _parts(predicate: Predicate) -> Iterator[Predicate]:
    yield predicate
    if isinstance(predicate, Not):
        yield from _parts(predicate.part)
    if isinstance(predicate, AllOf | AnyOf):
        for part in predicate.parts:
            yield from _parts(part)
