"""Numbers of rows that were made anonymous: none tells of fewer than k users, totals stay, no answer is a wrong one.

Bounded and the same each time. To search longer: TRACKD_FROZEN_SEEDS=50 pytest tests/model/test_coarse_numbers.py
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from retention.month import Month
from retention.policy import Claim, FieldRule, Treatment
from server.errors import Precondition
from server.frozen import ANY_TYPE, GRAINS
from server.model import Dimension, EventFilter
from server.question import EVERYTHING, AllOf, Bucket, BucketUnit, GroupBy, OneOf, Predicate, Question
from server.rewriting import Claimed, Rewrite, Selection
from server.storage.contract import Store
from server.storage.memory.store import MemoryStore
from tests.differential.population import TYPES, make_events, vocabulary
from tests.support.answers import EVENTS, SOURCE, TYPE, USERS, alike
from tests.support.homes import FOLDING_HOMES, HOMES, Home, MemoryHome
from tests.support.lossy import Case, append_all, forms_of
from tests.support.questions import random_question
from tests.support.retaining import DROP, deed, freeze, here, profile, rewrite, seal

SEEDS = int(os.environ.get("TRACKD_FROZEN_SEEDS", "1"))
"""Of each engine in each of its states."""
KINDS = HOMES + FOLDING_HOMES
DAILY = FieldRule(Treatment.ROUND, grain_ms=86_400_000)
EVERY = ""
"""All types together, as the oracle names them."""


@dataclass
class Coarse:
    """Both stores, and which types were claimed with which k; `fewest` is the least of each month."""

    case: Case
    store: Store
    home: Home
    claimed: Mapping[tuple[Month, str], int]

    def fewest_users(self, month: Month, name: str, grain: BucketUnit) -> int | None:
        """Of all buckets that have any, in the store that lost nothing."""
        where: Predicate = OneOf(TYPE, (name,)) if name != EVERY else EVERYTHING
        asked = Question((USERS,), (Bucket(grain),), where, month.start_ms, month.end_ms)
        return min((int(str(row[1])) for row in self.case.before(asked) if row[1]), default=None)

    def told(self, month: Month, name: str, k: int) -> tuple[BucketUnit, ...]:
        """The grains whose buckets all have k users, or none."""
        fewest = {grain: self.fewest_users(month, name, grain) for grain in GRAINS}
        return tuple(grain for grain in GRAINS if (fewest[grain] or k) >= k)


@pytest.fixture(
    scope="module", params=range(len(KINDS) * SEEDS), ids=lambda seed: f"{KINDS[seed % len(KINDS)].__name__}-{seed}"
)
def coarse(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coarse]:
    """Random events; of some months some types were claimed anonymous, and some of those dropped later."""
    seed: int = request.param
    chance = random.Random(seed)
    events = make_events(chance, 1_200)
    whole = MemoryStore()
    home: Home = KINDS[seed % len(KINDS)](tmp_path_factory.mktemp("coarse") / Path("data"))
    home.zones = ("Europe/Berlin",)
    store = home.open()
    append_all(whole, events)
    append_all(store, events)
    claimed: dict[tuple[Month, str], int] = {}
    for month in chance.sample([info.month for info in store.months()], 5):
        claimed |= _claim(store, month, chance)
    lost = {month: {name for one, name in claimed if one == month} for month, _ in claimed}
    case = Case(chance, events, whole.reader(), store.reader(), lost)
    yield Coarse(case, store, home, claimed)
    case.lossy.close()
    home.finish()


def _claim(store: Store, month: Month, chance: random.Random) -> dict[tuple[Month, str], int]:
    seal(store, month)
    names = chance.sample(TYPES, chance.randint(1, 6))
    freeze(store, month, TYPES if chance.random() < 0.7 else names)
    claimed: dict[tuple[Month, str], int] = {}
    for some in (names[::2], names[1::2]):
        k = chance.choice((2, 3, 5, 8))
        how = profile(Claim.ANONYMOUS, k, timestamp=DAILY, user_id=DROP)
        made = store.rewrite(month, Rewrite(Selection(tuple(some), ("",)), how), here)
        # Whether the rows pass is tested elsewhere: here what follows if they do.
        store.adopt(replace(made, claimed=Claimed(tuple(some), k)), deed())
        claimed |= {(month, name): k for name in some}
        if some and chance.random() < 0.5:
            rewrite(store, month, None, some, forms=forms_of(store, month))
    return claimed


def test_no_number_tells_of_fewer_than_k_users(coarse: Coarse) -> None:
    """As an independent count of the same events has it: exactly the grains that all have enough are kept, in UTC."""
    for (month, name), k in coarse.claimed.items():
        detail = coarse.store.records.frozen[month].details[name]
        assert detail.zones == ("UTC",)
        assert detail.k == k
        assert not detail.quarters
        assert detail.users == coarse.told(month, name, k), (month, name, k)
    kept = [one.users for month in coarse.case.lost for one in coarse.store.records.frozen[month].details.values()]
    assert len(set(kept)) > 2, "the events are too alike to test anything"


def test_what_was_left_out_cannot_be_had_from_sums(coarse: Coarse) -> None:
    """All types together tell their days only if each type does: otherwise the others would be taken away from them."""
    for month, names in coarse.case.lost.items():
        details = coarse.store.records.frozen[month].details
        k = max(coarse.claimed[month, name] for name in names)
        together = set(details[ANY_TYPE].users)
        assert together <= set(coarse.told(month, EVERY, k))
        others = OneOf(TYPE, tuple(sorted(set(TYPES) - details.keys())))
        if coarse.case.before(Question((EVENTS,), (TYPE,), others, month.start_ms, month.end_ms)):
            assert not together, "types whose numbers are not kept can be counted exactly"
        for name in names:
            assert together <= set(details[name].users)
        for name in details.keys() - names - {ANY_TYPE}:
            assert together <= set(coarse.told(month, name, k))
            assert details[name].quarters, "what is not claimed keeps all its numbers"


def test_an_answer_is_the_one_from_before_or_is_refused(coarse: Coarse) -> None:
    """Questions of every kind, and some that frozen numbers often tell: whole days, weeks and months of types."""
    words, chance = vocabulary(coarse.case.events), coarse.case.chance
    found: Counter[str] = Counter()
    for turn in range(120):
        question = random_question(chance, words)
        if turn % 2:
            buckets: list[tuple[GroupBy, ...]] = [(Bucket(grain),) for grain in GRAINS]
            by = (*chance.choice([(), *buckets]), *chance.choice([(), (TYPE,)]))
            kind = chance.choice((EVERYTHING, OneOf(TYPE, tuple(chance.sample(TYPES, 2)))))
            days = sorted(at // 86_400_000 * 86_400_000 for at in chance.sample(words.instants, 2))
            span = chance.choice(sorted(coarse.case.lost))
            start_ms, end_ms = chance.choice((days, (span.start_ms, span.end_ms)))
            question = Question(chance.choice(((EVENTS,), (EVENTS, USERS))), by, kind, start_ms, end_ms)
        answer = coarse.case.now(question)
        found["refused" if answer is None else "answered"] += 1
        assert answer is None or alike(answer, coarse.case.before(question)), question
    assert min(found["answered"], found["refused"]) > 5


def test_totals_by_month_and_type_are_never_refused(coarse: Coarse) -> None:
    """Of one month, of all, of one type."""
    by_month: GroupBy = Bucket(BucketUnit.MONTH)
    for month, names in coarse.case.lost.items():
        for kind in (EVERYTHING, OneOf(TYPE, tuple(sorted(names)))):
            for by in ((), (TYPE,), (by_month, TYPE)):
                coarse.case.must_answer(Question((EVENTS,), by, kind, month.start_ms, month.end_ms))
                coarse.case.must_answer(Question((EVENTS,), by, kind, None, month.end_ms))


def test_users_are_told_of_what_is_kept_and_of_nothing_else(coarse: Coarse) -> None:
    """By day, week and month of UTC; never of another zone, of a source, or of a grain where some have too few."""
    seen: Counter[bool] = Counter()
    for month, name in coarse.claimed:
        details = coarse.store.records.frozen[month].details
        for kind, detail in ((OneOf(TYPE, (name,)), details[name]), (EVERYTHING, details[ANY_TYPE])):
            for grain in GRAINS:
                asked = Question((EVENTS, USERS), (Bucket(grain),), kind, month.start_ms, month.end_ms)
                told = grain in detail.users
                seen[told] += 1
                if told:
                    coarse.case.must_answer(asked)
                elif any(int(str(row[1])) for row in coarse.case.before(asked)):
                    assert coarse.case.now(asked) is None, asked
                elsewhere = replace(asked, time_zone="Europe/Berlin")
                if any(row[2] for row in coarse.case.before(elsewhere)):
                    assert coarse.case.now(elsewhere) is None, elsewhere
    assert min(seen.values()) > 3


def test_events_by_source_are_refused(coarse: Coarse) -> None:
    """No number has sources any more, and the profile dropped those of the rows: "-" would be a wrong answer."""
    for month, name in coarse.claimed:
        asked = Question((EVENTS,), (SOURCE,), OneOf(TYPE, (name,)), month.start_ms, month.end_ms)
        web = Question(
            (EVENTS,), (), AllOf((OneOf(TYPE, (name,)), OneOf(SOURCE, ("web",)))), month.start_ms, month.end_ms
        )
        for question in (asked, web):
            if coarse.case.before(asked):
                assert coarse.case.now(question) is None
        by_source = EventFilter(month.start_ms, month.end_ms, types=(name,))
        with pytest.raises(Precondition, match="nor their frozen numbers"):
            coarse.case.lossy.count_events(by_source, [Dimension.SOURCE], as_of=coarse.store.head)


def test_it_is_the_same_after_a_restart_and_sound(coarse: Coarse) -> None:
    """Nothing of it is only in memory."""
    before = coarse.store.records.frozen
    if not isinstance(coarse.home, MemoryHome):
        coarse.case.lossy.close()
        store = coarse.home.crash()
        assert store.records.frozen == before
        coarse.store = store
        coarse.case.lossy = store.reader()
    assert [str(problem) for problem in coarse.store.check()] == []
    with closing(coarse.store.reader()) as reader:
        assert reader.aggregate([Question((EVENTS,))]).tables[0].rows == 1
