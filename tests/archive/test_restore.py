"""Restored months are SQLite files of the shape of sealed ones, which say when they expire, and go then."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from retention.facts import CopyKind
from server.archive import restoring
from server.archive.folders import LocalFolder
from server.archive.manifest import Manifest
from server.errors import Corrupt, Invalid, TrackdError, Unavailable
from server.storage.sqlite.content_digest import content_digest
from tests.support.archives import OCTOBER, TYPES, archived, made, remembering, stored_in, varied, wanted
from tests.support.retaining import KEEP, profile, rewrite

NOW_MS, DAY_MS = 1_800_000_000_000, 86_400_000


def restored(folder: LocalFolder, found: Manifest, into: Path, days: int = 1) -> restoring.Restored:
    """A restored month that may stay so many days."""
    return restoring.restore(folder, found, into, now_ms=NOW_MS, expires_ms=NOW_MS + days * DAY_MS)


def dump(path: Path) -> list[str]:
    """All that any SQLite tool finds in a month, but for what it says of itself and how names are numbered."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as month:
        assert month.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        schema = sorted(sql for (sql,) in month.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL"))
        views = [
            month.execute("SELECT * FROM events ORDER BY position").fetchall(),
            month.execute("SELECT * FROM changes ORDER BY position").fetchall(),
        ]
        forms = month.execute(
            "SELECT e.position, f.profile, f.claim FROM events_202510 e LEFT JOIN forms f ON f.key = e.form ORDER BY 1"
        ).fetchall()
        stocks = month.execute(
            "SELECT t.name, f.profile, rows FROM stocks s JOIN types t ON t.key = s.type LEFT JOIN forms f "
            "ON f.key = s.form WHERE rows ORDER BY 1, 2"
        ).fetchall()
        nobody = month.execute("SELECT key FROM users WHERE name = ''").fetchall()
        return list(map(repr, (schema, views, forms, stocks, nobody)))


@pytest.mark.parametrize("treated", [False, True])
def test_a_restored_month_is_what_the_sealed_one_was(tmp_path: Path, treated: bool) -> None:
    """Tables, indexes, views and every row; positions and what rows went through too. Another tool opens it."""
    folder = LocalFolder(tmp_path / "target")
    with stored_in(tmp_path / "data", varied(300)) as store:
        forms: tuple[str, ...] = ("",)
        if treated:
            how = profile(user_id=KEEP)
            rewrite(store, OCTOBER, how, TYPES[:1])
            forms = ("", how.digest)
        found = made(folder, store, wanted(store, forms=forms))
    sealed = max((tmp_path / "data").glob("months/2025-10/*/events.db"))
    back = restored(folder, found, tmp_path / "restored")
    assert dump(back.path) == dump(sealed)
    assert content_digest(back.path, OCTOBER).hexdigest() == found.content_digest
    assert (back.name, back.month, back.types, back.rows, back.complete) == (
        found.name, OCTOBER, TYPES, 300, not treated,
    )  # fmt: skip


def test_a_restored_month_is_listed_until_it_expires(tmp_path: Path) -> None:
    """Then it goes, and with it what a crash left."""
    folder, into = LocalFolder(tmp_path / "target"), tmp_path / "restored"
    store = remembering(varied())
    found, other = archived(folder, store), archived(folder, store, TYPES[:1])
    made, later = restored(folder, found, into), restored(folder, other, into, days=2)
    assert restoring.restored(into) == sorted([made, later], key=lambda one: one.name)
    copy = made.copy()
    assert (copy.kind, copy.until_ms, copy.target) == (CopyKind.RESTORED, NOW_MS + DAY_MS, "")
    assert copy.name == f"restored-{found.name}"
    (into / f"{found.name}.db.draft").write_bytes(b"left over")
    assert restoring.expire(into, NOW_MS + DAY_MS - 1) == []
    assert restoring.expire(into, NOW_MS + DAY_MS) == [made]
    assert [path.name for path in into.iterdir()] == [later.path.name]
    assert restoring.remove(into, other.name)
    assert not restoring.remove(into, other.name)
    assert restoring.restored(into) == []
    assert restoring.restored(tmp_path / "nowhere") == []


def test_restoring_again_gives_it_another_date(tmp_path: Path) -> None:
    """There is one restored month of an archive at a time."""
    folder = LocalFolder(tmp_path / "target")
    found = archived(folder, remembering(varied()))
    restored(folder, found, tmp_path / "restored")
    again = restored(folder, found, tmp_path / "restored", days=9)
    assert restoring.restored(tmp_path / "restored") == [again]


def test_what_is_damaged_is_not_restored(tmp_path: Path) -> None:
    """Also if a part is sound as a file and holds other rows. Nothing is left of the attempt."""
    folder, into = LocalFolder(tmp_path / "target"), tmp_path / "restored"
    store = remembering(varied())
    found, other = archived(folder, store), archived(folder, store, TYPES[:1])
    with folder.fetch(other.parts[0].path) as file:
        (tmp_path / "target" / found.parts[0].path).write_bytes(file.read())
    with pytest.raises(Corrupt) as refused:
        restored(folder, found, into)
    assert refused.value.reason == "ARCHIVE_DIFFERS"
    (tmp_path / "target" / found.parts[0].path).write_bytes(b"nothing")
    with pytest.raises(Corrupt) as unreadable:
        restored(folder, found, into)
    assert unreadable.value.reason == "PART_DAMAGED"
    assert list(into.iterdir()) == []


def test_what_cannot_be_restored_is_refused(tmp_path: Path) -> None:
    """A date that is over, a directory that cannot be had, a file that is no month."""
    folder = LocalFolder(tmp_path / "target")
    found = archived(folder, remembering(varied()))
    with pytest.raises(Invalid):
        restored(folder, found, tmp_path / "restored", days=0)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TrackdError) as refused:
        restored(folder, found, tmp_path / "file")
    assert refused.value.reason == "STORAGE_IO"
    made = restored(folder, found, tmp_path / "restored")
    made.path.write_bytes(b"\xff" * 8192)
    with pytest.raises(Corrupt):
        restoring.restored(tmp_path / "restored")


def test_a_missing_part_is_told(tmp_path: Path) -> None:
    """By its path; a target that cannot be reached is something else."""
    folder = LocalFolder(tmp_path / "target")
    found = archived(folder, remembering(varied()))
    folder.remove(found.parts[0].path)
    with pytest.raises(Corrupt) as refused:
        restored(folder, found, tmp_path / "restored")
    assert found.parts[0].path in refused.value.message
    assert not isinstance(refused.value, Unavailable)
