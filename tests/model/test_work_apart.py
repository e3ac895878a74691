"""A month that is worked on in another process ends as one that is worked on in this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from retention.facts import RAW
from retention.month import Month
from retention.policy import ArchiveTarget, Claim
from server import apart
from server.model import MonthState
from server.retention.archives import ParquetArchives
from server.rewriting import Selection
from server.storage.contract import Store
from tests.support.archives import OCTOBER, TYPES, stored_in, varied
from tests.support.events import append, make_event
from tests.support.retaining import DROP, HOUR, KEEP, REKEY, allow, events_of, freeze, profile, rewrite, seal

NOVEMBER = Month(2025, 11)
RULES = profile(user_id=DROP, timestamp=HOUR, source=DROP, metadata=allow("n"))
"""Without anything random."""


@pytest.fixture
def everything_apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """However small; gives the names of what was done there."""
    done: list[str] = []
    real = apart.apart

    def noted(scratch: Path, work: Callable[..., Any], *arguments: Any, **callbacks: Any) -> Any:
        done.append(work.__name__)
        return real(scratch, work, *arguments, **callbacks)

    monkeypatch.setattr(apart, "BYTES_MIN", 0)
    monkeypatch.setattr(apart, "apart", noted)
    yield done
    monkeypatch.undo()


def lives(directory: Path) -> tuple[object, ...]:
    """What is left of a month that goes through all that retention does, step by step."""
    told: list[int] = []
    with stored_in(directory / "data") as store:
        append(store, *varied(200), source="reviews")
        store.settle()  # type: ignore[attr-defined]
        sealed = seal(store, OCTOBER)
        frozen = freeze(store, OCTOBER, TYPES)
        copy = archive(store, directory, told)
        rewritten = rewrite(store, OCTOBER, RULES, TYPES[:2])
        opened = seal_refused(store)
        assert list(store.check()) == []
        (current,) = directory.glob("data/months/2025-10/g0003/events.db")
        return (
            sealed, frozen, copy, told[-1], rewritten, opened, dump(current), events_of(store, OCTOBER),
            sorted(path.name for path in current.parent.parent.glob("*/*.db")),
        )  # fmt: skip


def archive(store: Store, directory: Path, told: list[int]) -> object:
    """A copy of what was sealed."""
    archives = ParquetArchives(store, directory / "data", lambda: 1_800_000_000_000)
    with closing(store.reader()) as reader:
        counted = reader.stocks(OCTOBER)
    target = ArchiveTarget("cold", str(directory / "cold"))
    return archives.make(OCTOBER, counted, Selection(TYPES, (RAW,)), target, "p" * 64, told.append)


def seal_refused(store: Store) -> str:
    """What is said where there is nothing to rebuild."""
    with pytest.raises(Exception) as refused:  # noqa: PT011  # its text is compared
        store.rebuild(OCTOBER, MonthState.OPEN)
    return str(refused.value)


def dump(file: Path) -> list[tuple[object, ...]]:
    """All rows of a file but for those that tell when."""
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    with closing(apsw.Connection(f"{file.as_uri()}?immutable=1", flags=flags)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1")
        return [
            (name, *row)
            for (name,) in tables.fetchall()
            for row in connection.execute(f"SELECT * FROM {name}").fetchall()  # noqa: S608  # a name of ours
            if row[0] != "store"
        ]


def test_it_makes_no_difference_where_it_is_done(tmp_path: Path, everything_apart: list[str]) -> None:
    """Same rows, digests, numbers, archives, errors and progress, and the index is taken along."""
    there = lives(tmp_path / "apart")
    assert everything_apart == ["build", "copy_index", "freeze", "_made", "write"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apart, "BYTES_MIN", 1 << 40)
        here = lives(tmp_path / "here")
    assert len(everything_apart) == 5
    assert here == there


def test_pseudonyms_come_from_the_writers_dictionary(tmp_path: Path, everything_apart: list[str]) -> None:
    """Their keys are taken here; no user who comes later gets one of them."""
    with stored_in(tmp_path / "data", varied(200)) as store:
        how = profile(Claim.PSEUDONYMOUS, user_id=REKEY, source=KEEP)
        rewrite(store, OCTOBER, how, TYPES)
        names = {event.user_id for event in events_of(store, OCTOBER)}
        assert len(names) > 5
        assert not names & {event.user_id for event in varied(200)} - {""}
        later = [make_event(1_000 + number, "2025-11", number, user_id=f"later-{number}") for number in range(20)]
        append(store, *later)
        assert {event.user_id for event in events_of(store, NOVEMBER)} == {f"later-{number}" for number in range(20)}
        assert {event.user_id for event in events_of(store, OCTOBER)} == names
        assert list(store.check()) == []
    assert "write" in everything_apart
