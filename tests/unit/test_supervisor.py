"""What a supervisor is told, on a real socket."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import structlog.testing

from server.supervisor import Supervisor
from tests.support.notified import listening

ME = 4711


def test_it_is_told_of_start_course_and_end(tmp_path: Path) -> None:
    """In lines of sd_notify(3); a status that has not changed is told once."""
    with listening(tmp_path / "notify") as notified:
        supervisor = Supervisor({"NOTIFY_SOCKET": str(tmp_path / "notify")}, pid=ME)
        for status in ("opening", "serving", "serving"):
            supervisor.status(status)
        supervisor.ready()
        supervisor.stopping("bye")
        supervisor.status("bye")
        assert notified.hear() == ["STATUS=opening", "STATUS=serving", "READY=1", "STOPPING=1", "STATUS=bye"]


def test_an_abstract_socket_is_found() -> None:
    """Its name begins with "@" in the variable and with a zero byte in the system."""
    name = f"trackd-test-{os.getpid()}"
    with listening(f"\0{name}") as notified:
        Supervisor({"NOTIFY_SOCKET": f"@{name}"}, pid=ME).ready()
        assert notified.hear() == ["READY=1"]


def test_the_watchdog_is_pinged_while_the_heart_beats(tmp_path: Path) -> None:
    """Four times in its time at most, and not once for a heartbeat that it has seen."""
    now = [0.0]
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "8000000", "WATCHDOG_PID": str(ME)}
    with listening(tmp_path / "notify") as notified:
        supervisor = Supervisor(environment, pid=ME, clock=lambda: now[0])
        assert supervisor.watchdog_s == 8.0
        pings = []
        for second in range(12):
            now[0] = float(second)
            supervisor.alive(heartbeat=min(now[0], 5.0))  # from then on it is stuck
            pings.append(len(notified.hear()))
        assert pings == [1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 4, 4]
        assert set(notified.told) == {"WATCHDOG=1"}


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}],
)
def test_who_does_not_watch_is_not_pinged(environment: dict[str, str], tmp_path: Path) -> None:
    """No time, one that is none, or that of another process."""
    with listening(tmp_path / "notify") as notified:
        supervisor = Supervisor(environment | {"NOTIFY_SOCKET": str(tmp_path / "notify")}, pid=ME)
        assert supervisor.watchdog_s == math.inf
        supervisor.alive(heartbeat=1.0)
        assert notified.hear() == []


def test_nobody_is_told_where_nobody_asked() -> None:
    """Without NOTIFY_SOCKET there is nothing to do and nothing to say."""
    with structlog.testing.capture_logs() as logged:
        supervisor = Supervisor({}, pid=ME)
        supervisor.ready()
        supervisor.stopping("bye")
    assert logged == []


@pytest.mark.parametrize("address", ["/nowhere/notify", "vsock:2:1234"])
def test_a_supervisor_that_is_not_there_is_logged_and_no_more(address: str) -> None:
    """The daemon serves all the same."""
    with structlog.testing.capture_logs() as logged:
        Supervisor({"NOTIFY_SOCKET": address}, pid=ME).ready()
    assert [line["event"] for line in logged] == ["supervisor_not_told"]


def test_a_supervisor_that_does_not_listen_holds_nothing_up(tmp_path: Path) -> None:
    """Its socket is full: what does not fit is dropped and logged."""
    with listening(tmp_path / "notify"), structlog.testing.capture_logs() as logged:
        supervisor = Supervisor({"NOTIFY_SOCKET": str(tmp_path / "notify")}, pid=ME)
        for number in range(2_000):
            supervisor.status(f"{number}")
    assert {line["event"] for line in logged} == {"supervisor_not_told"}
