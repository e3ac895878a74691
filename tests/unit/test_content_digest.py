"""Reading a month back on two threads, one in step with the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from retention.month import Month
from server import in_step
from server.storage.sqlite import content_digest as module
from server.storage.sqlite.content_digest import content_digest, digest_on_two_cores
from tests.support.archives import stored_in
from tests.support.events import make_event

MONTH = Month(2025, 10)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sealed month of 300 events, which is read in windows of ten, and nobody is ahead by more than one."""
    with stored_in(tmp_path, [make_event(n, str(MONTH), user_id=f"user-{n}") for n in range(300)]) as store:
        (info,) = store.months()
    monkeypatch.setattr(module, "WINDOW_ROWS", 10)
    monkeypatch.setattr(in_step, "AHEAD_ROWS", 0)
    (found,) = tmp_path.glob(f"months/{MONTH}/g{info.generation:04d}*/events*.db")
    return found


def test_two_threads_find_what_one_finds(path: Path) -> None:
    """And say how far they are."""
    heard: list[int] = []
    assert digest_on_two_cores(path, MONTH, heard.append).hexdigest() == content_digest(path, MONTH).hexdigest()
    assert heard == sorted(heard)
    assert len(heard) > 10


@pytest.mark.timeout(20)
def test_who_gives_up_waits_for_nobody_who_waits_for_him(path: Path) -> None:
    """A run that is cancelled while it reads back ends at once."""

    def give_up(_rows: int) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        digest_on_two_cores(path, MONTH, give_up)
