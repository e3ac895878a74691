"""Work in a process of its own: what it gives, asks, raises, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server import apart as module
from server.apart import apart, aside, give_way
from server.errors import Precondition, Unavailable
from server.in_step import Abandoned

HERE = Path(tempfile.gettempdir())


def described(*words: str, ask: Callable[[str], str]) -> tuple[int, str, int]:
    """Where it ran, what it was told, and how gladly it gives way."""
    return os.getpid(), ask(" ".join(words)), os.nice(0)


def counting(to: int, *, heard: Callable[[int], None]) -> int:
    """Tells of each number."""
    for number in range(to):
        heard(number)
    return to


def cleaning(mark: Path, *, heard: Callable[[int], None]) -> None:
    """Leaves a mark, and takes it away when nobody wants the work any more."""
    mark.touch()
    try:
        while True:
            heard(1)
    except Abandoned:
        mark.unlink()
        raise


def silent(mark: Path, *, heard: Callable[[int], None]) -> None:
    """Says something once and then nothing for very long."""
    heard(7)
    mark.write_text(str(os.getpid()))
    time.sleep(60)


def refusing() -> None:
    """Fails as trackd does."""
    raise Precondition("MONTH_CHANGED", "it is another one", hint="again", field="month", retry_after_ms=5)


def broken() -> None:
    """Fails as defects do."""
    raise ZeroDivisionError("a defect")


def dying() -> None:
    """Is killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def unspeakable() -> object:
    """Gives back what cannot be sent."""
    return threading.Lock()


def ended(process: int) -> bool:
    """Whether a process has ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_runs_elsewhere_and_its_questions_are_answered_here() -> None:
    """Callbacks run on the calling thread."""
    asked: list[tuple[int, str]] = []

    def ask(words: str) -> str:
        asked.append((threading.get_ident(), words))
        return words.upper()

    process, answer, nice = apart(HERE, described, "who", "goes", ask=ask)
    assert process != os.getpid()
    assert answer == "WHO GOES"
    assert asked == [(threading.get_ident(), "who goes")]
    assert nice == module.NICE
    assert ended(process)


def test_progress_is_told_in_order() -> None:
    """Each number once, before the result."""
    told: list[int] = []
    assert apart(HERE, counting, 50, heard=told.append) == 50
    assert told == list(range(50))


def test_temporary_files_are_put_where_it_says(tmp_path: Path) -> None:
    """Python's and SQLite's."""
    assert apart(tmp_path, tempfile.gettempdir) == str(tmp_path)
    assert apart(tmp_path, os.getenv, "SQLITE_TMPDIR") == str(tmp_path)


def test_small_work_stays_here() -> None:
    """A process costs more than it would save."""
    assert aside(module.BYTES_MIN - 1, HERE, described, "x", ask=str)[0] == os.getpid()
    assert aside(module.BYTES_MIN, HERE, described, "x", ask=str)[0] != os.getpid()


def test_errors_come_back_whole() -> None:
    """With every field of ours, and with where a defect was."""
    with pytest.raises(Precondition) as refused:
        apart(HERE, refusing)
    error = refused.value
    assert (error.reason, error.message, error.hint) == ("MONTH_CHANGED", "it is another one", "again")
    assert (error.field, error.retry_after_ms) == ("month", 5)
    with pytest.raises(ZeroDivisionError, match="a defect") as defect:
        apart(HERE, broken)
    assert "in broken" in "".join(defect.value.__notes__)
    with pytest.raises(TypeError, match="pickle"):
        apart(HERE, unspeakable)


def test_a_process_that_is_killed_is_an_error_by_name() -> None:
    """As when memory runs out."""
    with pytest.raises(Unavailable) as error:
        apart(HERE, dying)
    assert error.value.reason == "WORK_ENDED"
    assert str(-signal.SIGKILL) in error.value.message


def test_what_a_callback_raises_ends_the_work(tmp_path: Path) -> None:
    """It is raised here, and the work cleans up there before that."""
    mark = tmp_path / "mark"

    def stop(_rows: int) -> None:
        assert mark.exists()
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        apart(HERE, cleaning, mark, heard=stop)
    assert not mark.exists()


def test_work_that_says_nothing_can_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again and again whether anybody wants it, and killed if it does not end by itself."""
    monkeypatch.setattr(module, "ASK_AGAIN_S", 0.05)
    monkeypatch.setattr(module, "END_S", 0.2)
    mark, told = tmp_path / "mark", []

    def heard(rows: int) -> None:
        told.append(rows)
        if len(told) > 3 and mark.exists() and mark.read_text():
            raise TimeoutError

    with pytest.raises(TimeoutError):
        apart(HERE, silent, mark, heard=heard)
    assert set(told) == {7}
    assert ended(int(mark.read_text()))


def test_nobody_gets_more_than_before_by_giving_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever began the daemon may have given way already; and where it is forbidden work goes on all the same."""
    set_to: list[int] = []
    monkeypatch.setattr(os, "setpriority", lambda _which, _who, nice: set_to.append(nice))
    for before, wanted in ((0, 10), (15, 10)):
        monkeypatch.setattr(os, "getpriority", lambda _which, _who, before=before: before)
        give_way(wanted)
    assert set_to == [10, 15]

    def forbidden(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbidden)
    with ThreadPoolExecutor(1, initializer=give_way, initargs=(10,)) as threads:
        assert threads.submit(abs, -1).result() == 1


def test_it_is_ended_before_the_daemon_when_memory_runs_out() -> None:
    """As the kernel sees it."""
    assert apart(HERE, Path.read_text, Path("/proc/self/oom_score_adj"), "ascii").strip() == str(module.OOM_SCORE_ADJ)


def test_it_ends_with_who_began_it(tmp_path: Path) -> None:
    """Also when that one is killed."""
    mark = tmp_path / "mark"
    code = (
        "from pathlib import Path; from server.apart import apart; from tests.unit.test_apart import silent;"
        f"apart(Path(), silent, Path({str(mark)!r}), heard=lambda rows: None)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        while not (mark.exists() and mark.read_text()):
            assert parent.poll() is None
            time.sleep(0.02)
        parent.kill()
    process, end = int(mark.read_text()), time.monotonic() + 10
    while not ended(process):
        assert time.monotonic() < end, "it lives on"
        time.sleep(0.02)
