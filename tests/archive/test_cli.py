"""`trackd archive` on a target itself: what it prints, what it ends with, what it says when it cannot."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from server.archive import drafts, places
from server.archive.folders import LocalFolder
from server.archive.manifest import Manifest
from server.cli import archive
from server.cli.main import app
from tests.support.archives import TYPES, Failing, archived, failing_at, remembering, varied, wanted


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A folder with two archives."""
    return tmp_path / "target"


@pytest.fixture
def found(target: Path) -> list[Manifest]:
    """They, by name."""
    folder, store = LocalFolder(target), remembering(varied())
    return sorted([archived(folder, store), archived(folder, store, TYPES[:1])], key=lambda one: one.name)


def run(*arguments: object) -> Result:
    """A command of `trackd archive`; neither standard output nor standard error is a terminal."""
    return CliRunner().invoke(app, ["archive", *map(str, arguments)], env={"COLUMNS": "160"})


def told(*arguments: object, code: int = 0) -> Any:
    """What it says as JSON."""
    done = run(*arguments, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def test_archives_are_listed(target: Path, found: list[Manifest]) -> None:
    """With what they hold."""
    listed = told("list", target)
    assert [one["name"] for one in listed["archives"]] == [one.name for one in found]
    assert [one["rows"] for one in listed["archives"]] == [one.rows for one in found]
    assert listed["findings"] == []
    counts = {one["type"]: one["rows"] for one in listed["archives"][0]["counts"]}
    assert counts == {one.type: one.rows for one in found[0].counts}


def test_a_damaged_archive_is_named_and_the_exit_code_says_so(target: Path, found: list[Manifest]) -> None:
    """Others are still verified; one that is asked for by name is looked at alone."""
    assert told("verify", target) == {"verified": [one.name for one in found], "findings": [], "strays": []}
    part = found[0].parts[0].path
    (target / part).write_bytes(b"x")
    damaged = told("verify", target, code=1)
    assert [one["where"] for one in damaged["findings"]] == [part]
    assert told("verify", target, found[1].name)["findings"] == []
    assert part in run("verify", target).stdout
    (target / places.manifest(found[1].name)).write_bytes(b"{}")
    listed = told("list", target, code=1)
    assert [one["name"] for one in listed["archives"]] == [found[0].name]
    assert [one["where"] for one in listed["findings"]] == [found[1].name]


def test_what_belongs_to_no_archive_is_told(target: Path, found: list[Manifest]) -> None:
    """It is no damage."""
    (target / "archive" / "events" / "notes.txt").write_bytes(b"x")
    assert told("verify", target)["strays"] == ["archive/events/notes.txt"]


def test_what_a_killed_run_left_is_removed_on_request(
    target: Path, found: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing else: archives stay whole, and so does what trackd did not put there."""
    folder, store = LocalFolder(target), remembering(varied())
    assert told("tidy", target) == {"removed": []}
    with monkeypatch.context() as patch:
        patch.setattr(drafts, "sweep", lambda *_: None)  # as if it had been killed
        with failing_at("compared"), pytest.raises(Failing):
            archived(folder, store, TYPES[1:])
    (target / "archive" / "events" / "notes.txt").write_bytes(b"x")
    left = told("verify", target)["strays"]
    assert len(left) > 1
    assert "archive tidy" in run("verify", target).stderr
    assert told("tidy", target) == {"removed": [wanted(store, TYPES[1:]).lineage]}
    assert told("verify", target) == {
        "verified": [one.name for one in found], "findings": [], "strays": ["archive/events/notes.txt"],
    }  # fmt: skip
    assert "nothing was left over" in run("tidy", target).stderr
    assert run("tidy", target / "absent").exit_code == 2


def test_a_month_is_restored_and_expires(target: Path, found: list[Manifest], tmp_path: Path) -> None:
    """The file is where it says; with --expire it goes when its time has come and not before."""
    into = tmp_path / "restored"
    made = told("restore", target, found[0].name, "--into", into, "--days", 2)
    left_ms = made["expires_ms"] - time.time() * 1000
    assert 0 < left_ms <= 2 * archive.DAY_MS
    with closing(sqlite3.connect(made["path"])) as month:
        assert month.execute("SELECT count(*) FROM events").fetchone() == (found[0].rows,)
    listed = told("restored", into, "--expire")
    assert (len(listed["restored"]), listed["removed"]) == (1, [])
    with closing(sqlite3.connect(made["path"])) as month:
        month.execute("UPDATE about SET value = 1 WHERE key = 'expires_ms'")
        month.commit()
    assert len(told("restored", into, "--expire")["removed"]) == 1
    assert list(into.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list", "nowhere"), "nowhere is no folder"),
        (("list", "unheard-of://x/y"), "unheard-of"),
        (("verify", ".", "2025-10-0123456789abcdef"), "no archive 2025-10-0123456789abcdef"),
        (("restore", ".", "../../x", "--into", "r"), "no name of an archive"),
        (("restore", "."), "Missing argument"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ends with 2: an empty list would look as if all were well."""
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


def test_without_the_extra_it_says_which(monkeypatch: pytest.MonkeyPatch, target: Path, found: list[Manifest]) -> None:
    """Pyarrow is no dependency of the daemon."""
    monkeypatch.setattr("server.archive.extra.find_spec", lambda _name: None)
    for arguments in (("list", target), ("verify", target), ("restored", target)):
        done = run(*arguments)
        assert done.exit_code == 2
        assert "pip install 'trackd[archive]'" in " ".join(done.output.split())


def test_people_get_tables(target: Path, found: list[Manifest], tmp_path: Path) -> None:
    """On standard output; what is said about it goes to standard error."""
    done = run("list", target)
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["month", "2025-10", "2025-10"]
    assert "sound: 2 archives, 120 rows" in run("verify", target).stderr
    (tmp_path / "empty").mkdir()
    assert "no archives" in run("list", tmp_path / "empty").stderr
    restored = run("restore", target, found[0].name, "--into", tmp_path / "restored")
    assert restored.stdout.strip() == str(tmp_path / "restored" / f"{found[0].name}.db")
    assert found[0].name in "".join(run("restored", tmp_path / "restored").stdout.split())


@pytest.mark.parametrize("command", ["list", "verify", "tidy", "restore", "restored"])
def test_each_command_has_help(command: str) -> None:
    """Which begins with what it does."""
    done = run(command, "--help")
    assert done.exit_code == 0
    assert f"archive {command}" in done.stdout


def test_commands_are_those_of_the_app() -> None:
    """None is left out above."""
    assert sorted(typer.main.get_command(archive.app).commands) == ["list", "restore", "restored", "tidy", "verify"]  # type: ignore[attr-defined]
