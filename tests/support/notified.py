"""The end of a supervisor: a socket that hears what a daemon tells (sd_notify(3))."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_S = 20.0


class Notified:
    """Everything that was told so far, in order."""

    def __init__(self, own: socket.socket) -> None:
        self._socket = own
        self.told: list[str] = []

    def hear(self) -> list[str]:
        """What has come by now."""
        while True:
            try:
                self.told += self._socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return self.told

    def until(self, line: str) -> None:
        """Returns when it was told, and forgets what was told up to then."""
        end_s = time.monotonic() + WAIT_S
        while line not in self.hear():
            assert time.monotonic() < end_s, f"{line} was not told, but {self.told}"
            time.sleep(0.005)
        del self.told[: self.told.index(line) + 1]


@contextmanager
def listening(address: str | Path) -> Iterator[Notified]:
    """A socket with this path; one of the abstract namespace if it begins with a zero byte."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        own.bind(str(address))
        own.setblocking(False)
        yield Notified(own)
