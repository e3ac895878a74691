"""Log lines: their shape, what is left out of them, and how many there may be."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from server import logs
from server.errors import unexpected
from server.logs import AGAIN_S, ALL_BURST, BURST, THINGS_MAX, Limit, leading_words


class Captured:
    """What was written, line by line."""

    def __init__(self) -> None:
        self.file = io.StringIO()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Every one is a JSON object."""
        return [json.loads(line) for line in self.file.getvalue().splitlines()]


@pytest.fixture
def captured() -> Iterator[Captured]:
    """Logging as the daemon sets it up; afterwards all is as before."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, threading.excepthook, sys.unraisablehook
    told = Captured()
    logs.configure(json_lines=True, file=told.file)
    structlog.configure(cache_logger_on_first_use=False)  # loggers of modules outlive this test
    yield told
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    threading.excepthook, sys.unraisablehook = before[2:]


def failing(secret: str) -> None:
    """Raises with a text that quotes what was sent, because of another one that does."""
    try:
        int(secret)
    except ValueError as error:
        raise LookupError(f"no {secret}") from error


def test_a_line_is_one_json_object_with_time_and_level(captured: Captured) -> None:
    """Whatever is in its words."""
    structlog.get_logger("a").info("started", path="a\nb", count=3)
    (line,) = captured.lines
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "started", "level": "info", "path": "a\nb", "count": 3}


def test_lines_below_the_level_are_dropped_from_now_on(captured: Captured) -> None:
    """Also of loggers that were used before."""
    log = structlog.get_logger("a")
    log.debug("one")
    logs.set_level("debug")
    log.debug("two")
    logs.set_level("error")
    log.warning("three")
    log.error("four")
    assert [line["event"] for line in captured.lines] == ["two", "four"]


def test_of_an_exception_a_line_has_kind_and_places_and_no_text(captured: Captured) -> None:
    """Its text may quote an event; with its kind, its places and those of its cause a defect is found all the same."""
    log = structlog.get_logger("a")
    try:
        failing("hush")
    except LookupError as error:
        log.exception("failed")
        log.error("failed_too", exc_info=error)
    first, second = captured.lines
    assert first["raised"] == second["raised"]
    outer, inner = first["raised"].split(" <- ")
    assert outer.startswith("LookupError at tests/unit/test_logs.py:")
    assert " failing < tests/unit/test_logs.py:" in outer
    assert inner.startswith("ValueError at tests/unit/test_logs.py:")
    assert "hush" not in captured.file.getvalue()


def test_the_number_that_a_client_is_told_is_in_the_log(captured: Captured) -> None:
    """And its text is nowhere."""
    told = unexpected(KeyError("hush"))
    (line,) = captured.lines
    assert (line["event"], line["raised"]) == ("unexpected_error", "KeyError at an unknown place")
    assert line["correlation"] in str(told)
    assert "hush" not in captured.file.getvalue() + str(told)


def test_libraries_have_lines_like_ours_without_values(captured: Captured) -> None:
    """Templates without what is filled in, messages up to where values begin, warnings without their text."""
    other = logging.getLogger("other.library")
    other.info("quiet")
    other.warning("cannot send %s to %s", "hush", "ann")
    other.error("Exception in callback Writer._resolve(['hush'])")
    try:
        failing("hush")
    except LookupError:
        other.exception("failed: hush")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("hush", UserWarning, stacklevel=1)
    said = [(line["level"], line["library"], line["said"]) for line in captured.lines]
    assert said[:3] == [
        ("warning", "other.library", "cannot send %s to %s"),
        ("error", "other.library", "Exception in callback Writer."),
        ("error", "other.library", "failed"),
    ]
    assert captured.lines[2]["raised"].startswith("LookupError")
    assert said[3][2].startswith("tests/unit/test_logs.py:")
    assert said[3][2].endswith("UserWarning")
    assert "hush" not in captured.file.getvalue()


def test_what_nobody_catches_is_a_line_too() -> None:
    """On a thread, and where Python cannot raise; no traceback of Python's own comes between the lines."""
    code = """
import threading
from server import logs
logs.configure(json_lines=True)
def fail():
    raise ValueError("hush")
thread = threading.Thread(target=fail, name="one")
thread.start()
thread.join()
class Bad:
    def __del__(self):
        raise KeyError("hush")
del Bad
"""
    code = code.replace("del Bad\n", "Bad()\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["event"], line["raised"].split()[0]) for line in lines] == [
        ("thread_failed", "ValueError"),
        ("exception_ignored", "KeyError"),
    ]
    assert lines[0]["thread"] == "one"
    assert "hush" not in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Task exception was never retrieved\nfuture: <Task>", "Task exception was never retrieved"),
        ("failed: hush", "failed"),
        ("'hush' is wrong", ""),
        ("user 17", "user"),
        ("", ""),
    ],
)
def test_messages_end_where_values_begin(text: str, words: str) -> None:
    """Whatever stands behind a sign that is none of a sentence."""
    assert leading_words(text) == words


def test_a_log_that_cannot_be_written_harms_nobody(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk below the file, a terminal that is gone: the line is lost, and the next one is tried."""

    def full(_text: str) -> int:
        raise OSError(28, "No space left on device")

    log = structlog.get_logger("a")
    with monkeypatch.context() as patch:
        patch.setattr(captured.file, "write", full)
        log.error("lost")
    log.error("written")
    assert [line["event"] for line in captured.lines] == ["written"]


# Repetition


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """Passed to a Limit."""
    return Clock()


def written(limit: Limit, method: str = "warning", **event: Any) -> dict[str, Any] | None:
    """The line that comes of an event, if any."""
    try:
        return dict(limit(None, method, event))
    except structlog.DropEvent:
        return None


def test_lines_that_say_the_same_are_left_out_and_counted(clock: Clock) -> None:
    """A burst is written, then one in so many seconds; who said it and how often does not make it another thing."""
    limit = Limit(clock)
    lines = [written(limit, event="call_denied", reason="X", peer=str(number)) for number in range(BURST + 5)]
    assert [line is not None for line in lines] == [True] * BURST + [False] * 5
    clock.now_s += AGAIN_S
    assert written(limit, event="call_denied", reason="X", peer="a") == {
        "event": "call_denied",
        "reason": "X",
        "peer": "a",
        "left_out": 5,
    }
    assert written(limit, event="call_denied", reason="X") is None
    clock.now_s += AGAIN_S * 1_000
    again = [written(limit, event="call_denied", reason="X") for _ in range(BURST + 1)]
    assert [line and line.get("left_out") for line in again] == [1] + [None] * BURST
    assert again[-1] is None


def test_other_things_are_not_left_out_with_them(clock: Clock) -> None:
    """Another month, another reason, another place of a defect; and what ends the daemon is always written."""
    limit = Limit(clock)
    for _ in range(BURST + 1):
        last = written(limit, event="month_damaged", month="2025-01")
    assert last is None
    assert written(limit, event="month_damaged", month="2025-02")
    assert written(limit, event="month_damaged", month="2025-01", reason="X")
    assert written(limit, event="month_damaged", month="2025-01", raised="KeyError at a.py:1 f")
    assert all(written(limit, "critical", event="store_failed") for _ in range(BURST * 2))


def test_all_lines_together_have_a_bound_that_errors_are_free_of(clock: Clock) -> None:
    """Thousands of different ones do not fill a disk, and an error among them is seen."""
    limit = Limit(clock)
    lines = [written(limit, event="month_sealed", month=str(number)) for number in range(ALL_BURST + 10)]
    assert sum(line is not None for line in lines) == ALL_BURST
    assert written(limit, "error", event="disk_full")
    clock.now_s += 60
    assert written(limit, event="month_sealed", month=str(ALL_BURST + 9)) == {
        "event": "month_sealed",
        "month": str(ALL_BURST + 9),
        "left_out": 1,
    }


def test_things_are_forgotten_before_they_fill_the_memory(clock: Clock) -> None:
    """The one that was quiet for longest first."""
    limit = Limit(clock)
    for number in range(THINGS_MAX + 1):
        for _ in range(BURST):
            written(limit, "error", event="x", month=str(number))
    assert written(limit, "error", event="x", month=str(THINGS_MAX)) is None
    assert written(limit, "error", event="x", month="0")
