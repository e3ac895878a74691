"""Daemons with settings of their own, for one test or for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.storage.factory import check_data
from tests.e2e.conftest import DaemonProcess


@contextmanager
def serving(directory: Path, *options: str, settings: str = "") -> Iterator[DaemonProcess]:
    """A daemon over an empty directory, with these settings (TOML). At the end it is stopped in order and checked."""
    daemon = DaemonProcess(directory)
    if settings:
        file = directory / "trackd.toml"
        file.write_text(settings, "utf-8")
        options = (*options, "--config", str(file))
    daemon.start(*options)
    try:
        yield daemon
        assert daemon.stop() == 0, daemon.log.read_text()[-4_000:]
        assert_sound(daemon.data)
        assert_no_defect(daemon)
    finally:
        daemon.kill()


def assert_sound(data: Path) -> None:
    """`trackd check` would find nothing. Without the command, since starting that takes longer than what it does."""
    assert check_data(data) == []


def assert_no_defect(daemon: DaemonProcess) -> None:
    """The daemon logged no exception: whatever was sent to it, it knew what to say.

    But for one that gRPC itself meets, and gets over, where metadata is no text.
    """
    told = daemon.log.read_text()
    raised = [line for line in told.splitlines() if '"raised"' in line and "Invalid encoding on" not in line]
    assert raised == [], raised[-10:]
    assert "unexpected_error" not in told, told[-4_000:]
    assert "Traceback" not in told, told[-4_000:]


def peak_rss_bytes(daemon: DaemonProcess) -> int:
    """The most memory that the daemon ever had (proc(5), VmHWM)."""
    assert daemon.process
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
