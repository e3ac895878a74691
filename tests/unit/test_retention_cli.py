"""`trackd retention`: lint, record and schema, as people and scripts use them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from retention.policy_file import parse
from retention.policy_schema import schema
from server.cli.main import app
from tests.support.policies import EXAMPLE

TYPES = (
    "bug_reported", "change_authored", "change_coauthored", "change_helped", "change_landed", "change_signed_off",
    "change_suggested", "change_tested", "issue_closed", "pr_merged", "review_acked", "review_submitted",
)  # fmt: skip
"""What `trackd import --git` makes of a repository."""


def run(*arguments: str | Path) -> Result:
    """The outcome of a command."""
    return CliRunner().invoke(app, ["retention", *map(str, arguments)])


def told(*arguments: str | Path, code: int = 0) -> Any:
    """The JSON that it prints."""
    done = run(*arguments, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """The example with two mistakes."""
    text = (
        EXAMPLE.read_text("utf-8")
        .replace("seal_after =", "seal_aftr =")
        .replace('after = "2 years"', 'after = "4 years"')
    )
    path = tmp_path / "wrong.toml"
    path.write_text(text, "utf-8")
    return path


def test_the_example_is_sound() -> None:
    """In words on standard error, in JSON with the digest of the policy."""
    done = run("lint", EXAMPLE)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "sound: 4 classes" in done.stderr
    assert told("lint", EXAMPLE) == {"policy": parse(EXAMPLE.read_text("utf-8")).digest, "problems": []}


def test_all_problems_are_printed_with_file_and_line(wrong: Path) -> None:
    """One a line, as compilers do, and exit code 1; the same as JSON."""
    done = run("lint", wrong)
    assert done.exit_code == 1
    first, second, third = done.stdout.splitlines()
    lines = wrong.read_text("utf-8").splitlines()
    key = lines.index('seal_aftr = "7 days"') + 1
    assert first == f'{wrong}:{key}: rotation, seal_aftr: no such key; did you mean "seal_after"?'
    step = lines.index('after = "4 years"') + 1
    assert second.startswith(f'{wrong}:{step}: class "reviews", step 2, after: 4 years is later than keep_at_most')
    assert third.startswith(f'{wrong}:{step}: class "reviews", step 2, after: 4 years, and another 35 days in backups')
    report = told("lint", wrong, code=1)
    assert report["policy"] is None
    assert [one["line"] for one in report["problems"]] == [key, step, step]
    assert set(report["problems"][0]) == {"place", "line", "problem", "advice"}


@pytest.mark.parametrize("packed", [False, True])
def test_types_of_a_file_are_compared_with_the_classes(tmp_path: Path, *, packed: bool) -> None:
    """Names, types as `trackd types list --json` prints them, or events; plain or gzip."""
    lines = [TYPES[0], "", *(json.dumps({"name": name}) for name in TYPES[1:6])]
    lines += [json.dumps({"ts": 1, "type": name}) for name in TYPES[6:]]
    path = tmp_path / "types"
    text = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(text) if packed else text)
    assert told("lint", EXAMPLE, "--types-from", path)["problems"] == []
    closed = tmp_path / "closed.toml"
    closed.write_text(EXAMPLE.read_text("utf-8").replace('types = ["*"]', 'types = ["news"]'), "utf-8")
    path.write_bytes(b"\n".join([text, b"unheard", b'{"name": "news"}']))
    problems = told("lint", closed, "--types-from", path, code=1)["problems"]
    assert [one["problem"] for one in problems] == [
        'the type "unheard" has no class',
        'no class has types = ["*"], and events of new types would have no policy',
    ]
    closed_problems = told("lint", closed, "--types-from", path, "--closed-registry", code=1)["problems"]
    assert closed_problems == problems[:1]


def test_without_a_class_of_all_others_the_registry_has_to_be_closed(tmp_path: Path) -> None:
    """It is open by default, and then anything may come."""
    closed = tmp_path / "closed.toml"
    closed.write_text(EXAMPLE.read_text("utf-8").replace('types = ["*"]', 'types = ["news"]'), "utf-8")
    assert len(told("lint", closed, code=1)["problems"]) == 1
    assert told("lint", closed, "--closed-registry")["problems"] == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("lint", "nowhere.toml"), "No such file"),
        (("record", "nowhere.toml"), "No such file"),
        (("lint", EXAMPLE, "--types-from", "nowhere"), "neither a file nor the HOST:PORT"),
        (("lint", EXAMPLE, "--types-from", "127.0.0.1:1"), "no daemon answers at 127.0.0.1:1"),
    ],
)
def test_what_cannot_be_read_is_another_exit_code(arguments: tuple[str | Path, ...], complaint: str) -> None:
    """So that a script does not take a missing file for a bad policy."""
    done = run(*arguments)
    assert done.exit_code == 2
    assert complaint in done.stderr


@pytest.mark.parametrize("content", [b"\xff\xfe", b'{"type": 3}\n', b'{"name"\n', b"\x1f\x8b broken"])
def test_files_that_are_not_what_they_should_be_are_told(tmp_path: Path, content: bytes) -> None:
    """A policy that is no text, types that are none."""
    path = tmp_path / "file"
    path.write_bytes(content)
    done = run("lint", path) if content == b"\xff\xfe" else run("lint", EXAMPLE, "--types-from", path)
    assert done.exit_code == 2
    assert str(path) in done.stderr


def test_the_record_is_printed_for_people_and_for_programs(wrong: Path) -> None:
    """Markdown or JSON; of a policy with problems there is none."""
    text = run("record", EXAMPLE).stdout
    assert text.startswith("# Record of processing activities")
    assert text.count("\n## ") == 5
    told_record = json.loads(run("record", EXAMPLE, "--format", "json").stdout)
    assert [one["name"] for one in told_record["activities"]] == ["contributions", "other", "reviews", "sign-offs"]
    refused = run("record", wrong)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "3 problems" in refused.stderr


def test_what_a_policy_says_does_not_steer_the_terminal(tmp_path: Path) -> None:
    """Neither in problems nor in the record."""
    evil = tmp_path / "evil.toml"
    evil.write_text(EXAMPLE.read_text("utf-8").replace("Example Project", "A\\u001b[2J"), "utf-8")
    assert "\x1b" not in run("record", evil).stdout
    evil.write_text('"\\u001b[2J" = 1', "utf-8")
    assert "\x1b" not in run("lint", evil).stdout


def test_the_schema_is_printed() -> None:
    """For those who have installed trackd and not its sources."""
    assert json.loads(run("schema").stdout) == schema()
