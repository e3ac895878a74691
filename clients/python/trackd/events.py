"""Builders of what is sent: events with time-ordered ids, and the audit records that some of them carry."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import uuid_utils

from trackd.v1.event_pb2 import (
    CHANGE_ACTION_CREATE,
    CHANGE_ACTION_DELETE,
    CHANGE_ACTION_UPDATE,
    CHANGE_STATUS_FAILED,
    CHANGE_STATUS_SUCCESS,
    Change,
    Event,
)

_TIME_MS_MAX = (1 << 48) - 1
_ACTIONS = {"create": CHANGE_ACTION_CREATE, "update": CHANGE_ACTION_UPDATE, "delete": CHANGE_ACTION_DELETE}


def new_id(timestamp_ms: int | None = None) -> bytes:
    """16 bytes of a UUIDv7 (RFC 9562), of this moment or of the given one.

    Its first 48 bits are the milliseconds, so that ids of rising times rise: the store's unique index stays fast.
    """
    fresh: bytes = uuid_utils.uuid7().bytes
    if timestamp_ms is None:
        return fresh
    return min(max(timestamp_ms, 0), _TIME_MS_MAX).to_bytes(6, "big") + fresh[6:]


def new_event(
    type: str,
    *,
    user_id: str = "",
    timestamp_ms: int | None = None,
    id: bytes | None = None,
    session_id: str = "",
    client_ip: str = "",
    description: str = "",
    tags: Iterable[str] = (),
    metadata: Mapping[str, Any] | str | None = None,
    change: Change | None = None,
) -> Event:
    """An event that can be sent any number of times and is stored once.

    Without a time it happens now; without an id it gets a UUIDv7 of its time. Metadata is a mapping or one JSON object
    as text. Nothing is checked here: the daemon says what it refuses, and why.
    """
    if timestamp_ms is None and id is None:
        timestamp_ms = time.time_ns() // 1_000_000
    return Event(
        id=new_id(timestamp_ms) if id is None else id,
        type=type,
        user_id=user_id,
        timestamp_ms=timestamp_ms,
        session_id=session_id,
        client_ip=client_ip,
        description=description,
        tags=tags,
        metadata=_json_text(metadata),
        change=change,
    )


def new_change(
    table_name: str,
    row_id: str,
    action: Literal["create", "update", "delete"],
    *,
    old_values: Mapping[str, Any] | str | None = None,
    new_values: Mapping[str, Any] | str | None = None,
    failed: bool = False,
    rows_affected: int | None = None,
) -> Change:
    """The audit part of an event: which row was changed, how, from what to what. ValueError for another action."""
    if action not in _ACTIONS:
        raise ValueError(f"action must be one of {', '.join(_ACTIONS)}, not {action!r}")
    return Change(
        table_name=table_name,
        row_id=row_id,
        action=_ACTIONS[action],
        old_values=_json_text(old_values),
        new_values=_json_text(new_values),
        status=CHANGE_STATUS_FAILED if failed else CHANGE_STATUS_SUCCESS,
        rows_affected=rows_affected,
    )


def _json_text(value: Mapping[str, Any] | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
