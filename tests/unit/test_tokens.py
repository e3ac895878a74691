"""Tokens and their file: what is kept, what is not, and what happens to a file that is no good."""

from __future__ import annotations

import hashlib
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from server.cli.main import app
from server.errors import ConfigurationError
from server.model import Role
from server.security import tokens

NOW_MS = 1_764_000_000_000
DAY_MS = 86_400_000


def make(path: Path, name: str = "reviews", **more: Any) -> str:
    """The text of a new token in the file."""
    return tokens.create(path, name=name, roles=[Role.INGEST], now_ms=NOW_MS, **more)[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file will be."""
    return tmp_path / "tokens.json"


def test_a_token_is_known_by_its_hash_alone(path: Path) -> None:
    """The secret is in no file; what is there proves it and nothing else."""
    text = make(path)
    (kept,) = tokens.read(path)
    _word, token_id, secret = text.split("_")
    assert secret not in path.read_text()
    assert (kept.id, kept.sha256) == (token_id, hashlib.sha256(secret.encode()).hexdigest())
    taken = tokens.taken_apart(text)
    assert taken is not None
    assert kept.is_proved_by(taken[1])
    assert not kept.is_proved_by(hashlib.sha256(b"other").hexdigest())


def test_only_its_owner_may_read_the_file_whatever_the_umask(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mode 0600 from the first moment on, also when it is replaced, and nothing is left beside it."""
    for name in ("reviews", "billing"):
        make(path, name)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_tokens_made_at_the_same_time_are_all_kept(path: Path) -> None:
    """Whoever changes the file waits for the one before."""
    with ThreadPoolExecutor(8) as threads:
        texts = list(threads.map(lambda number: make(path, f"service-{number}"), range(24)))
    assert {text.split("_")[1] for text in texts} == {token.id for token in tokens.read(path)}


def test_a_file_that_cannot_be_replaced_stays_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Atomically: a failure on the way leaves the old file, and no part of the new one."""
    make(path)
    before = path.read_bytes()

    def failing(_self: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(ConfigurationError, match="No space left") as caught:
        make(path, "billing")
    assert caught.value.reason == "TOKENS_UNUSABLE"
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_token_is_revoked_by_id_or_by_a_name_that_is_one(path: Path) -> None:
    """Of two tokens of a name nobody knows which is meant."""
    first, second, third = (tokens.create(path, name=name, roles=[Role.READ], now_ms=NOW_MS)[1] for name in "aab")
    with pytest.raises(ConfigurationError, match=f"2 tokens are called 'a': {first.id}, {second.id}") as caught:
        tokens.revoke(path, "a")
    assert caught.value.reason == "TOKEN_NOT_FOUND"
    assert tokens.revoke(path, first.id) == first
    assert tokens.revoke(path, "a") == second
    with pytest.raises(ConfigurationError, match="no tokens are called 'a'"):
        tokens.revoke(path, "a")
    assert tokens.read(path) == (third,)


def test_a_token_expires_at_its_time(path: Path) -> None:
    """From that millisecond on; without one never."""
    make(path, expires_ms=NOW_MS + 5)
    make(path)
    first, second = tokens.read(path)
    assert [first.expired(NOW_MS + 4), first.expired(NOW_MS + 5), second.expired(NOW_MS * 2)] == [False, True, False]


GOOD = {"id": "0" * 12, "name": "a", "roles": ["read"], "sha256": "0" * 64, "created_ms": 1, "expires_ms": None}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file"),
        (b"", "is no file of tokens"),
        (b"\xff\xfe", "is no file of tokens"),
        ([], "is no file of tokens"),
        ({"format_version": 2, "tokens": []}, "has the format 2"),
        ({"format_version": 1, "tokens": [GOOD, GOOD]}, "has an id twice"),
        ({"format_version": 1, "tokens": [GOOD | {"roles": ["root"]}]}, "Invalid enum value 'root'"),
        ({"format_version": 1, "tokens": [GOOD | {"sha256": "ü" * 64}]}, "sha256"),
        ({"format_version": 1, "tokens": [GOOD | {"secret": "x"}]}, "unknown field `secret`"),
    ],
)
def test_a_file_that_is_no_good_is_named(content: object, problem: str, path: Path) -> None:
    """Missing, broken, of a later format, or with something that is not ours: one error says which."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text(json.dumps(content))
    with pytest.raises(ConfigurationError) as caught:
        tokens.read(path)
    assert caught.value.reason == "TOKENS_UNUSABLE"
    assert caught.value.message.startswith(f"{path}: ")
    assert problem in caught.value.message


def test_a_file_that_everybody_may_write_is_not_believed(path: Path) -> None:
    """Whoever can add a hash has a token."""
    make(path)
    path.chmod(0o602)
    with pytest.raises(ConfigurationError, match="everybody may write to it"):
        tokens.read(path)


@pytest.mark.parametrize(
    "text", ["", "trackd", "trackd_00_00", "trackd_" + "0" * 12 + "_" + "0" * 63, "Trackd_" + "0" * 12 + "_" + "0" * 64]
)
def test_what_does_not_look_like_a_token_is_none(text: str) -> None:
    """Nothing is hashed for it."""
    assert tokens.taken_apart(text) is None


# The commands


def command(*arguments: str) -> Any:
    """Runs `trackd token ...`."""
    return CliRunner().invoke(app, ["token", *arguments], env={"COLUMNS": "120", "NO_COLOR": "1"})


def test_the_commands_make_list_and_revoke(path: Path) -> None:
    """The token alone on standard output, so that a script can take it; then it is never seen again."""
    made = command(
        "create", "--file", str(path), "--name", "svc", "--role", "read", "--role", "ingest", "--expires", "90d"
    )
    assert made.exit_code == 0, made.output
    token = made.stdout.strip()
    (kept,) = tokens.read(path)
    assert token.startswith(f"trackd_{kept.id}_")
    assert kept.roles == (Role.INGEST, Role.READ)
    assert kept.expires_ms is not None
    assert kept.expires_ms - kept.created_ms == 90 * DAY_MS
    settings = path.with_name("trackd.toml")
    settings.write_text(f'[access]\ntokens = "{path}"\n')
    listed = command("list", "--config", str(settings), "--json")
    assert json.loads(listed.stdout) == {
        "id": kept.id,
        "name": "svc",
        "roles": ["ingest", "read"],
        "created_ms": kept.created_ms,
        "expires_ms": kept.expires_ms,
    }
    assert "svc" in command("list", "--file", str(path)).stdout
    assert command("revoke", "svc", "--file", str(path)).exit_code == 0
    again = command("revoke", "svc", "--file", str(path))
    assert (again.exit_code, "no tokens are called 'svc'" in again.output) == (1, True)
    assert tokens.read(path) == ()


def test_a_token_can_be_written_where_only_its_owner_reads_it(path: Path) -> None:
    """Mode 0600, and in no output; where there is a file already nothing is made, and nothing is left of a failure."""
    token = path.with_name("reviews.token")
    arguments = ("create", "--file", str(path), "--name", "svc", "--role", "read", "--output", str(token))
    made = command(*arguments, "--json")
    (kept,) = tokens.read(path)
    text = token.read_text().strip()
    assert tokens.taken_apart(text) == (kept.id, kept.sha256)
    assert text not in made.output
    assert json.loads(made.stdout)["id"] == kept.id
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    again = command(*arguments)
    assert (again.exit_code, "File exists" in again.output) == (2, True)
    assert tokens.read(path) == (kept,)
    path.write_text("{")
    token.unlink()
    assert command(*arguments).exit_code == 1
    assert not token.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "a b", "--role", "read"], "1 to 128 letters"),
        (["--name", "a", "--role", "admin"], "admin"),
        (["--name", "a", "--role", "read", "--expires", "2001-01-01"], "is over already"),
        (["--name", "a", "--role", "read", "--expires", "soon"], "'soon' is no time"),
        (["--name", "a"], "--role"),
    ],
)
def test_wrong_usage_makes_no_token(arguments: list[str], said: str, path: Path) -> None:
    """It is said, and the file is not even made."""
    done = command("create", "--file", str(path), *arguments)
    assert done.exit_code == 2
    assert said in done.output
    assert not path.exists()


def test_a_file_that_is_not_there_is_an_error_for_a_list(path: Path) -> None:
    """With what to do."""
    listed = command("list", "--file", str(path))
    assert listed.exit_code == 1
    assert "trackd token create" in listed.output
    nowhere = command("list")
    assert (nowhere.exit_code, "--file" in nowhere.output) == (2, True)
