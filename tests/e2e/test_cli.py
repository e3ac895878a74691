"""The commands, as people and scripts use them, against a real daemon."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trackd

from tests.e2e.conftest import DaemonProcess, run

TS = 1_700_000_000_000
MONTH_MS = 31 * 86_400_000
REVIEW_EVENTS = Path(os.environ.get("TRACKD_REVIEW_EVENTS", "../shared/data/review-events.jsonl.gz"))


def lines(count: int, *, seed: int = 1) -> list[dict[str, Any]]:
    """Short-form events over three months, some of them identical."""
    rng = random.Random(seed)
    made = [
        {
            "ts": TS + rng.randrange(3) * MONTH_MS + rng.randrange(1_000),
            "type": rng.choice(["pr_opened", "review_submitted"]),
            "user": rng.randrange(50),
            "tags": ["docs"] if rng.random() < 0.3 else [],
            "data": {"pr": rng.randrange(9)},
        }
        for _ in range(count)
    ]
    return made + made[: count // 10]


def write(path: Path, made: list[Any]) -> Path:
    """JSON lines; texts go as they are."""
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in made)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def told(*arguments: str, target: str) -> Any:
    """The JSON that a command prints; it must succeed."""
    done = run(*arguments, "--json", target=target)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_file_is_imported_once_however_often_it_is_imported(daemon: DaemonProcess, tmp_path: Path) -> None:
    """The second import, here of the lines in another order, says that there is nothing new."""
    made = lines(3_000)
    first = told("import", str(write(tmp_path / "a.jsonl.gz", made)), target=daemon.target)
    assert (first["lines"], first["accepted"], first["duplicate"]) == (3_300, 3_300, 0)
    random.Random(2).shuffle(made)
    again = run("import", str(write(tmp_path / "b.jsonl", made)), target=daemon.target)
    assert again.returncode == 0
    assert "nothing new: all 3,300 events were stored already" in again.stdout
    counted = told("count", "--by", "type", target=daemon.target)
    expected = Counter(line["type"] for line in made)
    assert counted == {
        "rows": [{"type": name, "events": expected[name]} for name in sorted(expected)],
        "events": 3_300,
        "as_of_position": counted["as_of_position"],
    }


def test_bad_lines_are_reported_by_number_and_do_not_stop_the_rest(daemon: DaemonProcess, tmp_path: Path) -> None:
    """What the reader refuses and what the daemon refuses, each with its line; exit code 1."""
    good = {"ts": TS, "type": "t"}
    made = [
        good,
        "",
        {"ts": TS, "type": "t", "colour": 1},
        "oops",
        {"ts": TS, "type": "no spaces"},
        good | {"ts": TS + 1},
    ]
    path = str(write(tmp_path / "f.jsonl", made))
    done = run("import", path, "--json", target=daemon.target)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert (report["accepted"], report["bad"], report["rejected"]) == (2, 2, 1)
    assert {problem["where"] for problem in report["problems"]} == {"line 3", "line 4", "line 5"}
    assert "line 3" in done.stderr
    assert "colour" in done.stderr
    strict = run("import", path, "--strict", "--json", target=daemon.target)
    assert strict.returncode == 1
    assert json.loads(strict.stdout)["events"] == 1


def test_a_file_that_breaks_off_gives_what_it_has(daemon: DaemonProcess, tmp_path: Path) -> None:
    """The lines before the damage are stored, the damage is named."""
    path = write(tmp_path / "f.jsonl.gz", lines(5_000))
    path.write_bytes(path.read_bytes()[:-200])
    done = run("import", str(path), target=daemon.target)
    assert done.returncode == 1
    assert "f.jsonl.gz" in done.stderr
    assert "events stored" in done.stderr
    missing = run("import", str(tmp_path / "absent.jsonl"), target=daemon.target)
    assert missing.returncode == 1
    assert "No such file" in missing.stderr


def test_an_import_survives_daemons_that_are_killed(daemon: DaemonProcess, tmp_path: Path) -> None:
    """SIGKILL and restart in the middle: every line is stored once, and the sender only waits."""
    made = lines(100_000)
    path = write(tmp_path / "f.jsonl", made)
    stop = threading.Event()

    kills = 0

    def murderer() -> None:
        nonlocal kills
        rng = random.Random(5)
        with trackd.Client(daemon.target) as client:  # the middle of an import begins with its first event
            while not client.count_events().events and not stop.wait(0.01):
                pass
        while kills < 6 and not stop.wait(rng.uniform(0.05, 0.4)):
            daemon.kill()
            kills += 1
            daemon.start()

    killer = threading.Thread(target=murderer)
    killer.start()
    try:
        done = run("import", str(path), "--json", target=daemon.target)
    finally:
        stop.set()
        killer.join()
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["accepted"] + report["duplicate"] == len(made) == report["events"]
    assert told("count", target=daemon.target)["events"] == len(made)
    assert kills >= 2


def test_an_import_whose_daemon_stays_away_says_what_is_open(daemon: DaemonProcess, tmp_path: Path) -> None:
    """GaveUp: one red line with the number of events not acknowledged, exit code 2, no traceback."""
    path = write(tmp_path / "f.jsonl", lines(200_000))
    command = [sys.executable, "-m", "server.cli.main", "import", str(path), "--give-up-after", "1"]
    with subprocess.Popen([*command, "--target", daemon.target], stderr=subprocess.PIPE, text=True) as importing:
        while not told("count", target=daemon.target)["events"]:
            time.sleep(0.05)
        daemon.kill()
        _, said = importing.communicate(timeout=60)
    assert importing.returncode == 2, said
    assert "were not acknowledged" in said
    assert "Traceback" not in said
    daemon.start()
    assert run("import", str(path), target=daemon.target).returncode == 0
    assert told("count", target=daemon.target)["events"] == 220_000


def test_a_git_history_is_imported_once(daemon: DaemonProcess, tmp_path: Path) -> None:
    """Commits and trailers become events; a second import stores nothing new."""
    people = {f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER") for field, value in (
        ("NAME", "Ann"), ("EMAIL", "ann@example.org"), ("DATE", "1700000000 +0000"),
    )}  # fmt: skip
    for arguments in (("init", "-q"), ("commit", "-q", "--allow-empty", "-m", "One\n\nReviewed-by: Ben <b@x>")):
        subprocess.run(["git", *arguments], cwd=tmp_path, env=os.environ | people, check=True)
    first = told("import", "--git", str(tmp_path), target=daemon.target)
    assert (first["commits"], first["accepted"]) == (1, 3)
    assert told("import", "--git", str(tmp_path), target=daemon.target)["nothing_new"] is True
    rows = told("count", "--by", "type", "--by", "user", target=daemon.target)["rows"]
    assert rows == [
        {"type": "change_authored", "user": "ann@example.org", "events": 1},
        {"type": "change_landed", "user": "ann@example.org", "events": 1},
        {"type": "review_submitted", "user": "b@x", "events": 1},
    ]
    wrong = run("import", "--git", "/", target=daemon.target)
    assert wrong.returncode == 1
    assert "not a git repository" in wrong.stderr


def test_events_are_listed_with_every_filter(daemon: DaemonProcess, tmp_path: Path) -> None:
    """Types, users, tags, sources, sessions and times choose; --limit 0 goes over all pages."""
    made = lines(2_500)
    made.append(
        {"ts": TS, "type": "t", "user": "ann", "sessionId": "s1", "metadata": '{"n":\n12345678901234567890123}'}
    )
    run("import", str(write(tmp_path / "f.jsonl", made)), "--source", "web", target=daemon.target)

    def listed(*arguments: str) -> list[dict[str, Any]]:
        done = run("events", *arguments, "--json", "--limit", "0", target=daemon.target)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    everything = listed("--order", "time_asc")
    assert len(everything) == len(made)
    assert [event["timestamp_ms"] for event in everything] == sorted(line["ts"] for line in made)
    assert len(listed("--tag", "docs")) == sum(line.get("tags") == ["docs"] for line in made)
    assert len(listed("--user", "1", "--user", "2")) == sum(line["user"] in (1, 2) for line in made)
    assert len(listed("--since", "2023-12", "--until", "2024-01")) == sum(
        1_701_388_800_000 <= line["ts"] < 1_704_067_200_000 for line in made
    )
    assert listed("--source", "other") == []
    (one,) = listed("--session", "s1")
    assert one["metadata"] == {"n": 12345678901234567890123}
    table = run("events", "--type", "t", target=daemon.target)
    assert "2023-11-14 22:13:20" in table.stdout
    assert "ann" in table.stdout


def test_counts_and_lists_refuse_what_they_do_not_know(daemon: DaemonProcess) -> None:
    """Wrong usage is exit code 2 with the choices, before anything is asked."""
    assert run("count", "--by", "colour", target=daemon.target).returncode == 2
    assert run("events", "--since", "tomorrow", target=daemon.target).returncode == 2
    assert run("import", target=daemon.target).returncode == 2


def test_types_are_registered_described_and_listed(daemon: DaemonProcess) -> None:
    """A registered type has its description; an unknown one is an error with reason and exit code 1."""
    registered = told("types", "register", "pr_opened", "--description", "A pull request.", target=daemon.target)
    assert registered["declared"] is True
    assert told("types", "describe", "pr_opened", target=daemon.target) == registered
    assert told("types", "list", target=daemon.target) == registered
    assert "A pull request." in run("types", "list", target=daemon.target).stdout
    unknown = run("types", "describe", "nope", target=daemon.target)
    assert unknown.returncode == 1
    assert "TYPE_UNKNOWN" in unknown.stderr


def test_health_tells_scripts_by_its_exit_code(daemon: DaemonProcess) -> None:
    """0 serving, 2 when nobody answers, with how to start one."""
    assert run("health", target=daemon.target).stdout == "serving\n"
    assert told("health", target=daemon.target)["status"] == "serving"
    daemon.stop()
    gone = run("health", target=daemon.target)
    assert gone.returncode == 2
    assert "trackd serve" in gone.stderr
    assert gone.stdout == ""
    assert len(gone.stderr.splitlines()) == 1
    daemon.start()


@pytest.mark.parametrize("where", ["repository", "nowhere"])
def test_the_demo_shows_events_and_leaves_nothing_behind(tmp_path: Path, where: str) -> None:
    """With a git history or without: tables on standard output, exit code 0, no process and no directory left."""
    if where == "repository":
        people = {
            "GIT_AUTHOR_NAME": "A",
            "GIT_AUTHOR_EMAIL": "a@x",
            "GIT_COMMITTER_NAME": "A",
            "GIT_COMMITTER_EMAIL": "a@x",
        }
        for arguments in (("init", "-q"), ("commit", "-q", "--allow-empty", "-m", "One")):
            subprocess.run(["git", *arguments], cwd=tmp_path, env=os.environ | people, check=True)
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "server.cli.main", "demo"],
        env=os.environ
        | {"TMPDIR": str(tmp_path / "tmp"), "COLUMNS": "100", "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "By month" in done.stdout
    assert "pr_merged" in done.stdout
    assert ("change_authored" in done.stdout) is (where == "repository")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_kept_demo_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    """--keep: the daemon answers, and ends with the demo."""
    path = write(tmp_path / "f.jsonl", lines(100))
    command = [sys.executable, "-m", "server.cli.main", "demo", "--keep", "--file", str(path), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        report = json.loads(demo.stdout.readline())
        assert told("count", target=report["grpc"])["events"] == report["events"] == 110
        demo.send_signal(signal.SIGINT)
        _, said = demo.communicate(timeout=30)
    assert demo.returncode == 0, said
    assert run("health", target=report["grpc"]).returncode == 2


@pytest.mark.skipif(not REVIEW_EVENTS.exists(), reason="the shared review events are not beside this checkout")
def test_the_real_review_events_are_counted_as_an_independent_count_has_them(daemon: DaemonProcess) -> None:
    """367,339 events of 262 months: per type and per month as in the file."""
    with gzip.open(REVIEW_EVENTS, "rb") as file:
        read = [json.loads(line) for line in file]
    report = told("import", str(REVIEW_EVENTS), target=daemon.target)
    assert report["accepted"] == len(read)
    types = Counter(line["type"] for line in read)
    months = Counter(time.strftime("%Y-%m", time.gmtime(line["ts"] // 1_000)) for line in read)
    by_type, by_month = (told("count", "--by", name, target=daemon.target) for name in ("type", "month"))
    assert {row["type"]: row["events"] for row in by_type["rows"]} == types
    assert {row["month"]: row["events"] for row in by_month["rows"]} == months
