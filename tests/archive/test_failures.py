"""Failing and killed at each step: nothing counts that is not whole, and done again it ends the same."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from retention.hold import Hold
from server.archive import cutting, destroying, drafts, manifest, restoring, steps, verifying
from server.archive.folders import Folder, LocalFolder, open_folder
from server.archive.manifest import Manifest
from server.errors import Corrupt
from tests.support.archives import (
    TYPES,
    Failing,
    archived,
    assert_tidy,
    failing_at,
    files,
    made,
    remembering,
    stored_in,
    varied,
    wanted,
)

HOLD = Hold("CASE-1", "LITIGATION", 0, users=frozenset({"ann"}))


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """A local target, and one that only fsspec knows."""
    return open_folder(str(tmp_path / "target") if request.param == "local" else f"memory://{tmp_path.name}")


@pytest.fixture(autouse=True)
def several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a failure can be between two of them."""
    monkeypatch.setattr("server.archive.columns.BUCKET_ROWS", 30)


def whole(folder: Folder) -> list[Manifest]:
    """The archives there are; each is sound, whatever else lies there."""
    manifests, findings = manifest.listed(folder)
    assert findings == []
    for one in manifests:
        assert verifying.verify(folder, one) == []
    return manifests


def killed(step: str, work: Callable[[], object]) -> None:
    """As if the process had ended at the step: nobody cleans up."""
    with pytest.MonkeyPatch.context() as patch, failing_at(step, 2 if step in steps.PUBLISHING else 1) as reached:
        patch.setattr("server.archive.drafts.Draft.end", lambda _self: (_ for _ in ()).throw(Failing("end")))
        if step == "swept":
            patch.undo()
        with pytest.raises(Failing):
            work()
    assert step in reached


@pytest.mark.parametrize("step", steps.MAKING)
def test_making_is_done_again(folder: Folder, step: str, tmp_path: Path) -> None:
    """Before the manifest is there, nothing counts; afterwards it is the archive. Beside another that stays."""
    store = remembering(varied())
    other = archived(folder, store, TYPES[:1])
    undisturbed = LocalFolder(tmp_path / "undisturbed")
    archived(undisturbed, store, TYPES[:1])
    expected = archived(undisturbed, store)
    killed(step, lambda: archived(folder, store))
    published = [expected.name] if step in ("published", "swept") else []
    assert {one.name for one in whole(folder)} == {other.name, *published}
    assert archived(folder, store) == expected
    assert len(assert_tidy(folder)) == 2
    assert files(folder) == files(undisturbed)


@pytest.mark.parametrize("step", steps.MAKING[:-2])
def test_a_failure_cleans_up_at_once(folder: Folder, step: str) -> None:
    """What is raised is told, and nothing lies there."""
    store = remembering(varied())
    with failing_at(step), pytest.raises(Failing):
        archived(folder, store)
    assert files(folder) == {}


def test_left_overs_go_although_the_month_has_changed(folder: Folder) -> None:
    """The next attempt at the same rows finds them by what was asked for, not by what is in them."""
    killed("part_verified", lambda: archived(folder, remembering(varied())))
    assert files(folder)
    fewer = archived(folder, remembering(varied(50)))
    assert assert_tidy(folder) == [fewer]


def test_a_run_can_begin_with_removing_all_left_overs(folder: Folder) -> None:
    """Also those of work that nobody asks for any more."""
    store = remembering(varied())
    kept = archived(folder, store, TYPES[:1])
    killed("part_verified", lambda: archived(folder, store))
    assert drafts.sweep_all(folder) == [wanted(store).lineage]
    assert assert_tidy(folder) == [kept]


@pytest.mark.parametrize("step", steps.DESTROYING)
def test_destroying_is_done_again(folder: Folder, step: str) -> None:
    """It is an archive until its manifest is gone, and its parts go in any case."""
    store = remembering(varied())
    kept, condemned = archived(folder, store, TYPES[:1]), archived(folder, store)
    killed(step, lambda: destroying.destroy(folder, condemned.name))
    assert kept in whole(folder)
    destroying.destroy(folder, condemned.name)
    assert assert_tidy(folder) == [kept]
    assert not destroying.destroy(folder, condemned.name)


@pytest.mark.parametrize("step", steps.CUTTING)
def test_cutting_down_is_done_again(folder: Folder, step: str) -> None:
    """It is the whole archive or what is left of it, never less."""
    found = archived(folder, remembering(varied()))
    killed(step, lambda: cutting.cut_down(folder, found, [HOLD], plan_id="q" * 64))
    (there,) = whole(folder)
    assert there.name == found.name
    held = cutting.held(folder, there, [HOLD])
    left = cutting.cut_down(folder, there, [HOLD], plan_id="q" * 64)
    assert left is not None
    assert assert_tidy(folder) == [left]
    assert (left.rows, left.whole) == (held.rows, False)
    assert verifying.verify(folder, left) == []


@pytest.mark.parametrize("step", steps.RESTORING)
def test_restoring_is_done_again(tmp_path: Path, step: str) -> None:
    """A restored month has its name once it is whole."""
    folder = LocalFolder(tmp_path / "target")
    found = archived(folder, remembering(varied()))
    into = tmp_path / "restored"

    def restore() -> restoring.Restored:
        return restoring.restore(folder, found, into, now_ms=0, expires_ms=1)

    with failing_at(step), pytest.raises(Failing):
        restore()
    assert len(restoring.restored(into)) == (step == "restore_published")
    assert restore().rows == found.rows
    assert [path.name for path in into.iterdir()] == [f"{found.name}.db"]


def test_nothing_is_removed_while_a_manifest_cannot_be_read(tmp_path: Path) -> None:
    """It may be the one that names what would be removed: data does not go because what describes it is damaged."""
    folder = LocalFolder(tmp_path)
    store = remembering(varied())
    found = archived(folder, store, TYPES[:1])
    killed("part_verified", lambda: archived(folder, store))
    (tmp_path / "archive" / "manifests" / f"{found.name}.json").write_bytes(b"{}")
    before = files(folder)
    for work in (lambda: archived(folder, store), lambda: drafts.sweep_all(folder)):
        with pytest.raises(Corrupt):
            work()
    assert files(folder) == before


def test_a_note_names_parts_and_nothing_else(tmp_path: Path) -> None:
    """So no left-over document makes trackd remove any other file."""
    folder = LocalFolder(tmp_path)
    store = remembering(varied())
    precious = tmp_path / "precious.parquet"
    precious.write_bytes(b"x")
    lineage = wanted(store).lineage
    note = '{"month": "2025-10", "name": "", "parts": ["archive/events/../../precious.parquet"]}'
    folder.write(f"archive/drafts/{lineage}.json", note.encode(), "test")
    with pytest.raises(Corrupt):
        archived(folder, store)
    assert precious.exists()


@pytest.mark.parametrize("step", ["noted", "part_published", "superseding"])
def test_killed_for_real(tmp_path: Path, step: str) -> None:
    """SIGKILL in the middle: the next process makes the same archive as one that nobody disturbed."""
    data, target = tmp_path / "data", tmp_path / "target"
    undisturbed = LocalFolder(tmp_path / "undisturbed")
    with stored_in(data, varied()) as store:
        expected = made(undisturbed, store, wanted(store))
    run = subprocess.run(
        [sys.executable, "-m", "tests.archive.killed", str(data), str(target), step], timeout=60, check=False
    )
    assert run.returncode == -signal.SIGKILL, f"the step {step} was never reached"
    folder = LocalFolder(target)
    assert whole(folder) == []
    assert files(folder)
    with stored_in(data) as store:
        assert made(folder, store, wanted(store)) == expected
    assert files(folder) == files(undisturbed)
