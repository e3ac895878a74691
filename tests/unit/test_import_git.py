"""A repository's history as events: a small real repository, made by the test."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import orjson
import pytest
import trackd

from server.cli.importing.git_log import GitFailed, count_commits, read_commits, repository_name
from server.cli.importing.review import events_of

AUTHORED = 1_700_000_000
LANDED = 1_700_003_600


def git(path: Path, *arguments: str, message: bytes = b"", **environment: str) -> None:
    """Runs git with fixed people and times, and with no configuration but its own."""
    people = {"GIT_AUTHOR_NAME": "Ann", "GIT_AUTHOR_EMAIL": "Ann@Example.org", "GIT_AUTHOR_DATE": f"{AUTHORED} +0200"}
    people |= {"GIT_COMMITTER_NAME": "Ben", "GIT_COMMITTER_EMAIL": "ben@example.org"}
    people |= {"GIT_COMMITTER_DATE": f"{LANDED} +0000", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(
        ["git", "-C", str(path), *arguments],
        input=message,
        env=os.environ | people | environment,
        check=True,
        capture_output=True,
    )


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An empty repository."""
    path = tmp_path / "widgets"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    return path


def commit(path: Path, message: str | bytes, files: dict[str, str] | None = None, **environment: str) -> None:
    """One commit with these files."""
    for name, text in (files or {}).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    git(path, "add", "-A")
    raw = message if isinstance(message, bytes) else message.encode()
    git(path, "commit", "-q", "--allow-empty", "--cleanup=verbatim", "-F", "-", message=raw, **environment)


def events(path: Path) -> list[trackd.Event]:
    """All events of a repository."""
    name = repository_name(path)
    return [event for one in read_commits(path) for event in events_of(one, name)]


def told(path: Path) -> list[tuple[str, str]]:
    """Types and users."""
    return [(event.type, event.user_id) for event in events(path)]


def test_a_commit_is_authored_and_landed_at_its_two_times(repository: Path) -> None:
    """Sizes and folders go with it, users are e-mail addresses in lower case."""
    commit(repository, "First", {"README": "a\nb\n", "src/a/x.py": "1\n", "src/b.py": "1\n", "docs/é.md": "1\n"})
    authored, landed = events(repository)
    assert (authored.type, authored.user_id, authored.timestamp_ms) == (
        "change_authored",
        "ann@example.org",
        AUTHORED * 1_000,
    )
    assert (landed.type, landed.user_id, landed.timestamp_ms) == ("change_landed", "ben@example.org", LANDED * 1_000)
    assert list(authored.tags) == ["src", "(root)", "docs"]
    metadata = orjson.loads(authored.metadata)
    assert len(metadata.pop("change")) == 12
    assert metadata == {"repo": "widgets", "files": 4, "insertions": 5, "deletions": 0}
    assert set(orjson.loads(landed.metadata)) == {"repo", "change"}


def test_trailers_become_events_of_the_people_they_name(repository: Path) -> None:
    """One event a person and kind; names without an address stand as they are."""
    commit(
        repository,
        "Change\n\nText. Reviewed-by: nobody, in the middle of a line\n\nReviewed-by: Cleo <CLEO@example.org>\n"
        "reviewed-by: Cleo <cleo@example.org>\nAcked-by: Dan\nTested-by: e@example.org\nReported-by: F <f@x> # note\n"
        "Signed-off-by: G <g@x>\nHelped-by: H <h@x>\nSuggested-by: I <i@x>\nCo-authored-by: J <j@x>\nReviewed-by: \n",
    )
    assert told(repository)[2:] == [
        ("review_submitted", "cleo@example.org"),
        ("review_acked", "Dan"),
        ("change_tested", "e@example.org"),
        ("bug_reported", "f@x"),
        ("change_signed_off", "g@x"),
        ("change_helped", "h@x"),
        ("change_suggested", "i@x"),
        ("change_coauthored", "j@x"),
    ]


@pytest.mark.parametrize("subject", ["Merge pull request #42 from a/b", "Make it better (#42)"])
def test_merged_pull_requests_are_recognised(repository: Path, subject: str) -> None:
    """By GitHub's two subjects; the number goes with every event of the commit."""
    commit(repository, subject)
    assert told(repository)[2] == ("pr_merged", "ben@example.org")
    assert {orjson.loads(event.metadata)["pr"] for event in events(repository)} == {42}


def test_the_web_interface_merges_for_the_author(repository: Path) -> None:
    """noreply@github.com is nobody."""
    commit(repository, "Better (#7)", GIT_COMMITTER_EMAIL="noreply@github.com")
    assert ("pr_merged", "ann@example.org") in told(repository)


def test_closed_issues_are_counted_once(repository: Path) -> None:
    """Fixes and Closes with a number, in subject or body."""
    commit(repository, "Fix: it\n\nFixes #12, closes: #13\nCloses #12\nSee #14\n")
    found = [orjson.loads(event.metadata)["issue"] for event in events(repository) if event.type == "issue_closed"]
    assert found == [12, 13]


def test_any_bytes_in_a_message_are_survived(repository: Path) -> None:
    """Other encodings, control characters, separators of our own, an empty message of spaces."""
    commit(repository, b"\xff\xfe caf\xe9\n\n\x1e\nReviewed-by: J\xfcrgen <j@x>\n")
    commit(repository, "\x1e\n\n\x1e\n1\t2\tsrc/x\n", {"a b/\tc\nd": "x"})
    assert ("review_submitted", "j@x") in told(repository)
    assert [one.files for one in read_commits(repository)] == [0, 1]


def test_merges_and_binary_files_do_not_confuse_the_sizes(repository: Path) -> None:
    """A merge touches nothing of its own; a binary file has no lines."""
    commit(repository, "One", {"a": "1\n"})
    git(repository, "checkout", "-q", "-b", "side")
    (repository / "bin").write_bytes(bytes(range(256)))
    commit(repository, "Two")
    git(repository, "checkout", "-q", "main")
    commit(repository, "Three", {"c/d": "1\n"})
    git(repository, "merge", "-q", "--no-ff", "-m", "Merge pull request #3 from x/side", "side")
    by_subject = {one.subject: one for one in read_commits(repository)}
    assert by_subject["Two"].files == 1
    assert by_subject["Two"].insertions == 0
    merge = by_subject["Merge pull request #3 from x/side"]
    assert (merge.parents, merge.files) == (2, 0)


def test_two_readings_give_the_same_events_with_different_ids_each(repository: Path) -> None:
    """So that importing again stores nothing new, and one import loses nothing."""
    for number in range(5):
        commit(repository, f"Change {number}\n\nSigned-off-by: Ann <ann@example.org>", {f"f{number}": "x"})
    first = events(repository)
    assert first == events(repository)
    assert len({event.id for event in first}) == len(first) == 15


def test_newest_first_gives_a_bounded_piece_of_history(repository: Path) -> None:
    """For the demo: the latest commits, without reading the rest."""
    for number in range(4):
        commit(repository, f"Change {number}")
    assert [one.subject for one in read_commits(repository, newest_first=True, commits_max=2)] == [
        "Change 3",
        "Change 2",
    ]
    assert [one.subject for one in read_commits(repository, commits_max=2)] == ["Change 2", "Change 3"]


def test_the_name_of_a_repository_is_that_of_its_origin(repository: Path) -> None:
    """Two clones in different folders are the same repository."""
    assert repository_name(repository) == "widgets"
    git(repository, "remote", "add", "origin", "git@example.org:team/gadgets.git")
    assert repository_name(repository) == "gadgets"


def test_a_repository_without_commits_has_no_events(repository: Path) -> None:
    """Nothing is not an error."""
    assert events(repository) == []
    assert count_commits(repository) == 0


def test_what_is_no_repository_is_refused(tmp_path: Path) -> None:
    """In git's own words."""
    with pytest.raises(GitFailed, match="not a git repository"):
        list(read_commits(tmp_path))


def test_leaving_in_the_middle_ends_git(repository: Path) -> None:
    """A consumer that has seen enough leaves no process behind."""
    for number in range(3):
        commit(repository, f"Change {number}")
    reading = read_commits(repository)
    assert next(reading).subject == "Change 0"
    reading.close()  # type: ignore[attr-defined]
