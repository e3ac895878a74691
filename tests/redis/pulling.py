"""A running `trackd pull`, and what it must have brought about in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trackd.client import Client

from server.cli.pulling.entry import Entry, event_of
from tests.e2e.conftest import DaemonProcess
from tests.redis.conftest import RedisProcess

PATIENCE_S = 60.0
STREAM, GROUP = "reviews", "g"


def command(server: RedisProcess, *options: str) -> list[str]:
    """The command line for the stream of these tests."""
    found = [sys.executable, "-m", "server.cli.main", "pull", server.url, "--stream", STREAM, "--group", GROUP]
    return [*found, "--create-group", *options]


def environment(daemon: DaemonProcess) -> dict[str, str]:
    """That of a command for this daemon."""
    return os.environ | {"TRACKD_TARGET": daemon.target, "COLUMNS": "100", "NO_COLOR": "1"}


def pull(server: RedisProcess, daemon: DaemonProcess, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs it to its end, which --once or --until-idle must bring."""
    return subprocess.run(
        command(server, *options),
        env=environment(daemon),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def told(server: RedisProcess, daemon: DaemonProcess, *options: str, code: int = 0) -> Any:
    """The JSON of a run that ends with this code."""
    done = pull(server, daemon, "--json", *options)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


class Running:
    """A process of its own, for as long as nobody ends it."""

    def __init__(self, server: RedisProcess, daemon: DaemonProcess, log: Path, *options: str) -> None:
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                command(server, "--json", *options),
                env=environment(daemon),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> tuple[int, Any]:
        """SIGTERM; the exit code and the JSON."""
        self.process.terminate()
        said, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, json.loads(said)


def add(client: Any, entries: int, fields: dict[str, str]) -> None:
    """Many entries that say the same."""
    with client.pipeline(transaction=False) as pipeline:
        for _ in range(entries):
            pipeline.xadd(STREAM, fields)
        pipeline.execute()


def until(true: Callable[[], bool], what: str = "") -> None:
    """Waits for what other processes do."""
    until_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until_s, what
        time.sleep(0.02)


def stored(daemon: DaemonProcess) -> dict[bytes, Any]:
    """All events by id; each must be there once."""
    with Client(daemon.target) as client:
        found = [one.event for one in client.list_events()]
    by_id = {bytes(event.id): event for event in found}
    assert len(by_id) == len(found), "an event is stored twice"
    return by_id


def assert_all_stored(client: Any, daemon: DaemonProcess) -> int:
    """Every entry of the stream is stored, once and as it is, nothing else is, and nothing is pending."""
    wanted = {}
    for identifier, fields in client.xrange(STREAM):
        content = [part.encode() for pair in fields.items() for part in pair]
        event = event_of(Entry(STREAM, identifier, content))
        wanted[event.id] = event
    found = stored(daemon)
    assert len(found) == len(wanted)
    assert found == wanted
    assert client.xpending(STREAM, GROUP)["pending"] == 0
    return len(wanted)
