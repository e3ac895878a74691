"""What a commit tells about reviewing: who wrote, landed, reviewed, tested and reported, as events."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
import trackd

from server.cli.importing.git_log import Commit, Person
from server.cli.importing.identity import content_id
from server.content_id import TIME_MS_MAX

_TRAILERS = {
    "reviewed-by": "review_submitted",
    "acked-by": "review_acked",
    "tested-by": "change_tested",
    "reported-by": "bug_reported",
    "signed-off-by": "change_signed_off",
    "helped-by": "change_helped",
    "suggested-by": "change_suggested",
    "co-authored-by": "change_coauthored",
}
_APPROVALS = frozenset({"review_submitted", "review_acked"})
_TRAILER = re.compile(rf"^\s*({'|'.join(_TRAILERS)})\s*:\s*(\S.*)$", re.IGNORECASE | re.MULTILINE)
_EMAIL = re.compile(r"<\s*([^<>\s]+@[^<>\s]+)\s*>")
_MERGED = re.compile(r"^Merge pull request #(\d{1,9})\b")
_SQUASHED = re.compile(r"\(#(\d{1,9})\)\s*$")
_CLOSED = re.compile(r"\b(?:fix(?:es|ed)?|close[sd]?)\s*:?\s+#(\d{1,9})\b", re.IGNORECASE)
_WEB_COMMITTER = "noreply@github.com"
_USER_BYTES_MAX = 256
_TAG_BYTES_MAX = 128
_TAGS_MAX = 3


def events_of(commit: Commit, repository: str) -> Iterator[trackd.Event]:
    """The events of one commit, each (type, user, issue) once, with ids that are the same at every import.

    `change_authored` carries the author's time, everything else the committer's. Times are as git has them: the daemon
    refuses those of wildly wrong clocks.
    """
    change = commit.hash[:12]
    tags = _tags(commit)
    pull = _pull_request(commit)
    landed_ms = commit.committed_s * 1_000
    about: dict[str, Any] = {"repo": repository, "change": change}
    if pull is not None:
        about["pr"] = pull
    size = {"files": commit.files, "insertions": commit.insertions, "deletions": commit.deletions}
    yield _event("change_authored", _user(commit.author), commit.authored_s * 1_000, tags, about | size)
    yield _event("change_landed", _user(commit.committer), landed_ms, tags, about)
    by_web = commit.committer.email.lower() == _WEB_COMMITTER
    merger = _user(commit.author if by_web else commit.committer)
    if pull is not None:
        yield _event("pr_merged", merger, landed_ms, tags, about)
    told = set()
    for name, person in _TRAILER.findall(commit.body):
        kind, user = _TRAILERS[name.lower()], _user_in(person)
        if user and (kind, user) not in told:
            told.add((kind, user))
            more = {"state": "approved"} if kind in _APPROVALS else {}
            yield _event(kind, user, landed_ms, tags, about | more)
    for issue in dict.fromkeys(_CLOSED.findall(f"{commit.subject}\n{commit.body}")):
        yield _event("issue_closed", merger, landed_ms, tags, about | {"issue": int(issue)})


def _event(kind: str, user: str, timestamp_ms: int, tags: list[str], data: dict[str, Any]) -> trackd.Event:
    metadata = orjson.dumps(data).decode()
    # The change is part of the content, so events of one kind by one user differ from commit to commit.
    id_ = content_id(min(max(timestamp_ms, 0), TIME_MS_MAX), (kind, user, timestamp_ms, tags, metadata))
    return trackd.Event(id=id_, type=kind, user_id=user, timestamp_ms=timestamp_ms, tags=tags, metadata=metadata)


def _tags(commit: Commit) -> list[str]:
    """The folders with most files first, names deciding between equals."""
    ranked = sorted(commit.folders.items(), key=lambda entry: (-entry[1], entry[0]))
    fitting = [name for name, _ in ranked if len(name.encode()) <= _TAG_BYTES_MAX and "\0" not in name]
    return fitting[:_TAGS_MAX]


def _pull_request(commit: Commit) -> int | None:
    found = _MERGED.search(commit.subject) or _SQUASHED.search(commit.subject)
    return int(found[1]) if found else None


def _user(person: Person) -> str:
    return _bounded(person.email.strip().lower() or person.name.strip())


def _user_in(text: str) -> str:
    """The user in the value of a trailer: the address in <> in lower case, else the name as it stands."""
    found = _EMAIL.search(text)
    if found:
        return _bounded(found[1].lower())
    bare = text.partition("#")[0].partition("<")[0].strip()
    return _bounded(bare.lower() if "@" in bare and " " not in bare else bare)


def _bounded(user: str) -> str:
    return user.encode()[:_USER_BYTES_MAX].decode("utf-8", "ignore")
