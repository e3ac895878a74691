"""A driver: the process that does with one client what the harness asks for, over JSON lines."""

from __future__ import annotations

import json
import os
import queue
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
PREFIX = "TRACKD_DRIVER_"
"""TRACKD_DRIVER_NODE="node clients/node/conformance.js": a language, and how its driver is started from the root."""
ANSWER_TIMEOUT_S = 60.0
_RESIDENT = re.compile(r"^VmRSS:\s+(\d+) kB", re.MULTILINE)


def commands(environment: Mapping[str, str] = os.environ) -> dict[str, list[str]]:
    """Language -> how its driver is started, without the address. Python always, others where the environment says."""
    found = {"python": [sys.executable, "clients/python/conformance.py"]}
    for name, command in sorted(environment.items()):
        if name.startswith(PREFIX) and command.strip():
            found[name.removeprefix(PREFIX).lower()] = shlex.split(command)
    return found


class Driver:
    """A running driver. Commands may be sent ahead; answers come in their order."""

    def __init__(self, command: list[str], target: str, stderr: IO[bytes]) -> None:
        self._process = subprocess.Popen(
            [*command, target],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=os.environ | {"PYTHONWARNINGS": "error"},
        )
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="driver", daemon=True)
        self._reader.start()
        self.unanswered = 0
        """Commands whose answer was not fetched."""

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def send(self, command: Mapping[str, Any]) -> None:
        """Sends a command and waits for nothing."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise AssertionError(f"the driver ended with {self._process.wait(10)} instead of reading") from None
        self.unanswered += 1

    def answer(self, timeout_s: float = ANSWER_TIMEOUT_S) -> dict[str, Any]:
        """The next answer; AssertionError if there is none in time, or it is not one JSON object."""
        assert self.unanswered, "no command is unanswered"
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise AssertionError(f"the driver did not answer within {timeout_s:g} s") from None
        assert line, f"the driver ended with {self._process.wait(10)} instead of answering"
        self.unanswered -= 1
        answer = json.loads(line)
        assert isinstance(answer, dict), line
        return answer

    @property
    def has_answered(self) -> bool:
        """Whether an answer waits to be fetched."""
        return not self._lines.empty()

    def ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a command and returns its answer, which must not be an error."""
        self.send(command)
        answer = self.answer()
        assert "error" not in answer, (command["cmd"], answer)
        return answer

    def resident_bytes(self) -> int:
        """What the process and those it started hold in memory now (proc(5), VmRSS)."""
        found = [_RESIDENT.search(status.read_text("ascii", "replace")) for status in _statuses(self._process.pid)]
        return sum(int(one[1]) * 1024 for one in found if one)

    def end(self) -> None:
        """End of input; the driver must leave with 0 and say nothing more."""
        assert self._process.stdin
        self._process.stdin.close()
        code = self._process.wait(20)
        assert code == 0, f"the driver ended with {code}"
        self._reader.join(10)
        assert not self.unanswered
        assert self._lines.get(timeout=10) == b"", "the driver wrote more than it was asked for"

    def kill(self) -> None:
        """Whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(10)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            try:
                pipe.close()
            except BrokenPipeError:  # what was written and never read
                continue


def _statuses(pid: int) -> Iterator[Path]:
    """The status files of a process and its descendants."""
    yield Path(f"/proc/{pid}/status")
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text("ascii").split():
            yield from _statuses(int(child))


@contextmanager
def driving(command: list[str], target: str, directory: Path) -> Iterator[Driver]:
    """A driver, ended in order; where that or anything before it fails, what it wrote to stderr is shown."""
    log = directory / "driver.log"
    with log.open("wb") as stderr:
        driver = Driver(command, target, stderr)
    try:
        yield driver
        driver.end()
    except BaseException:
        print(log.read_text("utf-8", "replace")[-4_000:])
        raise
    finally:
        driver.kill()
