"""Retention as people use it: a plan is read, applied, refused when it is stale, guarded, held, cancelled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from trackd import Client, EventFilter

from tests.support.kept import OLD, RECENT, YOUNGER, Kept, keeping, months_ago


def statuses(receipt: Any) -> set[tuple[str, str]]:
    """(action, how it ended)."""
    return {(one["action"], one["status"]) for one in receipt["results"]}


def test_a_plan_is_read_kept_and_applied_and_then_nothing_is_left_to_do(tmp_path: Path) -> None:
    """The file is what --json prints; the receipt is of that plan, on disk, and in the evidence; numbers stay."""
    plan = tmp_path / "plan.json"
    with keeping(tmp_path) as kept:
        kept.send([OLD, OLD - 1, YOUNGER, RECENT])
        before = kept.counted()
        shown = kept.trackd("retention", "plan", "--out", plan, code=2)
        assert f"- drop reviews: {months_ago(OLD)} to {months_ago(OLD - 1)} (2 months), 40 events" in shown.stdout
        assert f"~ anonymize reviews: {months_ago(YOUNGER)}, 20 events" in shown.stdout
        assert 'step 2: after = "10 years", do = "drop"; due ' in shown.stdout
        assert kept.told("retention", "plan", code=2)["id"] == json.loads(plan.read_text())["id"]
        receipt = kept.told("retention", "apply", plan, "--yes")
        assert statuses(receipt) == {(kind, "done") for kind in ("seal", "freeze", "drop", "anonymize")}
        assert receipt["plan_id"] == json.loads(plan.read_text())["id"]
        assert receipt["actor"] == f"uid:{os.getuid()}"
        (file,) = (kept.daemon.data / "receipts").iterdir()
        assert json.loads(file.read_bytes()) == receipt
        assert kept.trackd("retention", "plan").stdout.endswith("Nothing to do.\n")
        assert kept.trackd("retention", "apply").stdout.endswith("Nothing to do.\n")
        assert kept.counted() == before
        with Client(kept.daemon.target) as client:
            users = {stored.event.user_id for stored in client.list_events(_in(YOUNGER))}
            assert len(users) == 3
            assert not users & {"user-0", "user-1", "user-2"}
        assert "whole" in kept.trackd("retention", "verify", "--receipt", file).stderr
        _looks(kept)


def _in(ago: int) -> EventFilter:
    month = months_ago(ago)
    return EventFilter(start_ms=month.start_ms, end_ms=month.end_ms)


def _looks(kept: Kept) -> None:
    """What status, months, explain and history say after it."""
    status = kept.told("retention", "status")
    assert (status["overdue"], status["months"], status["events"]) == ([], 3, 41)
    assert "overdue   nothing" in kept.trackd("retention", "status").stdout
    lines = kept.trackd("retention", "months", "--json").stdout.splitlines()
    states = {one["month"]: one["classes"][0]["state"] for one in map(json.loads, lines)}
    wanted = [(OLD, "closed"), (YOUNGER, "anonymized"), (RECENT, "sealed"), (0, "open")]
    assert {str(months_ago(ago)): state for ago, state in wanted}.items() <= states.items()
    assert "due now" not in kept.trackd("retention", "months").stdout
    explained = kept.trackd("retention", "explain", str(months_ago(YOUNGER))).stdout
    assert "reviews: anonymized, 20 events" in explained
    assert "    done, was due " in explained
    records = [json.loads(line) for line in kept.trackd("retention", "history", "--json").stdout.splitlines()]
    assert [one["sequence"] for one in records] == list(range(1, len(records) + 1))
    assert status["evidence"] == {name: records[-1][name] for name in ("sequence", "digest")}
    of_month = ("retention", "history", "--month", str(months_ago(OLD)), "--class", "reviews")
    told = [json.loads(line)["deed"] for line in kept.trackd(*of_month, "--json").stdout.splitlines()]
    assert [(one["action"], one["rows_before"], one["rows_after"]) for one in told] == [
        ("freeze", 20, 20), ("drop", 20, 0),
    ]  # fmt: skip
    assert f"drop {months_ago(OLD)} reviews" in kept.trackd(*of_month).stdout
    assert "20 → 0" in kept.trackd(*of_month, "--last", "1").stdout


def test_a_stale_plan_changes_nothing_and_says_what_is_different(tmp_path: Path) -> None:
    """Exit code 4, also of what was said to be applied without asking."""
    plan = tmp_path / "plan.json"
    with keeping(tmp_path) as kept:
        kept.send([OLD])
        kept.trackd("retention", "plan", "--out", plan, code=2)
        kept.send([OLD], each=5)
        refused = kept.trackd("retention", "apply", plan, "--yes", code=4)
        assert f"{months_ago(OLD)} drop reviews: rows 20 became 25" in refused.stderr
        assert "PLAN_STALE" in refused.stderr
        assert "PLAN_STALE" in kept.trackd("retention", "jobs").stdout
        (month,) = [one for one in _months(kept) if one["month"] == str(months_ago(OLD))]
        assert (month["classes"][0]["state"], month["events"]) == ("open", 25)
        plan.write_text(plan.read_text().replace('"rows":20', '"rows":19'))
        assert "PLAN_UNREADABLE" in kept.trackd("retention", "apply", plan, "--yes", code=1).stderr


def _months(kept: Kept) -> list[Any]:
    return [json.loads(line) for line in kept.trackd("retention", "months", "--json").stdout.splitlines()]


def test_a_guard_stops_what_cannot_be_undone_until_it_is_accepted(tmp_path: Path) -> None:
    """The rest is done; the plan says which guard it was, and how to go on without it."""
    with keeping(tmp_path, months_max=1) as kept:
        kept.send([OLD, OLD - 1, OLD - 2], each=5)
        shown = kept.trackd("retention", "plan", code=2)
        assert "[stopped: months_per_run]" in shown.stdout
        assert "3 months would lose something; guards.months_per_run_max is 1" in shown.stdout
        assert "trackd retention plan --accept months_per_run" in shown.stderr
        receipt = kept.told("retention", "apply", "--yes", code=1)
        assert statuses(receipt) == {("seal", "done"), ("freeze", "done"), ("drop", "blocked")}
        receipt = kept.told("retention", "apply", "--yes", "--accept", "months_per_run")
        assert statuses(receipt) == {("drop", "done")}
        assert "no guard that can be accepted" in kept.trackd("retention", "plan", "--accept", "x", code=64).stderr


def test_a_hold_that_is_placed_after_the_plan_makes_it_stale(tmp_path: Path) -> None:
    """The next plan leaves its rows alone and names it; once it is released they go."""
    plan = tmp_path / "plan.json"
    with keeping(tmp_path) as kept:
        kept.send([OLD], each=9)
        kept.trackd("retention", "plan", "--out", plan, code=2)
        placed = kept.told("hold", "add", "--code", "CASE-7", "--reason", "LITIGATION", "--user", "user-1")
        assert (placed["code"], placed["users"], placed["released_ms"]) == ("CASE-7", ["user-1"], None)
        assert (
            "HOLD_EXISTS"
            in kept.trackd("hold", "add", "--code", "CASE-7", "--reason", "A", "--type", "*", code=1).stderr
        )
        assert "drop reviews: rows 9 became 6" in kept.trackd("retention", "apply", plan, "--yes", code=4).stderr
        assert "leaves 3 events alone, held by CASE-7" in kept.trackd("retention", "plan", code=2).stdout
        done = kept.trackd("retention", "apply", "--yes")
        assert "withheld by CASE-7: 3 events" in done.stdout
        held = kept.trackd("retention", "apply", code=3)
        assert f"drop reviews: {months_ago(OLD)}, 3 events: held by CASE-7" in held.stdout
        assert "user user-1" in kept.trackd("hold", "list").stdout
        with Client(kept.daemon.target) as client:
            assert {stored.event.user_id for stored in client.list_events(_in(OLD))} == {"user-1"}
        kept.trackd("hold", "release", "CASE-7")
        assert "HOLD_UNKNOWN" in kept.trackd("hold", "release", "CASE-7", code=1).stderr
        kept.trackd("retention", "apply", "--yes")
        with Client(kept.daemon.target) as client:
            assert list(client.list_events(_in(OLD))) == []


@pytest.fixture
def started(tmp_path: Path) -> Any:
    """Begins `apply` at a daemon, as a process to be watched; yields a function. What is left is ended."""
    processes: list[subprocess.Popen[str]] = []

    def start(kept: Kept) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "server.cli.main", "retention", "apply", "--yes", "--target", kept.socket]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)
        processes.append(process)
        until_s = time.monotonic() + 30
        with Client(kept.socket) as client:
            while not any(job.action > 2 for job in client.retention.jobs()):
                assert time.monotonic() < until_s
                assert process.poll() is None
                time.sleep(0.05)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_whoever_leaves_a_job_can_come_back_to_it_and_cancel_it(tmp_path: Path, started: Any) -> None:
    """Ctrl-C ends the command, not the job; status answers meanwhile; what was cancelled is done by the next run."""
    with keeping(tmp_path, rate=10) as kept:
        kept.send([OLD - number for number in range(8)], each=12)
        process = started(kept)
        process.send_signal(signal.SIGINT)
        _shown, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "job 1 goes on; trackd retention watch 1 comes back to it" in said
        assert kept.told("retention", "status")["running"] == 1
        assert "running   job 1, " in kept.trackd("retention", "status").stdout
        assert "JOB_RUNNING" in kept.trackd("retention", "apply", "--yes", code=1).stderr
        (job,) = map(json.loads, kept.trackd("retention", "jobs", "--json").stdout.splitlines())
        assert (job["number"], job["state"]) == (1, "running")
        kept.trackd("retention", "cancel", "1")
        watched = kept.told("retention", "watch", "1", code=1)
        assert {status for _kind, status in statuses(watched)} == {"done", "stopped"}
        assert kept.told("retention", "status")["running"] is None
        assert "cancelled" in kept.trackd("retention", "jobs").stdout
        assert "JOB_UNKNOWN" in kept.trackd("retention", "watch", "7", code=1).stderr
        assert "whole" in kept.trackd("retention", "verify").stderr
        left = kept.told("retention", "plan", code=2)["actions"]
        done = sum(one["status"] == "done" for one in watched["results"])
        assert 0 < len(left) == len(watched["results"]) - done


def test_nobody_is_asked_where_there_is_no_terminal(tmp_path: Path) -> None:
    """Then --yes has to be said; nothing is done without."""
    with keeping(tmp_path) as kept:
        kept.send([OLD], each=2)
        assert "say --yes" in kept.trackd("retention", "apply", code=64).stderr
        assert kept.trackd("retention", "jobs", "--json").stdout == ""
