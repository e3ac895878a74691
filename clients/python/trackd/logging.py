"""Log records as events: a handler for the standard library's logging.

logging.getLogger().addHandler(trackd.logging.TrackdHandler(tracker))
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import Any

from trackd.tracker import Tracker

DESCRIPTION_BYTES_MAX = 4_096
"""The daemon's default limit for descriptions."""
EXCEPTION_BYTES_MAX = 16_384
"""Of a traceback, its end: with everything else it stays within the daemon's default limit for metadata, 64 KiB."""
VALUE_BYTES_MAX = 4_096
"""Of a text in `extra`, and of one that stands for a value that is no JSON."""

_OURS = ("trackd", "grpc")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTENT = ("user_id", "session_id", "client_ip", "tags")


class TrackdHandler(logging.Handler):
    """Tracks each record: the message as description; logger, level and `extra` as metadata.

    Of `extra`, user_id, session_id, client_ip and tags become those of the event; what is no JSON becomes its text.
    Exceptions are in `exception`. Texts are cut to what the daemon takes by default.

    Records of the loggers "trackd" and "grpc" are left alone: what tracking says about itself is not tracked. Emitting
    does what `track` does: it never waits for the network, and never raises.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        type: str = "log",
        types: Mapping[int, str] | None = None,
        level: int | str = logging.NOTSET,
    ) -> None:
        """`types` gives types by level: that of the highest level that the record reaches, else `type`.

        For example `{logging.WARNING: "log_warning", logging.ERROR: "log_error"}`.
        """
        super().__init__(level)
        self._tracker = tracker
        self._type = type
        self._types = sorted((types or {}).items(), reverse=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Tracks a record."""
        if record.name.partition(".")[0] in _OURS:
            return
        try:
            extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
            metadata: dict[str, Any] = {"logger": record.name, "level": record.levelname}
            metadata |= {name: _json(value) for name, value in extra.items() if name not in _CONTENT}
            if record.exc_info and record.exc_info[1] is not None:
                told = "".join(traceback.format_exception(record.exc_info[1]))
                metadata["exception"] = _cut(told, EXCEPTION_BYTES_MAX, end=True)
            self._tracker.track(
                self._type_of(record.levelno),
                timestamp_ms=int(record.created * 1_000),
                description=_cut(record.getMessage(), DESCRIPTION_BYTES_MAX),
                metadata=metadata,
                tags=tuple(dict.fromkeys(str(tag) for tag in extra.get("tags") or () if tag)),
                user_id=str(extra.get("user_id") or ""),
                session_id=str(extra.get("session_id") or ""),
                client_ip=str(extra.get("client_ip") or ""),
            )
        except Exception:  # noqa: BLE001 - as all handlers of the standard library do
            self.handleError(record)

    def _type_of(self, level: int) -> str:
        return next((named for least, named in self._types if level >= least), self._type)


def _json(value: Any) -> Any:
    """The value if it is JSON as it stands; else its text."""
    if isinstance(value, str):
        return _cut(value, VALUE_BYTES_MAX)
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and value - value == 0):
        return value
    if isinstance(value, dict):
        return {str(key): _json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_json(inner) for inner in value]
    return _cut(str(value), VALUE_BYTES_MAX)


def _cut(text: str, bytes_max: int, *, end: bool = False) -> str:
    """The beginning, or the end, of a text that is too long."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= bytes_max:
        return encoded.decode("utf-8")
    kept = encoded[-bytes_max:] if end else encoded[:bytes_max]
    return kept.decode("utf-8", "ignore")
