"""A real daemon for tests that drive the real commands."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.storage.factory import check_data
from tests.support import processes
from tests.support.processes import Trackd

START_TIMEOUT_S = 30.0


class DaemonProcess:
    """One data directory and port, and the process that serves it, which can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.log = directory / "daemon.log"
        self._ready = directory / "ready.json"
        self.target = f"127.0.0.1:{free_port()}"
        self.metrics = ""
        self.process: Trackd | None = None

    def start(self, *options: str) -> None:
        """Starts it and returns once it serves."""
        self._ready.unlink(missing_ok=True)
        arguments = ["serve", "--data", str(self.data), "--listen", self.target, "--metrics", "127.0.0.1:0"]
        self.process = Trackd([*arguments, "--ready-file", str(self._ready), *options], out=self.log)
        until_s = time.monotonic() + START_TIMEOUT_S
        while not self._ready.exists():
            if self.process.poll() is not None or time.monotonic() > until_s:
                raise AssertionError(f"the daemon did not start: {self.log.read_text()[-2_000:]}")
            time.sleep(0.01)
        self.metrics = json.loads(self._ready.read_text())["metrics"]

    def kill(self) -> None:
        """SIGKILL: what is not on disk is lost."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(30)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon that serves an empty directory. At the end of the test it is stopped and checked."""
    served = DaemonProcess(tmp_path)
    served.start()
    yield served
    served.stop()
    assert check_data(served.data) == []


def run(*arguments: str, target: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command `trackd` to its end."""
    environment = os.environ | {"TRACKD_TARGET": target, "COLUMNS": "100", "NO_COLOR": "1"}
    return processes.run(arguments, env=environment, cwd=cwd, timeout_s=90)
