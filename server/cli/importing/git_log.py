"""The commits of a git repository, streamed from `git log`: any encoding, any file name, bounded memory.

git is asked for fields that end with NUL bytes, which neither messages nor paths can contain. Nothing that the
repository's configuration could name (external diff programs, text conversions) is run, nothing is fetched.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_RECORD = b"\x1e"
_FIELDS = ("%H", "%P", "%at", "%ct", "%an", "%ae", "%cn", "%ce", "%s", "%b")
_BLOCK_BYTES = 256 * 1024
_ROOT = "(root)"


class GitFailed(Exception):
    """There is no usable repository, or git gave up; the text is git's own."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody as git knows them."""

    name: str
    email: str


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit with what it touched. Times are seconds since the epoch, as its author and committer claimed them.

    `folders` maps each top-level folder to the number of files touched in it; files beside them count as "(root)".
    """

    hash: str
    parents: int
    authored_s: int
    committed_s: int
    author: Person
    committer: Person
    subject: str
    body: str
    files: int
    insertions: int
    deletions: int
    folders: dict[str, int]


def repository_name(path: Path) -> str:
    """What the repository is called: the last part of its origin's address, else of its folder.

    The origin comes first, so that two clones of one repository tell of the same changes.
    """
    origin = _git(path, "config", "--get", "remote.origin.url", missing_is_empty=True)
    if not origin:
        origin = _git(path, "rev-parse", "--path-format=absolute", "--git-common-dir").removesuffix("/.git")
    return origin.rstrip("/").replace(":", "/").rpartition("/")[2].removesuffix(".git") or "repository"


def count_commits(path: Path) -> int:
    """How many commits HEAD reaches; 0 in a repository without any."""
    counted = _git(path, "rev-list", "--count", "HEAD", "--", missing_is_empty=not _has_commits(path))
    return int(counted or 0)


def read_commits(path: Path, *, newest_first: bool = False, commits_max: int | None = None) -> Iterator[Commit]:
    """The commits that HEAD reaches, oldest first unless asked otherwise; with `commits_max`, the newest so many."""
    if not _has_commits(path):
        return
    command = _command(path)
    command += ["log", "-z", "--numstat", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color"]
    command += ["--no-show-signature", "--no-mailmap", "--encoding=UTF-8", "--date-order"]
    command += [f"--format=tformat:%x1e%x00{'%x00'.join(_FIELDS)}%x00"]
    if not newest_first:
        command.append("--reverse")
    if commits_max is not None:
        command.append(f"--max-count={commits_max}")
    command += ["HEAD", "--"]
    # A file and not a pipe for what git says: a full pipe that nobody reads would stop it.
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, env=_environment()
        ) as process,
    ):
        finished = False
        try:
            if process.stdout is not None:
                yield from _commits(_tokens(process.stdout))
            finished = True
        finally:
            if not finished:
                process.kill()
        if process.wait() != 0:
            said.seek(0)
            raise GitFailed(_last_line(said.read()) or f"git log ended with code {process.returncode}")


def _commits(tokens: Iterator[bytes]) -> Iterator[Commit]:
    fields: list[bytes] = []
    changes: list[bytes] = []
    # Of the format's own NULs and those that -z puts between commits, empty tokens and newlines remain.
    for token in (found.lstrip(b"\n") for found in tokens):
        if token == _RECORD:
            if fields:
                yield _commit(fields, changes)
            # A message may look like anything: these tokens are taken by count.
            fields, changes = [next(tokens, b"") for _ in _FIELDS], []
        elif token:
            changes.append(token)
    if fields:
        yield _commit(fields, changes)


def _tokens(stream: IO[bytes]) -> Iterator[bytes]:
    tail = b""
    while block := stream.read(_BLOCK_BYTES):
        tokens = (tail + block).split(b"\0")
        tail = tokens.pop()
        yield from tokens
    if tail:
        yield tail


def _commit(fields: list[bytes], changes: list[bytes]) -> Commit:
    text = [field.decode("utf-8", "replace") for field in fields]
    insertions = deletions = 0
    folders: dict[str, int] = {}
    for change in changes:
        # "-" stands for the lines of a binary file.
        added, _, rest = change.partition(b"\t")
        removed, _, path = rest.partition(b"\t")
        insertions += int(added) if added.isdigit() else 0
        deletions += int(removed) if removed.isdigit() else 0
        folder, slash, _ = path.partition(b"/")
        name = folder.decode("utf-8", "replace") if slash else _ROOT
        folders[name] = folders.get(name, 0) + 1
    return Commit(
        hash=text[0],
        parents=len(text[1].split()),
        authored_s=_seconds(text[2]),
        committed_s=_seconds(text[3]),
        author=Person(text[4], text[5]),
        committer=Person(text[6], text[7]),
        subject=text[8],
        body=text[9],
        files=len(changes),
        insertions=insertions,
        deletions=deletions,
        folders=folders,
    )


def _seconds(text: str) -> int:
    """Broken commits have no date at all."""
    try:
        return int(text)
    except ValueError:
        return 0


def _has_commits(path: Path) -> bool:
    _git(path, "rev-parse", "--git-dir")
    return bool(_git(path, "rev-parse", "--quiet", "--verify", "HEAD^{commit}", missing_is_empty=True))


def _git(path: Path, *arguments: str, missing_is_empty: bool = False) -> str:
    try:
        done = subprocess.run(
            [*_command(path), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=_environment(),
            check=False,
        )
    except FileNotFoundError:
        raise GitFailed("git is not installed") from None
    if done.returncode == 0:
        return done.stdout.decode("utf-8", "replace").strip()
    if missing_is_empty:
        return ""
    raise GitFailed(_last_line(done.stderr) or f"git {arguments[0]} ended with code {done.returncode}")


def _last_line(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""


def _command(path: Path) -> list[str]:
    return ["git", "-C", str(path), "-c", "core.quotePath=false", "-c", "log.showSignature=false"]


def _environment() -> dict[str, str]:
    """No language, no pager, no prompts, no network: in a partial clone missing files are an error, not a download."""
    return os.environ | {"LC_ALL": "C", "GIT_PAGER": "cat", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1"}
