"""Events written as lines of JSON: the names of the wire contract, or the short ones `ts, type, user, tags, data`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
import trackd

from server.cli.importing.identity import Ordinals, canonical_json, content_id
from server.content_id import TIME_MS_MAX

_EMPTY = msgspec.Raw()
_NULL = msgspec.Raw(b"null")


class BadLine(Exception):
    """This line is no event. The text says why; `why` does so without any value of the line, fit for logs."""

    def __init__(self, why: str, value: object = "") -> None:
        super().__init__(f"{why}: {value!r}" if value else why)
        self.why = why


class _Change(msgspec.Struct, forbid_unknown_fields=True):
    table_name_camel: str | None = msgspec.field(name="tableName", default=None)
    table_name: str | None = None
    row_id_camel: str | None = msgspec.field(name="rowId", default=None)
    row_id: str | None = None
    action: str | int | None = None
    old_values_camel: msgspec.Raw = msgspec.field(name="oldValues", default=_EMPTY)
    old_values: msgspec.Raw = _EMPTY
    new_values_camel: msgspec.Raw = msgspec.field(name="newValues", default=_EMPTY)
    new_values: msgspec.Raw = _EMPTY
    status: str | int | None = None
    rows_affected_camel: int | str | None = msgspec.field(name="rowsAffected", default=None)
    rows_affected: int | str | None = None


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    ts: int | str | None = None
    type: str | None = None
    user: str | int | None = None
    tags: list[str] | None = None
    data: msgspec.Raw = _EMPTY
    id: str | None = None
    user_id_camel: str | int | None = msgspec.field(name="userId", default=None)
    user_id: str | int | None = None
    timestamp_ms_camel: int | str | None = msgspec.field(name="timestampMs", default=None)
    timestamp_ms: int | str | None = None
    session_id_camel: str | None = msgspec.field(name="sessionId", default=None)
    session_id: str | None = None
    client_ip_camel: str | None = msgspec.field(name="clientIp", default=None)
    client_ip: str | None = None
    description: str | None = None
    metadata: msgspec.Raw = _EMPTY
    change: _Change | None = None


_decode = msgspec.json.Decoder(_Line).decode
_ACTIONS = {"create": 1, "update": 2, "delete": 3}
_STATUSES = {"success": 1, "failed": 2}


def parse(line: bytes, ordinals: Ordinals) -> trackd.Event:
    """The event of one line. Without an id it gets one (server.cli.importing.identity) and then needs a time.

    Raises BadLine as `fields` does, and for a time that no id can carry.
    """
    said = fields(line)
    if not said["id"]:
        if said["timestamp_ms"] is None:
            raise BadLine("neither an id nor a time (timestampMs or ts): it could not be recognised in a second import")
        texts = (said[name] or "" for name in ("type", "user_id", "session_id", "client_ip", "description"))
        told = canonical_json(said["metadata"]) if said["metadata"] else ""
        audit = _canonical_change(said["change"]) if said["change"] is not None else None
        try:
            said["id"] = content_id(time_of(said), (*texts, said["tags"] or (), told, audit), ordinals)
        except TypeError as error:
            raise BadLine(str(error)) from None
    return trackd.Event(**said)


def time_of(said: Mapping[str, Any]) -> int:
    """The time that was said. Raises BadLine for one that no id can carry."""
    timestamp_ms: int = said["timestamp_ms"]
    if not 0 <= timestamp_ms <= TIME_MS_MAX:
        raise BadLine(f"the time is outside of what an id can carry (0 to {TIME_MS_MAX})", timestamp_ms)
    return timestamp_ms


def fields(line: bytes) -> dict[str, Any]:
    """What one line says, by the names of trackd.Event; None for what it does not say.

    Raises BadLine for what is not JSON, has unknown or contradicting keys or values of the wrong kind. Limits, names
    and the content of metadata are the daemon's to judge.
    """
    try:
        read = _decode(line)
        user = _only("userId", read.user_id_camel, read.user_id, read.user)
        return {
            "id": _id(read.id) if read.id else None,
            "type": read.type,
            "user_id": None if user is None else str(user),
            "timestamp_ms": _whole(
                "timestampMs", _only("timestampMs", read.timestamp_ms_camel, read.timestamp_ms, read.ts)
            ),
            "session_id": _only("sessionId", read.session_id_camel, read.session_id),
            "client_ip": _only("clientIp", read.client_ip_camel, read.client_ip),
            "description": read.description,
            "tags": read.tags,
            "metadata": _json_text("metadata", read.metadata, read.data) or None,
            "change": _change(read.change) if read.change is not None else None,
        }
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadLine(str(error)) from None


def _only(name: str, *values: Any) -> Any:
    """The one value that was given under any of its names."""
    given = None
    for value in values:
        if value is not None:
            if given is not None:
                raise BadLine(f"{name} is given under two names")
            given = value
    return given


def _whole(name: str, value: int | str | None) -> int | None:
    """Proto JSON writes 64-bit integers as text; both forms are taken."""
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            raise BadLine(f"{name} is not a whole number", value) from None
    if value is not None and not -(1 << 63) <= value < 1 << 63:
        raise BadLine(f"{name} does not fit into 64 bits")
    return value


def _json_text(name: str, *values: msgspec.Raw) -> str:
    """JSON given as a value or as text. A value keeps its own text: numbers lose no digit on the way."""
    text = ""
    for value in values:
        if value and value != _NULL:
            if text:
                raise BadLine(f"{name} is given under two names")
            text = bytes(value).decode()
    if not text:
        return ""
    if text[0] == "{":
        return text
    if text[0] == '"':
        return msgspec.json.decode(text, type=str)
    raise BadLine(f"{name} must be a JSON object (or one as text)")


def _id(text: str) -> bytes:
    """16 bytes, written as a UUID or, as in proto JSON, in base64 (either alphabet, with or without padding)."""
    if len(text) >= 32:
        try:
            return UUID(text).bytes
        except ValueError:
            pass
    try:
        padded = text.replace("-", "+").replace("_", "/").rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)
        found = base64.b64decode(padded, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != 16:
        raise BadLine("the id is neither a UUID nor 16 bytes in base64", text[:60])
    return found


def _name_of(value: str | int | None, prefix: str, numbers: dict[str, int]) -> int:
    """An enum value: its wire name, its short name or its number."""
    if isinstance(value, int):
        return value
    if value is None:
        return 0
    number = numbers.get(value.removeprefix(prefix).lower())
    if number is None:
        raise BadLine(f"action or status is none of {', '.join(numbers)}", value[:60])
    return number


def _change(read: _Change) -> trackd.Change:
    action = _name_of(read.action, "CHANGE_ACTION_", _ACTIONS)
    status = _name_of(read.status, "CHANGE_STATUS_", _STATUSES)
    if not -(1 << 31) <= min(action, status) <= max(action, status) < 1 << 31:
        raise BadLine("action or status does not fit into 32 bits")
    return trackd.Change(
        table_name=_only("change.tableName", read.table_name_camel, read.table_name) or "",
        row_id=_only("change.rowId", read.row_id_camel, read.row_id) or "",
        action=action,  # type: ignore[arg-type]  # open enum: the daemon refuses numbers it does not know
        old_values=_json_text("change.oldValues", read.old_values_camel, read.old_values),
        new_values=_json_text("change.newValues", read.new_values_camel, read.new_values),
        status=status,  # type: ignore[arg-type]
        rows_affected=_whole(
            "change.rowsAffected", _only("change.rowsAffected", read.rows_affected_camel, read.rows_affected)
        ),
    )


def _canonical_change(change: trackd.Change) -> tuple[object, ...]:
    return (
        change.table_name,
        change.row_id,
        change.action,
        canonical_json(change.old_values),
        canonical_json(change.new_values),
        change.status,
        change.rows_affected if change.HasField("rows_affected") else None,
    )
