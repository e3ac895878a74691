"""What a supervisor is told about the daemon: that it serves, lives, stops.

The protocol is sd_notify(3): datagrams with lines KEY=VALUE to the Unix socket that NOTIFY_SOCKET names. systemd speaks
it (Type=notify), and so does podman. Whoever did not set it is told nothing.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Mapping

import structlog

log = structlog.get_logger(__name__)

PINGS_IN_TIME = 4
"""A ping that is late, or lost, must not look like a daemon that is stuck."""


class Supervisor:
    """Never raises, never waits: a supervisor that does not listen must not stop the daemon."""

    def __init__(
        self, environment: Mapping[str, str], *, pid: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`environment` is that of the process, `pid` its id: what is meant for another process is not for this one."""
        self._clock = clock
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environment, pid)
        """The daemon is taken for stuck when it has not been seen alive for so long; infinite if nobody watches."""
        self._pinged = -math.inf
        self._heartbeat: float | None = None
        self._status = ""

    def ready(self) -> None:
        """Everything is served."""
        self._tell("READY=1")

    def stopping(self, status: str) -> None:
        """The end has begun."""
        self._status = status
        self._tell("STOPPING=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """One line for people, as `systemctl status` shows it. The same line again is not told again."""
        if status != self._status:
            self._status = status
            self._tell(f"STATUS={status}")

    def alive(self, heartbeat: float) -> None:
        """Pings the watchdog, unless `heartbeat` is what it was at the last ping: then somebody behind it is stuck.

        To be called at least twice in `watchdog_s`.
        """
        now = self._clock()
        watched = self.watchdog_s < math.inf
        if watched and heartbeat != self._heartbeat and now - self._pinged >= self.watchdog_s / PINGS_IN_TIME:
            self._heartbeat, self._pinged = heartbeat, now
            self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
                own.setblocking(False)
                own.sendto("\n".join(lines).encode("utf-8"), self._address)
        except OSError as error:
            log.warning("supervisor_not_told", problem=error.strerror)


def _address(notify_socket: str) -> str:
    """As Python wants it: an abstract socket has a zero byte where the variable has "@". Other kinds are not spoken."""
    if notify_socket.startswith("/"):
        return notify_socket
    if notify_socket.startswith("@"):
        return "\0" + notify_socket[1:]
    if notify_socket:
        log.warning("supervisor_not_told", problem="NOTIFY_SOCKET is neither a path nor an abstract socket")
    return ""


def _watchdog_s(environment: Mapping[str, str], pid: int) -> float:
    """WATCHDOG_USEC and WATCHDOG_PID of sd_watchdog_enabled(3)."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid) or not microseconds.isdecimal() or not int(microseconds):
        return math.inf
    return int(microseconds) / 1e6
