"""Numbers of anonymous types on disk: what is taken away is out of the file, and nobody is told half of a change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import apsw
import pytest

from retention.month import Month
from retention.policy import Claim, FieldRule, Treatment
from server.config import Storage
from server.errors import Precondition, Unavailable
from server.frozen import ANY_TYPE, Detail
from server.question import Bucket, BucketUnit, OneOf, Question
from server.rewriting import Claimed, Rewrite, Selection
from server.storage.sqlite import frozen_numbers
from server.storage.sqlite.answers import aggregate
from server.storage.sqlite.connection import fetch
from server.storage.sqlite.reader import SqliteReader
from server.storage.sqlite.store import SqliteStore
from tests.support.answers import EVENTS, TYPE, USERS, ask
from tests.support.events import append, make_event
from tests.support.retaining import DROP, deed, freeze, here, profile, rewrite, seal

NOVEMBER = Month(2025, 11)
DAY_MS = 86_400_000
DAILY = FieldRule(Treatment.ROUND, grain_ms=DAY_MS)
K = 3
OPENED = OneOf(TYPE, ("opened",))
WEEKLY, QUARTERLY = Bucket(BucketUnit.WEEK), Bucket(BucketUnit.QUARTER_HOUR)


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    """November, frozen: two users a day and three a week; one of the types is only ann's."""
    store = SqliteStore(tmp_path / "data", Storage(reporting_time_zones=("Europe/Berlin",)), months_max=12)
    users = ("ann", "ben", "cem")
    append(store, *(make_event(n, "2025-11", n * DAY_MS // 2, type="opened", user_id=users[n % 3]) for n in range(60)))
    append(store, *(make_event(100 + n, "2025-11", n * DAY_MS, type="rare", user_id="ann") for n in range(3)))
    seal(store, NOVEMBER)
    freeze(store, NOVEMBER, ["opened", "rare"])
    return store


def claim(store: SqliteStore, *types: str) -> None:
    """These types are anonymous from now on, whatever a check of their rows would say; then their rows go."""
    how = profile(Claim.ANONYMOUS, K, timestamp=DAILY, user_id=DROP)
    made = store.rewrite(NOVEMBER, Rewrite(Selection(types, ("",)), how), here)
    store.adopt(replace(made, claimed=Claimed(types, K)), deed())
    rewrite(store, NOVEMBER, None, types, forms=(how.digest,))


def catalog(store: SqliteStore, sql: str, bindings: frozen_numbers.Bindings = ()) -> list[tuple[apsw.SQLiteValue, ...]]:
    """What a tool reads in the catalog."""
    connection = apsw.Connection(str(store._layout.catalog))  # noqa: SLF001  # where it is
    try:
        return fetch(connection, sql, bindings)
    finally:
        connection.close()


def test_what_is_taken_away_is_out_of_the_tables(store: SqliteStore) -> None:
    """Days of two users, another zone, quarter-hours, sources; and the users, of a type that is one user's."""
    claim(store, "opened", "rare")
    assert store.records.frozen[NOVEMBER].details == {
        "opened": Detail(("UTC",), (BucketUnit.WEEK, BucketUnit.MONTH), K),
        "rare": Detail(("UTC",), (), K),
        ANY_TYPE: Detail(("UTC",), (), K),
    }
    assert catalog(store, "SELECT * FROM daily_metrics") == []
    sql = "SELECT event_type, zone, grain, event_count, unique_users FROM frozen_cells ORDER BY 1, 3, bucket_ms"
    assert catalog(store, sql) == [
        ("", "UTC", "month", 63, 0),
        ("opened", "UTC", "month", 60, 3),
        ("opened", "UTC", "week", 4, 3),
        *repeat(("opened", "UTC", "week", 14, 3), 4),
        ("rare", "UTC", "month", 3, 0),
    ]
    assert catalog(store, "SELECT DISTINCT zones, sources FROM frozen_types") == [('["UTC"]', "[]")]
    counted = frozen_numbers.counts(partial(catalog, store), NOVEMBER, "opened")
    assert len(counted.events) == 0
    files = [store._layout.catalog, Path(f"{store._layout.catalog}-wal")]  # noqa: SLF001  # where they are
    assert [file for file in files if b"Europe/Berlin" in file.read_bytes()] == []
    store.close()


def test_a_stronger_claim_takes_more_away(store: SqliteStore) -> None:
    """And a weaker one gives nothing back."""
    how = profile(Claim.ANONYMOUS, K, timestamp=DAILY)
    for k, grains in ((2, 3), (3, 2), (4, 0), (2, 0)):
        made = store.rewrite(NOVEMBER, Rewrite(Selection(("opened",), ("", how.digest)), how), here)
        store.adopt(replace(made, claimed=Claimed(("opened",), k)), deed())
        detail = store.records.frozen[NOVEMBER].details["opened"]
        assert len(detail.users) == grains
        assert detail.k == min(max(k, 2 if grains == 3 else 3 if grains == 2 else 4), 4)
    store.close()


def test_the_numbers_of_others_stay(store: SqliteStore) -> None:
    """All but those of all together, which would tell of the type that is anonymous."""
    before = catalog(store, "SELECT * FROM frozen_cells WHERE event_type = 'opened'")
    claim(store, "rare")
    details = store.records.frozen[NOVEMBER].details
    assert details["opened"] == Detail(("UTC", "Europe/Berlin"))
    assert details[ANY_TYPE] == Detail(("UTC",), (), K)
    assert catalog(store, "SELECT * FROM frozen_cells WHERE event_type = 'opened'") == before
    store.close()


def test_a_question_that_runs_meanwhile_is_decided_again(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be told is known to the process a moment after the tables say so: nothing is taken for nothing."""
    fine = store.records.frozen
    claim(store, "opened", "rare")
    with closing(store.reader()) as reader:
        assert isinstance(reader, SqliteReader)
        numbers = reader._aggregates._frozen  # noqa: SLF001  # between a commit and what follows it
        told: Iterator[object] = chain(repeat(fine, 9), repeat(store.records.frozen))
        monkeypatch.setattr(numbers, "kept", lambda: next(told))
        with pytest.raises(Precondition, match="nor their frozen numbers"):
            ask(reader, Question((EVENTS,), (QUARTERLY,), OPENED))
        told = chain(repeat(fine, 9), repeat(store.records.frozen))
        assert len(ask(reader, Question((EVENTS, USERS), (WEEKLY,), OPENED))) == 5
        # What is coarse is in memory by now: it is not for who decided by what was fine.
        told = chain(repeat(fine, 9), repeat(store.records.frozen))
        with pytest.raises(Precondition, match="nor their frozen numbers"):
            ask(reader, Question((EVENTS, USERS), (Bucket(BucketUnit.DAY),), OPENED))
        monkeypatch.setattr(aggregate, "DECIDE_AGAIN_S", 0)
        told = repeat(fine)
        with pytest.raises(Unavailable) as refusal:
            ask(reader, Question((EVENTS,), (QUARTERLY,), OPENED))
        assert refusal.value.reason == "INTERRUPTED"
    store.close()


def test_check_finds_a_cell_of_too_few(store: SqliteStore) -> None:
    """As a tool could leave one behind."""
    claim(store, "opened", "rare")
    assert list(store.check()) == []
    store.close()
    connection = apsw.Connection(str(store._layout.catalog))  # noqa: SLF001  # where it is
    connection.execute("UPDATE frozen_cells SET unique_users = 2 WHERE grain = 'month' AND event_type = 'opened'")
    connection.close()
    (found,) = store.check()
    assert "a month has 2 users, under 3" in found.problem
