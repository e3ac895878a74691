r"""Batches in files, for when memory is full and the daemon away: the process may end, and the next one sends them.

A directory holds segments, each written by one process, append-only, and locked by it (flock) for as long as it lives;
whoever finds a segment without a living owner takes it over. A segment is deleted when all its events have their final
answer. Records reach the operating system before they count, not the disk: they survive the process, not a power cut.

    segment  "trackd-spill 1 SOURCE\\n" record*
    record   magic "TKR1", payload bytes, events, first (64 bits), crc32 of the payload, crc32 of the 24 bytes before
             (big endian), then the payload: one encoded AppendStreamRequest
"""

from __future__ import annotations

import logging
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from trackd.events import new_id
from trackd.framing import Batch, encode, events_of, join
from trackd.progress import Origin

try:
    import fcntl
except ImportError:  # the system has no such locks
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".spill"
DAMAGED = ".damaged"

_MAGIC = b"TKR1"
_HEAD = struct.Struct(">4sIIQI")
_CHECK = struct.Struct(">I")
_HEAD_BYTES = _HEAD.size + _CHECK.size
_log = logging.getLogger("trackd")


@dataclass(slots=True)
class Segment:
    """One open and locked file. `unread` are events behind `read_at`. Each count has one writer and needs no lock."""

    path: Path
    descriptor: int
    size: int
    read_at: int
    place: int | None = None
    """Of the next event to be read, where another process has written it; else places are as they are written."""
    unread: int = 0
    written: int = 0
    lost: int = 0
    settled: int = 0
    """Events with a final answer; written by whoever gets the answers."""
    damaged: bool = False

    @property
    def unsettled(self) -> int:
        """Events that are in here and have no final answer."""
        return self.written - self.lost - self.settled


@dataclass(frozen=True, slots=True)
class _Record:
    events: int
    first: int
    payload_bytes: int
    payload_crc: int


class Spill:
    """The segments of one process, a queue of batches; one thread at a time, but for Segment.settled.

    `bytes_max` bounds all its segments together. OSError is for the caller of the constructor and of adopt only.
    """

    def __init__(self, directory: Path, source: str, *, bytes_max: int, segment_bytes: int = 16 << 20) -> None:
        self.directory = directory
        self.trouble = ""
        """The last thing that went wrong with a file, for people."""
        self.damaged_events = 0
        """Events that could be counted and not read any more."""
        self._title = f"trackd-spill 1 {source}\n".encode()
        self._bytes_max = bytes_max
        self._segment_bytes = segment_bytes
        self._segments: list[Segment] = []
        self._current: Segment | None = None
        if fcntl is None:
            raise OSError("spilling needs the file locks of a POSIX system")
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def unread_events(self) -> int:
        """Events that `read` will give."""
        return sum(segment.unread for segment in self._segments)

    @property
    def unsettled_events(self) -> int:
        """Events in files that have no final answer."""
        return sum(segment.unsettled for segment in self._segments)

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self._segments)

    def adopt(self) -> int:
        """Takes over what processes of the same source left that live no more; how many events. They get places from 0.

        A record that was being written when its process was killed is not there.
        """
        first = 0
        for path in sorted(self.directory.glob(f"*{SUFFIX}")):
            descriptor = _locked(path)
            if descriptor is None:
                continue
            segment = Segment(path, descriptor, os.fstat(descriptor).st_size, len(self._title), place=first)
            title = os.pread(descriptor, len(self._title), 0)
            if title != self._title:
                # Nothing, or part of our title: its process was killed before it had written more. Still locked: one
                # that lives, and has only just made it, sees that it is gone.
                if self._title.startswith(title):
                    path.unlink(missing_ok=True)
                os.close(descriptor)
                continue
            self._survey(segment)
            first += segment.unread
            self._segments.append(segment)
        return first

    def append(self, batch: Batch) -> Segment | None:
        """Writes a batch down; where it is, or None if there is no room (see `trouble`): then nothing was written."""
        head = _HEAD.pack(_MAGIC, len(batch.frame), batch.events, batch.first, zlib.crc32(batch.frame))
        record = head + _CHECK.pack(zlib.crc32(head)) + batch.frame
        if self.size + len(record) > self._bytes_max:
            self.trouble = f"the spilled events take up all of their {self._bytes_max:,} bytes"
            return None
        try:
            if self._current is None or self._current.size >= self._segment_bytes:
                self._current = self._create()
            segment = self._current
            _write(segment, record)
        except OSError as error:
            self.trouble = f"events cannot be spilled: {error}"
            return None
        segment.unread += batch.events
        segment.written += batch.events
        return segment

    def read(self) -> Batch | None:
        """The oldest batch that was not read; None if there is none. Its origin names the segment."""
        for segment in self._segments:
            while segment.unread:
                record = self._record(segment, segment.read_at)
                if record is None:
                    self._lose(segment, segment.unread)
                    break
                at = segment.read_at + _HEAD_BYTES
                segment.read_at = at + record.payload_bytes
                frame = os.pread(segment.descriptor, record.payload_bytes, at)
                if zlib.crc32(frame) != record.payload_crc:
                    self._lose(segment, record.events)
                    continue
                segment.unread -= record.events
                return _batch(segment, record, frame)
        return None

    def sweep(self) -> None:
        """Deletes segments whose events all have their final answer; what is damaged is set aside instead."""
        for segment in [one for one in self._segments if not one.unsettled]:
            try:
                if segment.damaged:
                    segment.path.rename(segment.path.with_suffix(DAMAGED))
                    _log.warning("%s was damaged; what could not be read is kept", segment.path.with_suffix(DAMAGED))
                else:
                    segment.path.unlink(missing_ok=True)
            except OSError as error:
                self.trouble = f"a spilled file cannot be removed: {error}"
            self._segments.remove(segment)
            if segment is self._current:
                self._current = None
            os.close(segment.descriptor)

    def close(self) -> None:
        """Lets go of the files; what has no final answer stays for the next process."""
        self.sweep()
        self.abandon()

    def abandon(self) -> None:
        """Closes the files without touching them: in a forked child they are the parent's."""
        for segment in self._segments:
            os.close(segment.descriptor)
        self._segments, self._current = [], None

    def _create(self) -> Segment:
        # Ids rise with time, so that names tell the order.
        path = self.directory / f"{new_id().hex()}{SUFFIX}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        segment = Segment(path, descriptor, 0, len(self._title))
        try:
            # Another process may have found it in between, empty and without an owner.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink == 0:
                os.close(descriptor)
                return self._create()
            _write(segment, self._title)
        except OSError:
            os.close(descriptor)
            raise
        self._segments.append(segment)
        return segment

    def _survey(self, segment: Segment) -> None:
        """Counts the events of a segment and notes where it ends, torn or damaged."""
        at = segment.read_at
        while at < segment.size:
            record = self._record(segment, at)
            if record is None:
                # What is shorter than a head is torn; so is a record that ends too early (below).
                segment.damaged = segment.size - at >= _HEAD_BYTES
                break
            at += _HEAD_BYTES + record.payload_bytes
            if at > segment.size:
                break
            segment.unread += record.events
        segment.written = segment.unread

    @staticmethod
    def _record(segment: Segment, at: int) -> _Record | None:
        raw = os.pread(segment.descriptor, _HEAD_BYTES, at)
        if len(raw) < _HEAD_BYTES or _CHECK.unpack_from(raw, _HEAD.size)[0] != zlib.crc32(raw[: _HEAD.size]):
            return None
        magic, payload_bytes, events, first, payload_crc = _HEAD.unpack_from(raw)
        return _Record(events, first, payload_bytes, payload_crc) if magic == _MAGIC else None

    def _lose(self, segment: Segment, events: int) -> None:
        segment.damaged = True
        segment.unread -= events
        segment.lost += events
        self.damaged_events += events
        self.trouble = f"{events:,} spilled events in {segment.path} cannot be read"
        _log.error("%s", self.trouble)


def _batch(segment: Segment, record: _Record, frame: bytes) -> Batch:
    events = events_of(Batch(record.first + 1, record.first, record.events, frame, 0))
    first = record.first
    if segment.place is not None:
        first = segment.place
        segment.place += record.events
    return join(first, [encode(event) for event in events], origin=Origin(first, record.events, record.events, segment))


def _write(segment: Segment, data: bytes) -> None:
    """Appends all of it or, if that fails, nothing."""
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(segment.descriptor, left) :]
    except OSError:
        os.ftruncate(segment.descriptor, segment.size)
        raise
    segment.size += len(data)


def _locked(path: Path) -> int | None:
    """A descriptor of the file with its lock; None if it has an owner or is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if os.fstat(descriptor).st_nlink == 0:  # its owner has just finished with it
        os.close(descriptor)
        return None
    return descriptor
