"""The n-th fsync, mkdir or rename of directories fails: the same promises as for the files within."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.errors import StoreFailed, Unavailable
from tests.faults.history import Life, assert_kept

CALLS: dict[str, tuple[Any, str]] = {"fsync": (os, "fsync"), "mkdir": (Path, "mkdir"), "rename": (Path, "rename")}
ERRORS = {"broken": errno.EIO, "full": errno.ENOSPC}


class Failing:
    """A function that fails at its n-th call; once, since the operator helps."""

    def __init__(self, real: Callable[..., Any], nth: int, number: int) -> None:
        self._real = real
        self._nth = nth
        self._number = number
        self.calls = 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls == self._nth:
            raise OSError(self._number, "failed on purpose")
        return self._real(*args, **options)


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("call", CALLS)
def test_a_directory_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, kind: str) -> None:
    """EIO is StoreFailed, ENOSPC is DISK_FULL, wherever it comes; afterwards everything can be stored and is sound."""
    owner, name = CALLS[call]
    wrong, nth = [], 0
    while True:
        nth += 1
        failing = Failing(getattr(owner, name), nth, ERRORS[kind])
        life = Life(tmp_path / str(nth))
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, lambda *args, failing=failing, **options: failing(*args, **options))
            try:
                assert life.run()
            except OSError as raw:
                life.abandon()
                wrong.append(f"call {nth}: {raw!r} was not translated")
        for error in life.errors:
            known = isinstance(error, StoreFailed if kind == "broken" else Unavailable)
            if not known:
                wrong.append(f"call {nth}: {type(error).__name__} {error.reason}: {error}")
        assert_kept(life.root, life.acknowledged)
        if failing.calls < nth:
            break
    assert nth > 2
    assert not wrong
