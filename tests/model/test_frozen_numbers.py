"""Numbers stay true: after any losses each answer is the one from before, or it is refused by name.

Bounded and the same each time. To search longer: TRACKD_FROZEN_SEEDS=50 pytest tests/model/test_frozen_numbers.py
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from retention.hold import Hold
from retention.month import Month
from retention.policy import FieldRule, Treatment
from server.question import (
    EVERYTHING,
    AllOf,
    AnyOf,
    Bucket,
    BucketUnit,
    Field,
    GroupBy,
    Not,
    OneOf,
    Predicate,
    Question,
    StartsWith,
)
from server.rewriting import Loss
from server.storage.contract import Store
from server.storage.memory.store import MemoryStore
from server.time_buckets import QUARTER_MS, bucket_of, zone_of
from tests.differential.population import TYPES, make_events, vocabulary
from tests.support.answers import EVENTS, SOURCE, TYPE, USERS, alike
from tests.support.homes import FOLDING_HOMES, HOMES, Home
from tests.support.lossy import Case, append_all, forms_of
from tests.support.questions import random_question
from tests.support.retaining import DROP, KEEP, NOW_MS, REKEY, deed, freeze, profile, rewrite, seal

SEEDS = int(os.environ.get("TRACKD_FROZEN_SEEDS", "1"))
"""Of each engine in each of its states."""
ZONES = ("Europe/Berlin", "Asia/Kathmandu", "America/St_Johns")
"""The reporting zones, besides UTC. The clocks of the last one changed at one minute past midnight until 2011."""
BY_QUARTERS = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Chatham")
"""Whose clocks change at quarter-hours, and show them."""
GRAINS_MS = (0, 0, 0, 60_000, QUARTER_MS, 3_600_000, 86_400_000)
KEPT = ("source", "session_id", "client_ip", "description", "tags", "metadata", "change__outcome")


KINDS = HOMES + FOLDING_HOMES


@pytest.fixture(
    scope="module", params=range(len(KINDS) * SEEDS), ids=lambda seed: f"{KINDS[seed % len(KINDS)].__name__}-{seed}"
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """Random events, of some months of which some types were frozen, treated, dropped, or one after the other."""
    seed: int = request.param
    chance = random.Random(seed)
    events = make_events(chance, 400)
    whole = MemoryStore()
    home: Home = KINDS[seed % len(KINDS)](tmp_path_factory.mktemp("frozen") / Path("data"))
    home.zones = ZONES
    store = home.open()
    append_all(whole, events)
    append_all(store, events)
    lost = _lose(store, chance)
    made = Case(chance, events, whole.reader(), store.reader(), lost)
    yield made
    made.lossy.close()
    home.finish()


def _lose(store: Store, chance: random.Random) -> dict[Month, set[str]]:
    lost: dict[Month, set[str]] = {}
    months = chance.sample([info.month for info in store.months()], 4)
    for place, month in enumerate(months):
        seal(store, month)
        names = chance.sample(TYPES, chance.randint(2, 6))
        first, second = names[: len(names) // 2], names[len(names) // 2 :]
        freeze(store, month, first)
        _treat(store, month, first, chance)
        freeze(store, month, second)
        if place == 0:
            freeze(store, month, sorted(set(TYPES) - set(names)))
            store.drop(month, dict.fromkeys(TYPES, Loss(gone=True)), deed("drop"))
            lost[month] = set(TYPES)
            continue
        holds = [Hold("h", "LITIGATION", NOW_MS, users=frozenset({"ann", "u1", "u2"}))]
        gone = [*second, *(first if chance.random() < 0.3 else [])]
        rewrite(store, month, None, gone, forms=forms_of(store, month), holds=chance.choice(([], holds)))
        lost[month] = set(names)
    return lost


def _treat(store: Store, month: Month, types: Sequence[str], chance: random.Random) -> None:
    for name in types:
        grain_ms = chance.choice(GRAINS_MS)
        time = FieldRule(Treatment.ROUND, grain_ms=grain_ms) if grain_ms else KEEP
        users = chance.choice((KEEP, DROP, REKEY))
        rules: dict[str, Any] = dict.fromkeys(KEPT, KEEP)
        rewrite(store, month, profile(**rules, user_id=users, timestamp=time), [name])


def test_an_answer_is_the_one_from_before_or_is_refused(case: Case) -> None:
    """Questions of every kind: never another number, never a row less; and what was read is told."""
    words = vocabulary(case.events)
    found: Counter[str] = Counter()
    for _ in range(120):
        question = random_question(case.chance, words)
        answer = case.now(question)
        found["refused" if answer is None else "answered"] += 1
        assert answer is None or alike(answer, case.before(question)), question
    assert found["answered"] > 5
    assert found["refused"] > 5


def test_counts_by_type_source_and_time_are_never_refused(case: Case) -> None:
    """Any filter on types and sources, any bucket of zones whose clocks show quarter-hours, ranges that do."""
    for _ in range(60):
        start_ms, end_ms = (at // QUARTER_MS * QUARTER_MS for at in sorted(_instants(case)))
        case.must_answer(
            Question(
                (EVENTS,),
                _dimensions(case.chance),
                _about_types_and_sources(case.chance),
                case.chance.choice((None, start_ms)),
                case.chance.choice((None, end_ms)),
                case.chance.choice(BY_QUARTERS),
            )
        )


def test_users_of_a_frozen_cell_are_never_refused(case: Case) -> None:
    """Of one type or of all together; in days, weeks and months of a kept zone inside of a month, or the month."""
    read = 0
    for month, types in case.lost.items():
        for _ in range(12):
            zone = case.chance.choice(("UTC", *ZONES[:2]))
            unit = case.chance.choice((BucketUnit.DAY, BucketUnit.WEEK))
            start_ms, end_ms = _inside(case, month, unit, zone)
            buckets: tuple[GroupBy, ...] = (Bucket(unit),)
            kind = OneOf(TYPE, (case.chance.choice(sorted(types)),))
            for by, where, span, name in (
                ((), kind, (month.start_ms, month.end_ms), "UTC"),
                ((), EVERYTHING, (month.start_ms, month.end_ms), zone),
                ((TYPE,), EVERYTHING, (month.start_ms, month.end_ms), "UTC"),
                (buckets, kind, (start_ms, end_ms), zone),
                (buckets, EVERYTHING, (start_ms, end_ms), zone),
                ((*buckets, TYPE), EVERYTHING, (start_ms, end_ms), zone),
                ((Bucket(BucketUnit.MONTH),), EVERYTHING, (None, month.end_ms), "UTC"),
                ((TYPE, Bucket(BucketUnit.MONTH)), EVERYTHING, (None, None), "UTC"),
                ((), case.chance.choice((kind, EVERYTHING)), (start_ms, _next(start_ms, unit, zone)), "UTC"),
            ):
                question = Question((EVENTS, USERS), by, where, span[0], span[1], name)
                case.must_answer(question)
                read += case.lossy.aggregate([question]).read.frozen
    assert read


def test_what_is_whole_answers_as_ever(case: Case) -> None:
    """Questions of every kind that are kept away from what was lost, by a range or by a filter on the type."""
    words = vocabulary(case.events)
    months = [info for info in {Month.of(made.sent.timestamp_ms) for made in case.events} if info not in case.lost]
    for _ in range(30):
        month = case.chance.choice(sorted(months))
        asked = random_question(case.chance, words)
        span = Question(asked.metrics, asked.by, asked.where, month.start_ms, month.end_ms, asked.time_zone)
        case.must_answer(span)
    for month, types in case.lost.items():
        others = Not(OneOf(TYPE, tuple(sorted(types))))
        for _ in range(5):
            asked = random_question(case.chance, words)
            where = AllOf((asked.where, others))
            case.must_answer(Question(asked.metrics, asked.by, where, month.start_ms, month.end_ms, asked.time_zone))


def _instants(case: Case) -> tuple[int, int]:
    changes = vocabulary(case.events).instants
    return case.chance.choice(changes), case.chance.choice(changes)


def _dimensions(chance: random.Random) -> tuple[GroupBy, ...]:
    by: list[Field | Bucket] = chance.sample([TYPE, SOURCE], chance.randint(0, 2))
    return (*by, Bucket(chance.choice(list(BucketUnit)))) if chance.random() < 0.6 else tuple(by)


def _about_types_and_sources(chance: random.Random) -> Predicate:
    some = OneOf(TYPE, tuple(chance.sample(TYPES, 3)))
    web = OneOf(SOURCE, ("web",))
    ci = StartsWith(SOURCE, ("ci",))
    return chance.choice(
        (EVERYTHING, some, Not(some), web, AllOf((some, Not(web))), AnyOf((AllOf((web, some)), AllOf((ci, Not(some))))))
    )


def _inside(case: Case, month: Month, unit: BucketUnit, zone: str) -> tuple[int, int]:
    """Two begins of buckets that lie in a month."""
    begins = sorted({bucket_of(month.start_ms + day * 86_400_000, unit, zone_of(zone)) for day in range(2, 28)})
    begins = [at for at in begins if at >= month.start_ms]
    low, high = sorted(case.chance.sample(begins, 2))
    return low, high


def _next(start_ms: int, unit: BucketUnit, zone: str) -> int:
    """Where the bucket after this one begins."""
    at = start_ms
    while bucket_of(at, unit, zone_of(zone)) == start_ms:
        at += 3_600_000
    return bucket_of(at, unit, zone_of(zone))
