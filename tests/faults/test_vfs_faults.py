"""The n-th read, write, sync ... fails, once or for ever, for every n: nothing acknowledged is lost or stored twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.errors import Corrupt, Internal, StoreFailed, Unavailable
from tests.faults.history import Life, assert_kept
from tests.support.faulty_disk import IO_ERRORS, FaultyDisk, Plan, disk_full, faulty_disk

STRIDE = int(os.environ.get("TRACKD_FAULT_STRIDE", "7"))
"""1 tries every n; more tries every so many, beginning elsewhere for each kind."""


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    """A disk for the stores of this test."""
    with faulty_disk() as installed:
        yield installed


def calls(disk: FaultyDisk, root: Path, kind: str) -> int:
    """How often such a call is made in a life without faults."""
    disk.plan = Plan()
    life = Life(root)
    assert life.run()
    assert life.errors == []
    total = disk.plan.calls[kind]
    assert_kept(root, life.acknowledged)
    assert total
    return total


def suffer(disk: FaultyDisk, root: Path, plan: Plan) -> Life:
    """A life with this fault, looked over on a disk that is good again."""
    disk.plan = plan
    life = Life(root)
    completed = life.run()
    disk.plan = Plan()
    print(plan, [(error.reason, str(error)) for error in life.errors])
    if not plan.for_ever:
        assert completed, "one fault and then never again, and yet not everything could be stored"
    assert_kept(root, life.acknowledged)
    return life


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("kind", IO_ERRORS)
def test_a_disk_that_fails(disk: FaultyDisk, tmp_path: Path, kind: str, for_ever: bool) -> None:
    """I/O errors: the store fails or the fault does not matter; never an answer that is wrong or another error."""
    total = calls(disk, tmp_path / "whole", kind)
    for nth in range(1 + list(IO_ERRORS).index(kind) % STRIDE, total + 1, STRIDE):
        plan = Plan(kind, nth, for_ever=for_ever, error=IO_ERRORS[kind])
        life = suffer(disk, tmp_path / str(nth), plan)
        assert plan.hits
        for error in life.errors:
            assert isinstance(error, StoreFailed), f"{type(error).__name__} {error.reason}: {error}"


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
def test_a_disk_that_is_full(disk: FaultyDisk, tmp_path: Path, for_ever: bool) -> None:
    """DISK_FULL with a retry hint; what fits again is taken, by the same store."""
    total = calls(disk, tmp_path / "whole", "write")
    for nth in range(1 + 3 % STRIDE, total + 1, STRIDE):
        plan = Plan("write", nth, for_ever=for_ever, error=disk_full)
        life = suffer(disk, tmp_path / str(nth), plan)
        assert plan.hits
        for error in life.errors:
            assert isinstance(error, Unavailable), f"{type(error).__name__} {error.reason}: {error}"
            assert error.reason == "DISK_FULL"
            assert error.retry_after_ms
            assert not isinstance(error, Corrupt | Internal)
