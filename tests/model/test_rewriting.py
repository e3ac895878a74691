"""Random rewrites of random months on two engines: the embedded one does what the reference does, and totals stay."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from retention.facts import RAW, Stock
from retention.hold import Hold
from retention.month import Month
from retention.policy import Claim, FieldRule, Profile, Treatment
from server.config import Storage
from server.model import Action, Change, ChangeStatus, Event
from server.question import Bucket, BucketUnit, Field, FieldKind, Metric, MetricKind, Question
from server.rewriting import Rewrite, Selection
from server.storage.contract import Store
from server.storage.memory.store import MemoryStore
from server.storage.sqlite.store import SqliteStore
from tests.support.answers import rows
from tests.support.events import Sent, append, make_event
from tests.support.retaining import DROP, KEEP, REKEY, deed, events_of, here, seal

EXAMPLES = int(os.environ.get("TRACKD_REWRITE_EXAMPLES", "12"))
OCTOBER = Month(2025, 10)
TYPES = ("a", "b.c", "d")
USERS = ("", "ann", "ben", "üm\x00laut", "~tilde")
KEYS = ("repo", "n", "with space", 'quo"te', "it's", "back\\slash")
TOTALS = Question((Metric(MetricKind.EVENTS),), (Bucket(BucketUnit.MONTH), Field(FieldKind.TYPE)))

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10**20) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
OBJECTS = st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), VALUES, max_size=4)


def as_json(value: object) -> str:
    """A document as senders write it."""
    return json.dumps(value, ensure_ascii=False)


@st.composite
def changes(draw: st.DrawFn) -> Change | None:
    """The audit part of some events."""
    if draw(st.integers(0, 3)):
        return None
    old, new = (as_json(draw(OBJECTS)) if draw(st.booleans()) else "" for _ in range(2))
    return Change(
        table_name=draw(st.sampled_from(("rows", "tables"))),
        row_id=draw(st.text(max_size=3)),
        action=draw(st.sampled_from(Action)),
        old_values=old,
        new_values=new,
        status=draw(st.sampled_from(ChangeStatus)),
        rows_affected=draw(st.none() | st.integers(0, 9)),
    )


@st.composite
def events(draw: st.DrawFn, number: int) -> Sent:
    """One event with a bit of everything."""
    return make_event(
        number,
        "2025-10",
        draw(st.integers(0, 31 * 86_400_000 - 1)),
        type=draw(st.sampled_from(TYPES)),
        user_id=draw(st.sampled_from(USERS)),
        session_id=draw(st.sampled_from(("", "s1", "s2"))),
        client_ip=draw(st.sampled_from(("", "10.1.2.3", "::1", "2001:db8::7", "::ffff:1.2.3.4", "who?"))),
        description=draw(st.sampled_from(("", "free text"))),
        tags=tuple(draw(st.lists(st.sampled_from(("x", "y", 'q"')), max_size=3, unique=True))),
        metadata=as_json(draw(OBJECTS)) if draw(st.booleans()) else "",
        change=draw(changes()),
    )


RULES = {
    "user_id": (KEEP, DROP),
    "session_id": (KEEP, DROP),
    "client_ip": (KEEP, DROP, FieldRule(Treatment.TRUNCATE)),
    "timestamp": (KEEP, *(FieldRule(Treatment.ROUND, grain_ms=grain) for grain in (60_000, 3_600_000, 86_400_000))),
    "received": (KEEP, DROP, FieldRule(Treatment.ROUND, grain_ms=3_600_000)),
    "source": (KEEP, DROP),
    "description": (KEEP, DROP),
    "change.table_name": (KEEP, DROP),
    "change.row_id": (KEEP, DROP),
    "change.outcome": (KEEP, KEEP, DROP),
}
LISTS = ("metadata", "change.old_values", "change.new_values")


@st.composite
def profiles(draw: st.DrawFn, *, rekey: bool = False) -> Profile:
    """Rules for some fields; those without are dropped. Without `rekey` nothing about them is random."""
    rules = {name: draw(st.sampled_from(known)) for name, known in RULES.items()}
    if rekey:
        rules["user_id"] = rules["session_id"] = REKEY
    for name in LISTS:
        keys = tuple(sorted(draw(st.sets(st.sampled_from(KEYS), max_size=3))))
        rules[name] = draw(st.sampled_from((KEEP, DROP, FieldRule(Treatment.ALLOW, keys=keys))))
    rules["tags"] = draw(st.sampled_from((KEEP, DROP, FieldRule(Treatment.ALLOW, keys=('q"', "x")))))
    chosen = {name: rule for name, rule in rules.items() if name == "timestamp" or draw(st.integers(0, 4))}
    return Profile("random", Claim.PSEUDONYMOUS, 0, tuple(sorted(chosen.items())))


@st.composite
def rewrites(draw: st.DrawFn) -> Rewrite:
    """Some types, whether they go or through which profile, and up to two holds."""
    types = tuple(sorted(draw(st.sets(st.sampled_from(TYPES), min_size=1))))
    holds = tuple(
        Hold(f"H-{number}", "LITIGATION", 0, users=frozenset({draw(st.sampled_from(USERS))}))
        for number in range(draw(st.integers(0, 2)))
    )
    return Rewrite(Selection(types, (RAW,)), draw(st.none() | profiles()), holds)


def plain(event: Event) -> Event:
    """With its documents as values: how they are written is not compared."""

    def value(document: str) -> str:
        try:
            return orjson.dumps(orjson.loads(document), option=orjson.OPT_SORT_KEYS).decode() if document else ""
        except orjson.JSONDecodeError:
            return "".join(document.split())

    change = event.change
    if change is not None:
        change = replace(change, old_values=value(change.old_values), new_values=value(change.new_values))
    return replace(event, metadata=value(event.metadata), change=change)


def told(store: Store, holds: tuple[Hold, ...]) -> tuple[list[Event], list[tuple[str, str, int, object]]]:
    """What can be compared of a month on two engines."""

    def about(stock: Stock) -> tuple[str, str, int, object]:
        return (stock.event_type, stock.profile, stock.rows, stock.held)

    with closing(store.reader()) as reader:
        found = [about(stock) for stock in reader.stocks(OCTOBER, holds).stocks]
    return [plain(event) for event in events_of(store, OCTOBER)], found


def totals(store: Store) -> object:
    """Events by month and type."""
    with closing(store.reader()) as reader:
        return rows(reader.aggregate([TOTALS]).tables[0])


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    sent=st.integers(1, 25).flatmap(lambda count: st.tuples(*(events(number) for number in range(count)))),
    first=rewrites(),
    second=rewrites(),
)
def test_both_engines_do_the_same(sent: tuple[Sent, ...], first: Rewrite, second: Rewrite) -> None:
    """Twice in a row, with the same events, stocks and counts of what is withheld after each."""
    with TemporaryDirectory() as directory, closing(SqliteStore(Path(directory), STORAGE, months_max=9)) as sqlite:
        memory: Store = MemoryStore()
        both: tuple[Store, ...] = (memory, sqlite)
        for store in both:
            append(store, *sent)
            seal(store, OCTOBER)
        for change in (first, second):
            made = [store.rewrite(OCTOBER, change, here) for store in both]
            assert [one.treated for one in made] == [made[0].treated] * 2
            assert made[0].withheld == made[1].withheld
            assert made[0].lost == made[1].lost
            for store, one in zip(both, made, strict=True):
                store.adopt(one, deed())
            assert told(memory, change.holds) == told(sqlite, change.holds)
        assert list(sqlite.check()) == []


STORAGE = Storage(disk_free_bytes_min=1)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    sent=st.integers(1, 25).flatmap(lambda count: st.tuples(*(events(number) for number in range(count)))),
    how=st.booleans().flatmap(lambda rekey: profiles(rekey=rekey)),
    types=st.sets(st.sampled_from(TYPES), min_size=1),
)
def test_totals_stay(sent: tuple[Sent, ...], how: Profile, types: set[str]) -> None:
    """Every count by type and month is the same before and after a profile, whatever its rules are."""
    with TemporaryDirectory() as directory, closing(SqliteStore(Path(directory), STORAGE, months_max=9)) as store:
        append(store, *sent)
        seal(store, OCTOBER)
        before = totals(store)
        assert Counter(event.type for event in events_of(store, OCTOBER)) == Counter(one.type for one in sent)
        with closing(store.reader()) as reader:
            frozen = reader.freeze(OCTOBER, sorted(types))
        store.records.keep(frozen, deed("freeze"))
        made = store.rewrite(OCTOBER, Rewrite(Selection(tuple(sorted(types)), (RAW,)), how), here)
        store.adopt(made, deed())
        assert totals(store) == before
