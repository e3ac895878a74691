"""A daemon of one's own: started as a child process on free ports in a new directory, ended with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0


class ChildFailed(Exception):
    """The daemon did not start; the text holds the last it said."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a daemon can be reached, as it wrote it itself."""

    grpc: str
    metrics: str
    pid: int


class ChildDaemon:
    """A context manager: inside of it a daemon serves; outside process and directory are gone."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="trackd-demo-"))
        self.data = self.directory / "data"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.addresses = self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process is not None and self._process.poll() is None

    def wait(self) -> None:
        """Waits until the process ends by itself."""
        if self._process is not None:
            self._process.wait()

    def _start(self) -> Addresses:
        ready = self.directory / "ready.json"
        command = [sys.executable, "-m", "server.cli.main", "serve", "--data", str(self.data)]
        command += ["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--ready-file", str(ready)]
        with (self.directory / "daemon.log").open("wb") as log:
            # A process group of its own, so that Ctrl-C reaches us alone and the daemon is stopped in order.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        until_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until_s:
            with contextlib.suppress(OSError, msgspec.DecodeError):
                return msgspec.json.decode(ready.read_bytes(), type=Addresses)
            if not self.alive:
                raise ChildFailed(f"the daemon ended with code {self._process.returncode}: {self._last_words()}")
            time.sleep(0.02)
        raise ChildFailed(f"the daemon was not ready within {START_TIMEOUT_S:g} s: {self._last_words()}")

    def _end(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self.directory / "daemon.log").read_text("utf-8", "replace").strip().splitlines()
            return " / ".join(lines[-3:])
        return os.strerror(2)
