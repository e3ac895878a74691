from __future__ import annotations
import random, os
import pytest
from pathlib import Path
from retention.month import Month
from server.errors import Precondition
from server.question import *
from server.rewriting import Loss
from server.storage.memory.store import MemoryStore
from tests.differential.population import make_events, vocabulary, MONTHS, TYPES, SOURCES
from tests.differential.test_duckdb import _append
from tests.support.answers import alike, rows, TYPE, SOURCE
from tests.support.homes import FOLDING_HOMES, HOMES
from tests.support.questions import random_question
from tests.support.lost_rows import lose, seal

ZONES = ("Europe/Berlin", "Asia/Kathmandu", "America/St_Johns")


@pytest.mark.parametrize("kind", HOMES + FOLDING_HOMES)
@pytest.mark.parametrize("seed", range(int(os.environ.get("SEEDS", "3"))))
def test_it(kind, seed, tmp_path):
    chance = random.Random(seed)
    events = make_events(chance, 600)
    words = vocabulary(events)
    plain = MemoryStore()
    _append(plain, events)
    kind.zones = ZONES
    home = kind(tmp_path / "data")
    store = home.open()
    _append(store, events)
    for text in chance.sample(MONTHS, 2):
        month = Month.parse(text)
        seal(store, month)
        names = chance.sample(TYPES, chance.randint(1, 3))
        cut = chance.randint(0, len(names))
        gone = {n: (lambda e: True) if chance.random() < 0.7 else (lambda e: e.position % 3 > 0) for n in names[:cut]}
        treated = {
            n: Loss(users=chance.random() < 0.7, grain_ms=chance.choice([0, 0, 60_000, 900_000, 3_600_000, 86_400_000]))
            for n in names[cut:]
        }
        lose(store, month, gone, treated, 10**9 + 10**6 * int(text.replace("-", "")))
    reader, other = store.reader(), plain.reader()
    answered = refused = frozen = 0
    for _ in range(400):
        q = random_question(chance, words)
        expected = rows(other.aggregate([q]).tables[0])
        try:
            a = reader.aggregate([q])
        except Precondition as e:
            assert e.reason == "FROZEN_GRAIN", e
            refused += 1
            continue
        found = rows(a.tables[0])
        frozen += bool(a.read.frozen)
        assert alike(found, expected), (q, found[:5], expected[:5])
        answered += 1
    kinds = [TYPE, SOURCE, TYPE, SOURCE] + [Bucket(u) for u in BucketUnit]
    for _ in range(300):
        by = list(dict.fromkeys(chance.sample(kinds, chance.randint(0, 3))))
        seen = [b for b in by if isinstance(b, Bucket)]
        by = tuple(b for b in by if not isinstance(b, Bucket) or b is seen[0])
        where = chance.choice(
            [
                EVERYTHING,
                OneOf(TYPE, tuple(chance.sample(TYPES, 3))),
                StartsWith(SOURCE, ("ci",)),
                Not(OneOf(SOURCE, ("web",))),
                AnyOf((OneOf(TYPE, ("pr",)), AllOf((OneOf(SOURCE, ("ci",)), StartsWith(TYPE, ("pr_",)))))),
            ]
        )
        s, e = sorted(chance.choices(words.instants, k=2))
        q = Question(
            (Metric(MetricKind.EVENTS),),
            by,
            where,
            chance.choice([None, s // 900000 * 900000]),
            chance.choice([None, e // 900000 * 900000]),
            chance.choice(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Chatham"]),
        )
        expected = rows(other.aggregate([q]).tables[0])
        a = reader.aggregate([q])
        assert alike(rows(a.tables[0]), expected), q
    print(answered, refused, frozen)
    reader.close()
    home.finish()
