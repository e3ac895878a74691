"""What the commands of retention say, and whom they ask, without a daemon."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from trackd.retention import RetentionJob

from server.cli.retention import following
from server.cli.retention.reach import SOCKET, SOCKET_TARGET, target_of
from server.cli.retention.showing import minute


@pytest.mark.parametrize(
    ("given", "named", "chosen", "beside_a_socket"),
    [
        (None, "", "127.0.0.1:7077", SOCKET_TARGET),
        (None, "host:1", "host:1", SOCKET_TARGET),
        (None, "unix:/run/trackd.sock", "unix:/run/trackd.sock", "unix:/run/trackd.sock"),
        ("host:2", "unix:/run/trackd.sock", "host:2", "host:2"),
    ],
)
def test_the_daemon_beside_it_is_asked_unless_another_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str | None, named: str, chosen: str, beside_a_socket: str
) -> None:
    """Its socket comes before an address that other commands use, and after a socket that is named."""
    monkeypatch.chdir(tmp_path)
    assert target_of(given, {"TRACKD_TARGET": named}) == chosen
    SOCKET.parent.mkdir()
    SOCKET.write_text("no socket")
    assert target_of(given, {"TRACKD_TARGET": named}) == chosen
    SOCKET.unlink()
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(SOCKET))
        assert target_of(given, {"TRACKD_TARGET": named}) == beside_a_socket


def result(action: str, status: str, rows: tuple[int, int] = (0, 0), **fields: Any) -> dict[str, Any]:
    """An action of a receipt."""
    plain = {"action": action, "month": "2025-01", "class": "reviews", "status": status, "reason": "", "problem": ""}
    done = {"rows": list(rows), "bytes": [4_000, 1_000], "withheld": {}} if status == "done" else {}
    return plain | done | fields


def receipt(*results: dict[str, Any]) -> str:
    """A receipt of these."""
    return json.dumps(
        {
            "plan_id": "a" * 64, "actor": "uid:7", "started_ms": 0, "ended_ms": 1_500,
            "evidence": {"sequence": 9, "digest": "b" * 64}, "results": results,
        }
    )  # fmt: skip


def test_a_receipt_sums_up_what_was_done_and_names_what_was_not(capsys: pytest.CaptureFixture[str]) -> None:
    """With the reasons, and what holds kept."""
    results = [
        result("drop", "done", (10, 4), month="2025-02", withheld={"CASE-7": 1}),
        result("drop", "done", (10, 4), withheld={"CASE-7": 2}),
        result("archive", "failed", reason="ARCHIVE_TARGET", problem="it does not answer"),
        result("destroy_archive", "waiting"),
    ]
    assert following.show_end(RetentionJob(number=1, receipt=receipt(*results)), as_json=False) == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "done drop reviews: 2 months, 20 to 8 events, -6.0 kB",
        "failed 2025-01 archive reviews: ARCHIVE_TARGET it does not answer",
        "waiting 2025-01 destroy archive reviews",
        "withheld by CASE-7: 3 events",
    ]
    assert "applied by uid:7 at 1970-01-01 00:00 UTC in 1.5 s: 2 done, 1 failed, 1 waiting" in shown.err
    assert f"evidence: 9:{'b' * 64}" in shown.err


def test_many_that_were_not_done_are_not_all_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """The receipt has them."""
    results = [result("drop", "blocked", reason="clock") for _each in range(following.SHOWN + 3)]
    following.show_end(RetentionJob(receipt=receipt(*results)), as_json=False)
    assert "and 3 actions more that were not done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("job", "code", "said"),
    [
        (RetentionJob(receipt=receipt(result("seal", "done"))), 0, "1 done"),
        (RetentionJob(receipt=receipt()), 0, "no action"),
        (RetentionJob(reason="PLAN_STALE", problem="it is"), 4, "PLAN_STALE: it is"),
        (RetentionJob(reason="STORAGE_IO", problem="it is"), 1, "STORAGE_IO: it is"),
        (RetentionJob(), 1, "without a receipt"),
    ],
)
def test_how_a_job_ended_is_an_exit_code(
    capsys: pytest.CaptureFixture[str], job: RetentionJob, code: int, said: str
) -> None:
    """0 only if all of it was done."""
    assert following.show_end(job, as_json=False) == code
    assert said in capsys.readouterr().err


def test_times_beyond_the_calendar_are_numbers() -> None:
    """Nothing that a daemon says ends a command."""
    assert minute(1_764_000_000_000) == "2025-11-24 16:00"
    assert minute(10**18) == str(10**18)
