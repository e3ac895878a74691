"""`trackd pull` where it cannot begin: what it says, and that it never says a password."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.cli.main import app
from server.cli.pulling import command
from tests.e2e.conftest import DaemonProcess, run

SECRET = "Zq9Xw"  # noqa: S105 - that of nobody
NOBODY = f"redis://ann:{SECRET}@127.0.0.1:1/0"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([f"http://:{SECRET}@localhost", "--stream", "s"], "redis://"),
        ([f"redis://:{SECRET}/x@localhost", "--stream", "s"], "special character"),
        ([f"redis://localhost?ssl_nonsense={SECRET}", "--stream", "s"], "makes no sense"),
        ([f"redis://localhost?db={SECRET}", "--stream", "s"], "makes no sense"),
        ([NOBODY, "--stream", "s", "--stream", "s"], "named twice"),
        ([NOBODY, "--stream", "s", "--dead-letter", "s"], "cannot go back"),
        ([NOBODY], "--stream"),
    ],
)
def test_wrong_usage_is_explained(arguments: list[str], complaint: str) -> None:
    """With code 2, before anybody is asked anything."""
    done = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, ["pull", *arguments, "--group", "g"])
    assert done.exit_code == 2
    assert complaint in re.sub(r"[\s│]+", " ", done.output)
    assert SECRET not in done.output


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a traceback."""
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["pull", NOBODY, "--stream", "s", "--group", "g"])
    assert done.exit_code == 2
    assert "trackd[redis]" in done.output


def test_where_nobody_answers_it_ends(daemon: DaemonProcess, tmp_path: Path) -> None:
    """With code 2 and one line that names who: the daemon, or the Redis without its password."""
    options = ("--stream", "s", "--group", "g", "--create-group")
    done = run("pull", NOBODY, *options, target=daemon.target, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no Redis answers at redis://127.0.0.1:1/0" in done.stderr
    assert SECRET not in done.stderr
    daemon.stop()
    done = run("pull", NOBODY, *options, target=daemon.target, cwd=tmp_path)
    assert done.returncode == 2
    assert f"no daemon answers at {daemon.target}" in done.stderr
