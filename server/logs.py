"""Logs: one line for each noteworthy thing, as JSON or for a console. Never payloads, identifiers or tokens.

What is logged is words and numbers of our own. Texts of others could quote what was sent, so they are left out: of an
exception a line has the kind and the places in the code, of a line of a library the text without its values. The error
that a client got has the same `reason`; an unexpected one the same number, `correlation`.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import PurePath
from types import TracebackType
from typing import TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

PLACES_MAX = 16
CAUSES_MAX = 5
"""Of an exception: so many frames, the innermost first, of so many exceptions that led to it."""
SAID_CHARS_MAX = 200

BURST = 10
AGAIN_S = 6.0
"""Lines that say the same are written this often at once, and then one in so many seconds. The next one says how many
were left out."""
THINGS_MAX = 4_096
"""Different things whose lines are told apart; beyond it the one that was quiet for longest is forgotten."""
ALL_BURST = 1_000
ALL_AGAIN_S = 0.1
"""The same for all lines together that are no errors: not even many different ones fill a disk."""

_SAME = ("event", "reason", "what", "method", "month", "generation", "file", "library", "raised")
"""Lines that agree in these say the same thing."""

_WORDS = re.compile(r"[A-Za-z ,.-]*")

_least = logging.INFO
"""The level below which nothing is logged."""


def configure(*, json_lines: bool, level: str = "info", limited: bool = True, file: TextIO | None = None) -> None:
    """Sets up logging for the whole process, to standard error as it is now or to `file`; call once.

    It takes over what libraries log from `warning` on, and what Python would write about exceptions that nobody caught.
    `limited`: what repeats itself is left out and counted.
    """
    set_level(level)
    out = _Lines(file or sys.stderr)
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if json_lines else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            _drop_lesser,
            _without_texts,
            *([Limit(time.monotonic)] if limited else []),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        logger_factory=lambda *_names: out,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_FromLibraries()], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    threading.excepthook = _thread_failed
    sys.unraisablehook = _unraisable


def set_level(level: str) -> None:
    """From now on lines below debug, info, warning or error are dropped. Any time, on any thread."""
    global _least  # noqa: PLW0603  # loggers are cached once they are used, so the level cannot be theirs
    _least = logging.getLevelNamesMapping()[level.upper()]


def leading_words(text: str) -> str:
    """A message of others as far as it is words: values, which come behind a colon, bracket or quote, are cut off."""
    found = _WORDS.match(text)
    return found[0].rstrip()[:SAID_CHARS_MAX] if found else ""


def _level_of(method: str) -> int:
    return logging.getLevelNamesMapping()["ERROR" if method == "exception" else method.upper()]


def _drop_lesser(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    if _level_of(method) < _least:
        raise structlog.DropEvent
    return event


def _without_texts(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Puts what was raised, and where, in place of an exception."""
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else None
    if given and error is None:
        error = sys.exc_info()[1]
    if error is not None:
        event["raised"] = " <- ".join(_kinds_and_places(error))
    return event


def _kinds_and_places(error: BaseException) -> Iterator[str]:
    """Of an exception and of those that led to it: `KeyError at server/a.py:12 inner < server/b.py:3 outer`."""
    following: BaseException | None = error
    for _ in range(CAUSES_MAX):
        if following is None:
            return
        places = list(_places(following.__traceback__))[: -PLACES_MAX - 1 : -1]
        yield f"{type(following).__name__} at {' < '.join(places) or 'an unknown place'}"
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)


def _places(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        code = trace.tb_frame.f_code
        yield f"{'/'.join(PurePath(code.co_filename).parts[-3:])}:{trace.tb_lineno} {code.co_name}"
        trace = trace.tb_next


class _Allowance:
    """A bucket of lines: full at first, one more in `again_s`."""

    def __init__(self, burst: int, again_s: float, now_s: float) -> None:
        self._burst = burst
        self._again_s = again_s
        self._left = float(burst)
        self._filled_s = now_s
        self.left_out = 0

    def take(self, now_s: float) -> bool:
        """Whether one more line may be written."""
        self._left = min(self._burst, self._left + (now_s - self._filled_s) / self._again_s)
        self._filled_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Limit:
    """Leaves out lines that repeat what was said just now. Any thread."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._now_s = monotonic_s
        self._lock = threading.Lock()
        self._all = _Allowance(ALL_BURST, ALL_AGAIN_S, monotonic_s())
        self._things: OrderedDict[tuple[object, ...], _Allowance] = OrderedDict()

    def __call__(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """The line, with `left_out` if others of its kind were; DropEvent if it is one too many."""
        level = _level_of(method)
        if level >= logging.CRITICAL:
            return event
        thing = tuple(str(event.get(word, "")) for word in _SAME)
        with self._lock:
            now_s = self._now_s()
            allowance = self._things.get(thing)
            if allowance is None:
                allowance = self._things[thing] = _Allowance(BURST, AGAIN_S, now_s)
                if len(self._things) > THINGS_MAX:
                    self._things.popitem(last=False)
            self._things.move_to_end(thing)
            if not allowance.take(now_s) or (level < logging.ERROR and not self._all.take(now_s)):
                allowance.left_out += 1
                raise structlog.DropEvent
            if allowance.left_out:
                event["left_out"], allowance.left_out = allowance.left_out, 0
        return event


class _Lines:
    """Writes lines. One that cannot be written is lost: the daemon must not fail over its log."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lock = threading.Lock()

    def msg(self, line: str) -> None:
        """One line, at once."""
        with self._lock:
            try:
                self._file.write(line + "\n")
                self._file.flush()
            except (OSError, ValueError):  # a full disk, a terminal or a reader that is gone, a closed file
                return

    debug = info = warning = error = critical = exception = msg


class _FromLibraries(logging.Handler):
    """Lines of libraries, as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line for each record."""
        said = str(record.msg)
        if record.name == "py.warnings":  # "PATH:LINE: Category: text"
            path, line, category = (*record.getMessage().split(":", 3), "", "")[:3]
            said = f"{'/'.join(PurePath(path).parts[-3:])}:{line}:{category}"
        elif not record.args:  # its values, if there are any, are in the text already
            said = leading_words(said)
        write = _log.error if record.levelno >= logging.ERROR else _log.warning
        write("library", library=record.name, said=said.partition("\n")[0][:SAID_CHARS_MAX], exc_info=record.exc_info)


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    _log.error("thread_failed", thread=failure.thread.name if failure.thread else "", exc_info=failure.exc_value)


def _unraisable(failure: object) -> None:
    _log.error("exception_ignored", exc_info=getattr(failure, "exc_value", None))


_log = structlog.get_logger(__name__)
