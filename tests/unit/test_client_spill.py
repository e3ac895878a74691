"""Spill files: they survive the process, one owner each, torn and damaged ones included."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import trackd
from trackd.framing import Batch, events_of, make_batch
from trackd.progress import Origin
from trackd.spill import Segment, Spill

PLENTY = 1 << 30


def batch(first: int, events: int = 2) -> Batch:
    """A batch of events that tell their places."""
    return make_batch(first, [trackd.new_event("t", user_id=str(first + at)) for at in range(events)])


def opened(directory: Path, *, bytes_max: int = PLENTY, segment_bytes: int = PLENTY, source: str = "tests") -> Spill:
    """The directory, with whatever is in it taken over."""
    spill = Spill(directory, source, bytes_max=bytes_max, segment_bytes=segment_bytes)
    spill.adopt()
    return spill


def users(one: Batch | None) -> list[str]:
    """Who is in a batch."""
    return [event.user_id for event in events_of(one)] if one else []


def read_all(spill: Spill) -> list[str]:
    """Who is in all batches that can be read."""
    return [user for one in iter(spill.read, None) for user in users(one)]


def settle(one: Batch | None) -> None:
    """A batch that was read has its final answer."""
    assert one is not None
    cast(Segment, cast(Origin, one.origin).place).settled += one.events


def files(directory: Path) -> list[Path]:
    """The segments in a directory."""
    return sorted(directory.glob("*.spill"))


def test_batches_come_back_in_order_with_their_places(tmp_path: Path) -> None:
    """From the same process: the same bytes."""
    spill = opened(tmp_path)
    written = [batch(0), batch(2, 3), batch(5)]
    for one in written:
        assert spill.append(one)
    assert (spill.unread_events, spill.unsettled_events) == (7, 7)
    back = [spill.read() for _ in written]
    assert [one.frame for one in back if one] == [one.frame for one in written]
    assert spill.read() is None
    assert (spill.unread_events, spill.unsettled_events) == (0, 7)


def test_a_segment_is_deleted_when_all_of_it_is_answered(tmp_path: Path) -> None:
    """Not when it is read; a new one begins afterwards."""
    spill = opened(tmp_path)
    spill.append(batch(0))
    spill.append(batch(2))
    first, second = spill.read(), spill.read()
    spill.sweep()
    settle(first)
    spill.sweep()
    assert len(files(tmp_path)) == 1
    settle(second)
    spill.sweep()
    assert (files(tmp_path), spill.size) == ([], 0)
    spill.append(batch(4))
    assert users(spill.read()) == ["4", "5"]


def test_large_segments_are_followed_by_others_and_go_one_by_one(tmp_path: Path) -> None:
    """So that room is given back while there is still more."""
    spill = opened(tmp_path, segment_bytes=1)
    for first in range(0, 6, 2):
        spill.append(batch(first))
    assert len(files(tmp_path)) == 3
    settle(spill.read())
    spill.sweep()
    assert len(files(tmp_path)) == 2
    assert read_all(spill) == ["2", "3", "4", "5"]


def test_all_files_together_stay_within_the_bound(tmp_path: Path) -> None:
    """What does not fit is not written; answered segments make room."""
    size = opened(tmp_path / "probe").append(batch(0))
    assert size is not None
    spill = opened(tmp_path / "real", bytes_max=size.size * 2, segment_bytes=1)
    assert [spill.append(batch(first)) is not None for first in (0, 2, 4)] == [True, True, False]
    assert sum(path.stat().st_size for path in files(tmp_path / "real")) == spill.size <= size.size * 2
    assert "take up all" in spill.trouble
    settle(spill.read())
    spill.sweep()
    assert spill.append(batch(4))
    assert read_all(spill) == ["2", "3", "4", "5"]


def test_the_next_process_takes_over_what_has_no_answer(tmp_path: Path) -> None:
    """With places from 0, in the order it was written, and deletes it once it is answered."""
    before = opened(tmp_path, segment_bytes=1)
    for first in (1_000, 1_002, 1_004):
        before.append(batch(first))
    settle(before.read())
    before.close()
    after = Spill(tmp_path, "tests", bytes_max=PLENTY)
    assert after.adopt() == 4
    one, another = after.read(), after.read()
    assert [(found.first, found.id, users(found)) for found in (one, another) if found] == [
        (0, 1, ["1002", "1003"]),
        (2, 3, ["1004", "1005"]),
    ]
    settle(one)
    settle(another)
    after.close()
    assert files(tmp_path) == []


def test_a_segment_with_a_living_owner_is_left_alone(tmp_path: Path) -> None:
    """Two Trackers with one directory do not send each other's events; nor does one of another source, ever."""
    owner = opened(tmp_path)
    owner.append(batch(0))
    assert opened(tmp_path).unread_events == 0
    owner.close()
    assert opened(tmp_path, source="other").unread_events == 0
    assert opened(tmp_path, source="test").unread_events == 0
    assert opened(tmp_path).unread_events == 2


@pytest.mark.parametrize(
    "source", ["a", "a-service-with-a-name-that-is-longer-than-a-whole-segment-of-the-other-one" * 4]
)
def test_a_segment_of_another_source_is_left_alone(tmp_path: Path, source: str) -> None:
    """However long the names and however short the segment."""
    spill = opened(tmp_path, source="b")
    assert spill.append(batch(0, 1))
    spill.close()
    opened(tmp_path, source=source).close()
    assert read_all(opened(tmp_path, source="b")) == ["0"]


def test_a_segment_that_somebody_finds_before_it_has_an_owner_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made, and not locked yet: whoever looks at that moment takes it for one that was left behind, and deletes it."""
    lock = fcntl.flock

    def later(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        opened(tmp_path).close()
        lock(descriptor, how)

    spill = opened(tmp_path)
    monkeypatch.setattr(fcntl, "flock", later)
    assert spill.append(batch(0))
    spill.close()
    assert read_all(opened(tmp_path)) == ["0", "1"]


def test_a_forked_child_lets_go_without_unlocking(tmp_path: Path) -> None:
    """The lock stays with the parent, and the file stays as it is."""
    # In a process of its own, without threads: those of pytest must not be forked.
    code = """
import os, sys, pathlib
from tests.unit.test_client_spill import batch, opened, read_all
directory = pathlib.Path(sys.argv[1])
owner = opened(directory)
owner.append(batch(0))
child = os.fork()
if child == 0:
    owner.abandon()
    os._exit(opened(directory).unread_events)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert read_all(owner) == ["0", "1"]
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)


def test_a_torn_tail_costs_what_was_being_written_and_no_more(tmp_path: Path) -> None:
    """Cut off at every byte: all records before are there, the file is not called damaged, and goes when it is done."""
    before = opened(tmp_path)
    ends = [0]
    for first in range(0, 6, 2):
        segment = before.append(batch(first))
        assert segment is not None
        ends.append(segment.size)
    before.close()
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        after = opened(tmp_path)
        complete = max(0, sum(end <= size for end in ends[1:]))
        got = list(iter(after.read, None))
        assert [user for one in got for user in users(one)] == [str(at) for at in range(2 * complete)], size
        for one in got:
            settle(one)
        after.close()
        assert (files(tmp_path), after.damaged_events) == ([], 0), size
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("harm", "left", "lost"),
    [(lambda ends: ends[1] - 3, ["0", "1", "4", "5"], 2), (lambda ends: ends[1] + 9, ["0", "1", "2", "3"], 0)],
    ids=["payload", "head"],
)
def test_a_damaged_record_is_never_sent_and_its_file_is_set_aside(
    tmp_path: Path, harm: Callable[[list[int]], int], left: list[str], lost: int
) -> None:
    """A payload that is wrong costs its record; behind a head that is wrong nothing can be found."""
    before = opened(tmp_path)
    ends = []
    for first in range(0, 6, 2):
        segment = before.append(batch(first))
        assert segment is not None
        ends.append(segment.size)
    before.close()
    (path,) = files(tmp_path)
    raw = bytearray(path.read_bytes())
    raw[harm(ends)] ^= 0x40
    path.write_bytes(raw)
    after = opened(tmp_path)
    got = list(iter(after.read, None))
    assert [user for one in got for user in users(one)] == left
    assert after.damaged_events == lost
    for one in got:
        settle(one)
    after.close()
    assert [found.suffix for found in tmp_path.iterdir()] == [".damaged"]
    assert opened(tmp_path).unread_events == 0


def test_a_disk_that_fails_leaves_no_half_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was written of it is taken back, the caller learns of it, and the next attempt works."""
    spill = opened(tmp_path)
    spill.append(batch(0))
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: len(data) // 2])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        assert spill.append(batch(2)) is None
    assert "No space left" in spill.trouble
    assert spill.append(batch(4))
    assert read_all(spill) == ["0", "1", "4", "5"]
    spill.close()
    assert read_all(opened(tmp_path)) == ["0", "1", "4", "5"]
