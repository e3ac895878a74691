"""Archives as retention sees them: copies by name of target, also after one was half destroyed by a crash."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from retention.facts import NOTHING_HELD, RAW, Copy
from retention.hold import Hold
from retention.policy import ArchiveTarget
from server.archive import steps
from server.archive.folders import open_folder
from server.archive.manifest import load
from server.archive.restoring import restore
from server.retention.archives import ParquetArchives
from server.rewriting import Selection
from server.storage.contract import Store
from tests.archive.test_failures import killed
from tests.support.archives import OCTOBER, TYPES, assert_tidy, files, remembering, varied

HOLD = Hold("CASE-1", "LITIGATION", 0, users=frozenset({"ann"}))


def silent(_rows: int) -> None:
    """Hears of progress."""


def made(archives: ParquetArchives, store: Store, url: str) -> Copy:
    """A copy of all of October."""
    with closing(store.reader()) as reader:
        counted = reader.stocks(OCTOBER)
    return archives.make(OCTOBER, counted, Selection(TYPES, (RAW,)), ArchiveTarget("cold", url), "p" * 64, silent)


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_copy_is_counted_cut_down_and_destroyed(tmp_path: Path, kind: str) -> None:
    """By its target's name; what is held stays until the hold ends."""
    url = str(tmp_path / "cold") if kind == "local" else f"memory://{tmp_path.name}/cold"
    archives = ParquetArchives(remembering(varied()), tmp_path, lambda: 7)
    copy = made(archives, remembering(varied()), url)
    assert (copy.target, copy.rows, copy.types, copy.created_ms) == ("cold", 90, TYPES, 7)
    held = archives.held(OCTOBER, copy, [HOLD]).held
    assert 0 < held.rows < copy.rows
    left = archives.destroy(copy, OCTOBER, [HOLD], silent)
    assert left is not None
    assert (left.name, left.rows, left.whole) == (copy.name, held.rows, False)
    assert archives.destroy(left, OCTOBER, [], silent) is None
    assert files(open_folder(url)) == {}


@pytest.mark.parametrize("step", steps.DESTROYING)
def test_a_copy_that_was_half_destroyed_is_destroyed(tmp_path: Path, step: str) -> None:
    """Facts can be taken meanwhile, whatever is held: nobody has to mend anything by hand."""
    archives = ParquetArchives(remembering(varied()), tmp_path, lambda: 7)
    copy = made(archives, remembering(varied()), str(tmp_path / "cold"))
    killed(step, lambda: archives.destroy(copy, OCTOBER, [], silent))
    again = ParquetArchives(remembering(varied()), tmp_path, lambda: 8)
    again.learn([ArchiveTarget("cold", str(tmp_path / "cold"))])
    assert (again.held(OCTOBER, copy, [HOLD]).held == NOTHING_HELD) == (step != "condemned")
    assert again.destroy(copy, OCTOBER, [], silent) is None
    assert assert_tidy(open_folder(str(tmp_path / "cold"))) == []
    assert again.destroy(copy, OCTOBER, [HOLD], silent) is None


def test_restored_months_go_by_themselves(tmp_path: Path) -> None:
    """Those in the data directory, once their time has come; others stay."""
    clock = [7]
    archives = ParquetArchives(remembering(varied()), tmp_path / "data", lambda: clock[0])
    archives.expire_restored()
    copy = made(archives, remembering(varied()), str(tmp_path / "cold"))
    folder, into = open_folder(str(tmp_path / "cold")), tmp_path / "data" / "restored"
    restored = restore(folder, load(folder, copy.name), into, now_ms=7, expires_ms=20)
    archives.expire_restored()
    assert restored.path.exists()
    clock[0] = 20
    archives.expire_restored()
    assert not restored.path.exists()
