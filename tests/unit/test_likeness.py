"""A new month file is held against the one that it was copied from, row by row and name by name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from server.errors import Corrupt, Precondition
from server.model import MonthState
from server.storage.contract import Store
from server.storage.digest import digest_of
from server.storage.sqlite import content_digest, steps
from server.storage.sqlite.content_digest import digest_on_two_cores, read_alone
from server.storage.sqlite.draft import Draft
from server.storage.sqlite.likeness import Likeness
from server.storage.sqlite.schema import CHANGE_COLUMNS, EVENT_COLUMNS
from tests.support.archives import OCTOBER, USERS, stored_in, varied
from tests.support.events import append
from tests.support.retaining import events_of

ANOTHER = "UPDATE TABLE SET COLUMN = iif(typeof(COLUMN) = 'text', COLUMN || char(0), COLUMN + 1000) ONE"
NUMBERED = "UPDATE TABLE SET COLUMN = iif(COLUMN IS NULL, 0, NULL) ONE"
RANDOM = "UPDATE TABLE SET COLUMN = randomblob(16) ONE"
SPECIAL = {"id": RANDOM, "rows_affected": NUMBERED}
WRONG = {
    **{f"event: {name}": SPECIAL.get(name, ANOTHER).replace("COLUMN", name) for name in EVENT_COLUMNS},
    **{
        f"change: {name}": SPECIAL.get(name, ANOTHER).replace("COLUMN", name).replace("TABLE", "changes_202510")
        for name in CHANGE_COLUMNS
    },
    "another user": "UPDATE TABLE SET user = (SELECT max(key) FROM users) - (user = 0) ONE",
    "an event is missing": "DELETE FROM TABLE ONE",
    "the last event is missing": "DELETE FROM TABLE WHERE position = (SELECT max(position) FROM TABLE)",
    "a change is missing": "DELETE FROM changes_202510 ONE",
    "an event more": "INSERT INTO TABLE SELECT 7000, randomblob(16), type, user, source, timestamp_ms, received_ms, "
    "'', '', '', '', '', 0 FROM TABLE ONE",
    "a change more": "INSERT INTO changes_202510 SELECT 7000, table_name, row_id, action, '', '', status, 1 "
    "FROM changes_202510 ONE",
    "a type has another name": "UPDATE types SET name = name || 'x' WHERE key = (SELECT max(key) FROM types)",
    "a source has another name": "UPDATE sources SET name = upper(name) WHERE key = (SELECT max(key) FROM sources)",
    "a user has another name": "UPDATE users SET name = name || char(0) WHERE key = (SELECT max(key) FROM users)",
    "two users have each other's name": "UPDATE users SET name = iif(key = 1, (SELECT name FROM users WHERE key = 2), "
    "(SELECT name FROM users WHERE key = 1)) WHERE key IN (1, 2)",
    "a type has no name": "DELETE FROM types WHERE key = (SELECT max(key) FROM types)",
    "a user has no name": "DELETE FROM users WHERE key = (SELECT max(key) FROM users)",
}  # fmt: skip
"""What is wrong -> a statement that makes it so. ONE is a row in the middle of its table."""


ONE = {
    "events_202510": "WHERE position = (SELECT position FROM events_202510 LIMIT 1 OFFSET 7)",
    "changes_202510": "WHERE position = (SELECT position FROM changes_202510 LIMIT 1 OFFSET 7)",
}


def made(wrong: str) -> str:
    """The statement."""
    sql = WRONG[wrong].replace("TABLE", "events_202510")
    return sql.replace("ONE", ONE["changes_202510" if "changes_202510" in sql else "events_202510"])


def likeness_of(path: Path, source: Path) -> bool:
    """Whether the one is what the other one is."""
    likeness = Likeness(source, OCTOBER)
    digest = digest_on_two_cores(path, OCTOBER, None, likeness)
    with read_alone(path) as connection:
        return likeness.holds(connection, digest.rows)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed month, closed."""
    directory = tmp_path_factory.mktemp("sealed")
    with stored_in(directory, varied()) as store:
        assert {event.user_id for event in events_of(store, OCTOBER)} > set(USERS)
    return max(directory.glob("months/2025-10/*/events.db"))


def test_a_copy_is_alike(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever windows end; and names that no event has may be left behind."""
    path = Path(shutil.copy(source, tmp_path))
    assert likeness_of(path, source)
    monkeypatch.setattr(content_digest, "WINDOW_ROWS", 7)
    assert likeness_of(path, source)
    other_source = Path(shutil.copy(source, tmp_path / "other.db"))
    apsw.Connection(str(other_source)).execute("INSERT INTO users VALUES (7000, 'gone')")
    assert likeness_of(path, other_source)


@pytest.mark.parametrize("wrong", WRONG)
def test_whatever_is_wrong_is_seen(wrong: str, source: Path, tmp_path: Path) -> None:
    """In any column of a row, in a row more or less, and in names."""
    path = Path(shutil.copy(source, tmp_path))
    connection = apsw.Connection(str(path))
    connection.execute(made(wrong))
    assert connection.total_changes()
    connection.close()
    assert not likeness_of(path, source)


@pytest.fixture
def fenced(tmp_path: Path) -> Iterator[Store]:
    """A store with a month to be sealed."""
    with stored_in(tmp_path) as store:
        append(store, *varied())
        store.fence(OCTOBER)
        yield store


def test_a_copy_that_is_wrong_is_not_used(fenced: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealing ends with an error, and the month stays as it was."""
    monkeypatch.setattr(Draft, "changes", lambda _self: None)
    with pytest.raises(Corrupt) as caught:
        fenced.rebuild(OCTOBER, MonthState.SEALED)
    assert caught.value.reason == "FILE_DAMAGED"
    monkeypatch.undo()
    assert fenced.rebuild(OCTOBER, MonthState.SEALED).rows == len(varied())


@pytest.mark.parametrize("when", ["drafted", "copied", "indexed", "read back"])
def test_erased_meanwhile(when: str, fenced: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either nothing of it was read yet, or the new file is refused. No digest is of rows that are not in the file."""

    def erase(step: str) -> None:
        if step == when:
            assert fenced.remove(OCTOBER, [2, 3]) == 2

    def heard(rows: int) -> None:
        if rows == len(varied()):
            erase("read back")

    monkeypatch.setattr(steps, "reached", erase)
    if when == "drafted":
        rebuilt = fenced.rebuild(OCTOBER, MonthState.SEALED, heard)
        assert (rebuilt.rows, rebuilt.digest) == (len(varied()) - 2, digest_of(events_of(fenced, OCTOBER)))
        fenced.adopt(rebuilt)
        return
    with pytest.raises(Precondition) as caught:  # noqa: PT012  # by whichever of the two sees it
        rebuilt = fenced.rebuild(OCTOBER, MonthState.SEALED, heard)
        assert when == "indexed"  # everything was compared before
        fenced.adopt(rebuilt)
    assert caught.value.reason == "MONTH_CHANGED"
