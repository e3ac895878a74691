"""`trackd retention lint` beside a daemon: its types are those that must have a class."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import DaemonProcess, run

CLASS = """
[[class]]
name = "reviews"
types = {types}
purpose = "p"
legal_basis = "l"
keep_at_most = "1 year"
step = [{{ after = "1 month", do = "drop" }}]
"""


def problems(path: Path, types: list[str], target: str, *options: str) -> list[str]:
    """What lint says of a policy with one class of these types."""
    path.write_text(CLASS.format(types=json.dumps(types)), "utf-8")
    done = run("retention", "lint", str(path), "--types-from", target, "--json", *options)
    found = [one["problem"] for one in json.loads(done.stdout)["problems"]]
    assert done.returncode == bool(found), done.stderr
    return found


def test_types_of_a_daemon_are_compared_with_the_classes(daemon: DaemonProcess, tmp_path: Path) -> None:
    """Each registered type needs a class; with an open registry all that may come do, too."""
    path = tmp_path / "policy.toml"
    run("types", "register", "pr_opened", target=daemon.target)
    open_registry = 'no class has types = ["*"], and events of new types would have no policy'
    assert problems(path, ["*"], daemon.target) == []
    assert problems(path, ["pr_*"], daemon.target) == [open_registry]
    assert problems(path, ["x"], daemon.target) == ['the type "pr_opened" has no class', open_registry]
    daemon.stop()
    daemon.start("--closed-registry")
    assert problems(path, ["pr_*"], daemon.target) == []
    assert problems(path, ["x"], daemon.target) == ['the type "pr_opened" has no class']


@pytest.mark.parametrize("command", ["lint", "record", "schema"])
def test_each_command_has_help(command: str) -> None:
    """Which begins with what it does."""
    done = run("retention", command, "--help")
    assert done.returncode == 0
    assert f" retention {command} [OPTIONS]" in done.stdout
