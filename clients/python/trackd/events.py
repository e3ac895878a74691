"""Builders of what is sent: events with time-ordered ids, and the audit records that some of them carry."""

from __future__ import annotations

import json
import os
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

# Made once: json.dumps would make one a call.
_encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_TIME_MS_MAX = (1 << 48) - 1
if hasattr(os, "register_at_fork"):
    # Else a child would go on with the parent's random numbers, and make the same ids. Before 0.14 nobody sees to that.
    os.register_at_fork(after_in_child=uuid_utils.reseed_rng)
_ACTIONS = {"create": CHANGE_ACTION_CREATE, "update": CHANGE_ACTION_UPDATE, "delete": CHANGE_ACTION_DELETE}


def new_id(timestamp_ms: int | None = None) -> bytes:
    """16 bytes of a UUIDv7 (RFC 9562), of this moment or of the given one.

    Its first 48 bits are the milliseconds, so that ids of rising times rise: the store's unique index stays fast.
    """
    # The library's own time never goes back: behind a clock that was ahead it stays ahead.
    time_ms = time.time_ns() // 1_000_000 if timestamp_ms is None else timestamp_ms
    fresh: bytes = uuid_utils.uuid7().bytes
    return min(max(time_ms, 0), _TIME_MS_MAX).to_bytes(6, "big") + fresh[6:]


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
    event = Event(type=type, id=new_id(timestamp_ms) if id is None else id)
    if timestamp_ms is not None:
        event.timestamp_ms = timestamp_ms
    elif id is None:
        event.timestamp_ms = int.from_bytes(event.id[:6], "big")
    # One by one: ten arguments take protobuf three times as long, whatever is in them.
    if user_id:
        event.user_id = user_id
    if session_id:
        event.session_id = session_id
    if client_ip:
        event.client_ip = client_ip
    if description:
        event.description = description
    if tags:
        event.tags.extend(tags)
    if metadata is not None:
        event.metadata = _json_text(metadata)
    if change is not None:
        event.change.CopyFrom(change)
    return event


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
    return _encode_json(value)
