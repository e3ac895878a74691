"""Logs: one line for each noteworthy thing, as JSON or for a console. Never payloads, identifiers or tokens."""

from __future__ import annotations

import logging
import sys

import structlog

_least = logging.INFO
"""The level below which nothing is logged."""


def configure(*, json_lines: bool, level: str = "info") -> None:
    """Sets up logging to standard error for the whole process; call once."""
    set_level(level)
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if json_lines else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    processors: list[structlog.typing.Processor] = [
        _drop_lesser,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if json_lines:
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def set_level(level: str) -> None:
    """From now on lines below debug, info, warning or error are dropped. Any time, on any thread."""
    global _least  # noqa: PLW0603  # loggers are cached once they are used, so the level cannot be theirs
    _least = logging.getLevelNamesMapping()[level.upper()]


def _drop_lesser(
    _logger: structlog.typing.WrappedLogger, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    named = "error" if method == "exception" else method
    if logging.getLevelNamesMapping()[named.upper()] < _least:
        raise structlog.DropEvent
    return event
