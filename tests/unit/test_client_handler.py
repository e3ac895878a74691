"""Records as events, and spans: what the logging handler and `tracked` make of what happens."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any, cast

import pytest
import trackd
import trackd.logging
from trackd.span import Span


class Notebook:
    """Stands for a Tracker: notes down."""

    def __init__(self) -> None:
        self.events: list[trackd.Event] = []

    def track(self, type: str, **parts: Any) -> bool:
        """As Tracker.track."""
        self.events.append(trackd.new_event(type, **parts))
        return True

    def tracked(self, type: str, **parts: Any) -> Span:
        """As Tracker.tracked."""
        return trackd.Tracker.tracked(cast(trackd.Tracker, self), type, **parts)

    def only(self) -> tuple[trackd.Event, dict[str, Any]]:
        """The one event, and its metadata."""
        (event,) = self.events
        return event, json.loads(event.metadata)


@pytest.fixture
def book() -> Notebook:
    """An empty one."""
    return Notebook()


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger of the test."""
    logger = logging.getLogger("shop.orders")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)


def attach(logger: logging.Logger, book: Notebook, **options: Any) -> None:
    """Adds the handler."""
    logger.addHandler(trackd.logging.TrackdHandler(cast(trackd.Tracker, book), **options))


def test_a_record_becomes_an_event(book: Notebook, log: logging.Logger) -> None:
    """The message, where it comes from, what was given as extra; known fields go to their places."""
    attach(log, book)
    log.info("order %d", 7, extra={"user_id": "ann", "tags": ["a", "a", ""], "order": 7, "who": {"x": (1, None)}})
    event, metadata = book.only()
    assert (event.type, event.description, event.user_id, list(event.tags)) == ("log", "order 7", "ann", ["a"])
    assert metadata == {"logger": "shop.orders", "level": "INFO", "order": 7, "who": {"x": [1, None]}}
    assert event.HasField("timestamp_ms")


def test_what_is_no_json_becomes_text(book: Notebook, log: logging.Logger) -> None:
    """A handler that fails on a date would hide the record."""
    attach(log, book)
    log.info("m", extra={"a": float("nan"), "b": {1: {2}}, "c": b"x", "d": "\udc80"})
    assert book.only()[1] | {"logger": "", "level": ""} == {
        "logger": "", "level": "", "a": "nan", "b": {"1": "{2}"}, "c": "b'x'", "d": "?"
    }  # fmt: skip


def test_levels_choose_types(book: Notebook, log: logging.Logger) -> None:
    """The highest level that a record reaches; else the fixed type."""
    attach(log, book, type="note", types={logging.WARNING: "warned", logging.ERROR: "failed"}, level=logging.INFO)
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        log.log(level, "m")
    assert [event.type for event in book.events] == ["note", "warned", "failed", "failed"]


def test_exceptions_are_told_and_texts_are_cut_to_what_the_daemon_takes(book: Notebook, log: logging.Logger) -> None:
    """The end of a traceback says most; cutting leaves no half characters."""
    attach(log, book)
    try:
        raise LookupError("ü" * 50_000)
    except LookupError:
        log.exception("ü" * 5_000)
    event, metadata = book.only()
    assert 4_090 < len(event.description.encode()) <= 4_096
    assert 16_000 < len(metadata["exception"].encode()) <= 16_384
    assert set(event.description) == {"ü"}
    assert len(event.metadata.encode()) < 65_536


def test_what_tracking_says_of_itself_is_not_tracked(book: Notebook) -> None:
    """Otherwise one refusal would cause the next."""
    root = logging.getLogger()
    handler = trackd.logging.TrackdHandler(cast(trackd.Tracker, book))
    root.addHandler(handler)
    try:
        for name in ("trackd", "trackd.x", "grpc", "grpc._channel"):
            logging.getLogger(name).error("m")
        logging.getLogger("trackdown").error("m")
    finally:
        root.removeHandler(handler)
    assert [json.loads(event.metadata)["logger"] for event in book.events] == ["trackdown"]


def test_a_tracker_that_fails_does_not_break_logging(
    log: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with every handler: it is told on standard error."""

    class Broken(Notebook):
        def track(self, type: str, **parts: Any) -> bool:
            raise TypeError("broken")

    attach(log, Broken())
    monkeypatch.setattr(logging, "raiseExceptions", True)
    log.info("m")
    assert "TypeError: broken" in capsys.readouterr().err


def test_a_block_is_tracked_when_it_ends(book: Notebook) -> None:
    """How long it took, how it ended, and whatever was added on the way."""
    with book.tracked("import", user_id="ann", metadata={"a": 1}, tags=["t"]) as span:
        span.metadata["rows"] = 3
        assert book.events == []
    event, metadata = book.only()
    assert (event.type, event.user_id, list(event.tags)) == ("import", "ann", ["t"])
    assert metadata.pop("duration_ms") > 0
    assert metadata == {"a": 1, "rows": 3, "outcome": "ok"}


def test_an_exception_is_told_and_goes_on(book: Notebook) -> None:
    """With the name of its class."""

    @book.tracked("divide")
    def divide(by: int) -> float:
        return 1 / by

    with pytest.raises(ZeroDivisionError):
        divide(0)
    metadata = book.only()[1]
    assert (metadata["outcome"], metadata["error"]) == ("error", "ZeroDivisionError")
    assert divide(4) == 0.25
    assert [json.loads(event.metadata)["outcome"] for event in book.events] == ["error", "ok"]
    assert divide.__name__ == "divide"


async def test_a_coroutine_function_is_tracked_when_it_is_done(book: Notebook) -> None:
    """Not when it is called; each call by itself, also side by side; a cancelled one says so."""
    gate = asyncio.Event()

    @book.tracked("wait", metadata={"k": "v"})
    async def wait(result: int) -> int:
        await gate.wait()
        return result

    assert asyncio.iscoroutinefunction(wait)
    tasks = [asyncio.ensure_future(wait(number)) for number in range(3)]
    await asyncio.sleep(0)
    assert book.events == []
    tasks[2].cancel()
    gate.set()
    assert (await asyncio.gather(*tasks, return_exceptions=True))[:2] == [0, 1]
    assert tasks[2].cancelled()
    told = [json.loads(event.metadata) for event in book.events]
    assert sorted(one["outcome"] for one in told) == ["cancelled", "ok", "ok"]
    assert all(one["duration_ms"] > 0 and one["k"] == "v" for one in told)


def test_a_generator_cannot_be_decorated(book: Notebook) -> None:
    """Calling it only begins something, so the duration would be a lie."""
    with pytest.raises(TypeError, match="is a generator"):

        @book.tracked("count")
        def count() -> Iterator[int]:
            yield 1
