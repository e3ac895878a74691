"""`trackd tail` as people and scripts use it."""

from __future__ import annotations

import json
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from trackd.client import Client
from trackd.v1.event_pb2 import Event

from tests.e2e.conftest import DaemonProcess, run
from tests.support.serving import serving
from tests.support.wire import event, now_ms


class Tail:
    """A `trackd tail` that runs, and the lines that it prints."""

    def __init__(self, daemon: DaemonProcess, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "server.cli.main", "tail", "--target", daemon.target, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))

    def line(self) -> str:
        """The next line."""
        return self._lines.get(timeout=20)

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Ends it; its exit code and what it said on standard error."""
        self.process.send_signal(number)
        code = self.process.wait(20)
        self._reading.join(20)
        with self.process:
            assert self.process.stderr is not None
            return code, self.process.stderr.read()


def send(daemon: DaemonProcess, *events: Event) -> int:
    """Appends; the last position."""
    with Client(daemon.target) as client:
        return client.append(events, source="tests").last_position


def go_on(said: str) -> int:
    """The position to resume at."""
    found = re.search(r"--from (\d+)", said)
    assert found, said
    return int(found[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_shows_what_comes_until_it_is_stopped(daemon: DaemonProcess, number: signal.Signals) -> None:
    """One event a line; Ctrl-C is no error, and says where to go on."""
    send(daemon, event(type="before"))
    tail = Tail(daemon, "--from", "0")
    assert "before" in tail.line()
    send(daemon, event(type="review_submitted", user_id="ann", tags=["docs"], metadata='{"pr": 42}'))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  review_submitted  ann +docs  pr=42", tail.line())
    last = send(daemon, event(user_id="steer\x1b[31m"))
    assert "\x1b" not in tail.line()
    code, said = tail.end(number)
    assert (code, go_on(said)) == (0, last)


def test_it_goes_on_where_it_ended(daemon: DaemonProcess) -> None:
    """Whatever --limit cut off comes next, once; JSON lines are those of `trackd events`."""
    send(daemon, *(event(user_id=f"u{n}", timestamp_ms=now_ms() - n * 10**9) for n in range(10)))
    first = run("tail", "--from", "beginning", "--limit", "4", "--json", target=daemon.target)
    assert first.returncode == 0
    rest = run("tail", "--from", str(go_on(first.stderr)), "--limit", "6", "--json", target=daemon.target)
    listed = run("events", "--order", "position_asc", "--json", target=daemon.target)
    assert first.stdout + rest.stdout == listed.stdout


def test_it_chooses_as_events_does(daemon: DaemonProcess) -> None:
    """The same filters; a time is one of receipt."""
    send(daemon, event(user_id="ann"), event(user_id="ben"))
    time.sleep(0.05)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{now_ms() % 1000:03d}"
    time.sleep(0.05)
    send(daemon, event(user_id="cem", timestamp_ms=now_ms() - 10**9), event(user_id="ann", type="late"))
    shown = run("tail", "--from", "beginning", "--user", "ann", "--limit", "2", "--json", target=daemon.target)
    assert [json.loads(line)["user_id"] for line in shown.stdout.splitlines()] == ["ann", "ann"]
    shown = run("tail", "--from", moment, "--limit", "2", "--json", target=daemon.target)
    assert [json.loads(line)["user_id"] for line in shown.stdout.splitlines()] == ["cem", "ann"]


def test_it_waits_for_a_daemon_that_restarts(tmp_path: Path) -> None:
    """It says so once each way, and shows each event once."""
    with serving(tmp_path) as daemon:
        send(daemon, event(user_id="u1"))
        tail = Tail(daemon, "--from", "beginning", "--json")
        assert json.loads(tail.line())["user_id"] == "u1"
        daemon.kill()
        time.sleep(1)
        daemon.start()
        last = send(daemon, event(user_id="u2"))
        assert json.loads(tail.line())["user_id"] == "u2"
        code, said = tail.end(signal.SIGINT)
        assert (code, go_on(said)) == (0, last)
        assert said.count("waiting") == said.count("the daemon is back") == 1


def test_a_month_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """On standard error, while the events of the others are shown."""
    with serving(tmp_path) as daemon:
        send(daemon, event(timestamp_ms=now_ms() - 40 * 86_400_000), event(user_id="ann"))
        daemon.stop()
        file = min(daemon.data.glob("months/*/*/events.db"))
        whole = file.read_bytes()
        file.write_bytes(b"not a database" * 1_000)
        daemon.start()
        shown = run("tail", "--from", "beginning", "--limit", "1", "--json", target=daemon.target)
        assert json.loads(shown.stdout)["user_id"] == "ann"
        assert f"events of {file.parts[-3]} may be missing: the month is damaged" in shown.stderr
        daemon.stop()
        file.write_bytes(whole)
        daemon.start()


def test_what_cannot_be_followed_is_said(daemon: DaemonProcess) -> None:
    """A position above the head, no time, no daemon: one line and the exit codes of the other commands."""
    ahead = run("tail", "--from", "999999999", target=daemon.target)
    assert ahead.returncode == 1
    assert "POSITION_AHEAD" in ahead.stderr
    assert "go on" not in ahead.stderr
    assert run("tail", "--from", "someday", target=daemon.target).returncode == 2
    nobody = run("tail", target="127.0.0.1:1")
    assert nobody.returncode == 2
    assert "no daemon answers" in nobody.stderr
