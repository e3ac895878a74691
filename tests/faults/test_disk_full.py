"""A full disk under a serving daemon: writes are refused with a retry hint, questions go on, and it heals by itself."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from trackd.appender import Appender
from trackd.channel import open_channel
from trackd.client import Client
from trackd.errors import TrackdError
from trackd.v1.event_pb2 import Event

from server.errors import Unavailable
from server.model import Appended
from server.storage.sqlite.store import SqliteStore
from tests.e2e.conftest import DaemonProcess
from tests.faults.history import SETTINGS, batches, groups
from tests.support.events import read
from tests.support.faulty_disk import Plan, disk_full, faulty_disk
from tests.support.serving import serving
from tests.support.wire import Stream, event, refusal

MIB = 1024 * 1024


@dataclass
class Disk:
    """Where a daemon keeps its data, and the setting under which it can be filled."""

    directory: Path
    free_bytes_min: int
    fill: Callable[[], None]
    clear: Callable[[], None]


@contextmanager
def guarded(directory: Path) -> Iterator[Disk]:
    """The disk that is there: the daemon leaves so much of it free that a file of our own takes the rest.

    One test at a time, also of those in other processes: they would fill each other's disk.
    """
    with (Path(tempfile.gettempdir()) / "trackd-tests-disk-full.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield from _guarded(directory)


def _guarded(directory: Path) -> Iterator[Disk]:
    filler = directory / "filler"
    room = os.statvfs(directory)

    def fill() -> None:
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 600 * MIB)

    yield Disk(directory, room.f_bavail * room.f_frsize - 300 * MIB, fill, lambda: filler.unlink(missing_ok=True))
    filler.unlink(missing_ok=True)


@contextmanager
def tiny(directory: Path) -> Iterator[Disk]:
    """A disk of 12 MiB that runs full in the middle of writing; where it cannot be mounted, `guarded`."""
    place = directory / "tiny"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        with guarded(place) as disk:
            yield disk
        return
    filler = place / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4_096)):
                    pass
            except OSError:
                # Leaves room for a few pages: the disk is to run full while the daemon writes.
                file.truncate(max(0, file.tell() - 40_960))

    try:
        yield Disk(place, 1, fill, lambda: filler.unlink(missing_ok=True))
    finally:
        subprocess.run(["umount", str(place)], check=True)


def until(condition: Callable[[], bool]) -> None:
    """Waits for the daemon to notice."""
    until_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until_s, "it did not come to pass"
        time.sleep(0.05)


def some(count: int = 40) -> list[Event]:
    """Events that need room."""
    return [event(description="d" * 2_000) for _ in range(count)]


def refused_until_full(daemon: DaemonProcess, stream: Stream) -> tuple[list[Event], list[list[Event]]]:
    """Sends until the disk is full and a bit more: what was stored, and the batches that were refused."""
    stored: list[Event] = []
    refused: list[list[Event]] = []
    until_s = time.monotonic() + 30
    while len(refused) < 5:
        assert time.monotonic() < until_s, "the disk does not get full"
        batch = some()
        answer = stream.ask(*batch)
        if answer.WhichOneof("outcome") == "error":
            told = refusal(answer.error)
            assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "DISK_FULL"), daemon.log.read_text()[-900:]
            assert told.retry_after_ms
            refused.append(batch)
        else:
            assert answer.result.accepted == len(batch)
            stored += batch
    return stored, refused


@pytest.mark.parametrize("place", [guarded, tiny])
def test_a_full_disk_refuses_writes_only_and_heals(tmp_path: Path, place: Callable[[Path], Iterator[Disk]]) -> None:
    """On the same stream: DISK_FULL while it is full, stored when there is room; every event once at the end."""
    with place(tmp_path) as disk:  # type: ignore[attr-defined]
        settings = f"[storage]\ndisk_free_bytes_min = {disk.free_bytes_min}\n"
        with (
            serving(disk.directory, settings=settings) as daemon,
            open_channel(daemon.target) as channel,
            Stream(channel) as stream,
            Client(daemon.target) as client,
        ):
            before = some()
            stream.takes(*before)
            disk.fill()
            stored, refused = refused_until_full(daemon, stream)
            until(lambda: client.health("trackd.v1.IngestService").value != "serving")
            assert client.health("trackd.v1.QueryService").value == "serving"
            assert client.count_events().events >= len(before) + len(stored)
            with pytest.raises(TrackdError) as caught:
                client.append(some(), source="unary")
            assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "DISK_FULL")
            assert caught.value.retry_after_ms
            disk.clear()
            until(lambda: client.health("trackd.v1.IngestService").value == "serving")
            for batch in refused:
                result = stream.ask(*batch).result
                assert result.accepted + result.duplicate == len(batch)
            found = [bytes(one.event.id) for one in client.list_events()]
            everything = [*before, *stored, *(one for batch in refused for one in batch)]
            assert sorted(found) == sorted(one.id for one in everything)


def test_the_client_library_waits_a_full_disk_out(tmp_path: Path) -> None:
    """An Appender in the middle of sending: nothing is rejected, nothing is lost, it only takes longer."""
    with tiny(tmp_path) as disk:
        settings = f"[storage]\ndisk_free_bytes_min = {disk.free_bytes_min}\n"
        with serving(disk.directory, settings=settings) as daemon, Client(daemon.target) as client:
            with Appender(daemon.target, source="tests", batch_events=20) as appender:
                appender.send(some())
                appender.flush()
                disk.fill()
                appender.send(some(200))
                until(lambda: client.health("trackd.v1.IngestService").value != "serving")
                disk.clear()
                totals = appender.flush()
            assert (totals.accepted, totals.rejected) == (240, 0)
            assert client.count_events().events == 240


def test_a_store_on_a_full_disk_still_answers(tmp_path: Path) -> None:
    """Refused by the disk itself and not by our own guard, for every group; reads go on; then all is taken."""
    with faulty_disk() as disk:
        store = SqliteStore(tmp_path, SETTINGS, months_max=10)
        first, *others = groups()
        store.append(batches(first))
        before = read(store)
        disk.plan = Plan("write", 1, for_ever=True, error=disk_full)
        for group in others:
            with pytest.raises(Unavailable) as caught:
                store.append(batches(group))
            assert caught.value.reason == "DISK_FULL"
            assert read(store) == before
        disk.plan = Plan()
        for group in others:
            assert all(isinstance(answer, Appended) and not answer.rejected for answer in store.append(batches(group)))
        assert list(store.check()) == []
        store.close()
