"""Log records of OpenTelemetry as events.

| of the record | becomes |
|---|---|
| `event_name`, else the attribute `event.name`, else the type that the operator set for plain logs | type |
| `time_unix_nano`, else `observed_time_unix_nano` | time, in whole milliseconds |
| attribute `user.id`, else `enduser.id` | user |
| attributes `session.id`; `client.address` where that is an address | session; client address |
| body that is text and not too long | description |
| all other attributes | metadata, under their own names |
| everything else | metadata, under names that begin with `otel.` |

What became a field of its own is not in the metadata again. Attributes that begin with `otel.` themselves are found in
the object `otel.attributes`.

An id is made of the event's time and a hash: of the attribute `log.record.uid` and the service, where there is one, and
else of all that the record, its scope and its resource say, down to the nanosecond. So what is exported again is stored
once. Equal records of one export are events of their own, told apart by their order; equal ones of two exports are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from server.content_id import DIGEST_BYTES, digest, repeated, uuid8
from server.ingest import rules
from server.ingest.offered import Offered
from server.ingest.rules import Fault
from server.model import Absent
from server.rpc.doors import any_value

UNKNOWN_SERVICE = "unknown_service"
"""What OpenTelemetry calls a service without a name (semantic conventions, service.name)."""
OWN = "otel."
"""How names in the metadata begin that are ours and not those of attributes."""
UID = "log.record.uid"

_OWN_BYTES = OWN.encode()
_NO_NAME = Fault(
    "EVENT_NAME_MISSING",
    "it is a plain log record: set its event name, or have the operator set doors.otlp_plain_logs_type",
    "event_name",
)
_NO_TIME = Fault(
    "TIMESTAMP_REQUIRED",
    "neither time_unix_nano nor observed_time_unix_nano is set: there is no time that a resend keeps",
    "time_unix_nano",
)


@dataclass(frozen=True, slots=True)
class Mapping:
    """What the operator's settings say about records."""

    plain_type: str
    """The type of records without an event name; "" rejects them."""
    description_bytes_max: int
    """Longer text bodies are metadata."""


def source_of(logs: ResourceLogs) -> str:
    """The service that the records are from."""
    return _lifted(any_value.mapping(logs.resource.attributes), "service.name") or UNKNOWN_SERVICE


def offered(group: Sequence[ResourceLogs], mapping: Mapping) -> tuple[Offered, dict[int, Fault]]:
    """The records of one service as columns, and those that are no events."""
    columns = _Columns(mapping)
    for logs in group:
        source = source_of(logs)
        for scope in logs.scope_logs:
            shared = _Shared(logs, scope, source)
            for record in scope.log_records:
                columns.add(record, shared)
    return columns.offered(), columns.faults


class _Shared:
    """What the records of one scope have in common."""

    def __init__(self, logs: ResourceLogs, scope: ScopeLogs, source: str) -> None:
        self.source = source
        self.hashed = blake2b(digest_size=DIGEST_BYTES)
        for part in (
            logs.resource.SerializeToString(),
            logs.schema_url.encode(),
            scope.scope.SerializeToString(),
            scope.schema_url.encode(),
        ):
            self.hashed.update(len(part).to_bytes(4, "big") + part)
        resource = any_value.mapping(logs.resource.attributes)
        _lifted(resource, "service.name")
        told = {f"{OWN}resource.{key}": value for key, value in resource.items()}
        attributes = any_value.mapping(scope.scope.attributes)
        for name, value in (
            ("resource_schema_url", logs.schema_url),
            ("scope.name", scope.scope.name),
            ("scope.version", scope.scope.version),
            ("scope.attributes", attributes),
            ("scope_schema_url", scope.schema_url),
        ):
            if value:
                told[OWN + name] = value
        self.members = orjson.dumps(told)[1:-1]
        """Of a JSON object, without its brackets."""


class _Columns:
    """Collects events, column by column."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._hashes: list[bytes] = []
        self._types: list[str] = []
        self._users: list[str] = []
        self._times_ms: list[int] = []
        self._sessions: list[str] = []
        self._addresses: list[str] = []
        self._descriptions: list[str] = []
        self._metadata: list[str] = []
        self._by_uid: set[int] = set()
        """Rows whose hash is that of a uid: another one with the same hash is the same event."""
        self.faults: dict[int, Fault] = {}

    def add(self, record: LogRecord, shared: _Shared) -> None:
        """One more row."""
        row = len(self._types)
        raw = record.SerializeToString()
        told = any_value.mapping(record.attributes)
        if _OWN_BYTES in raw:
            _set_aside(told)
        name = record.event_name or _lifted(told, "event.name") or self._mapping.plain_type
        nanos = record.time_unix_nano or record.observed_time_unix_nano
        if not (name and nanos):
            self.faults[row] = _NO_NAME if not name else _NO_TIME
        if uid := told.get(UID):
            self._by_uid.add(row)
            self._hashes.append(digest(orjson.dumps((UID, shared.source, uid))))
        else:
            hashed = shared.hashed.copy()
            hashed.update(raw)
            self._hashes.append(hashed.digest())
        self._types.append(name)
        self._times_ms.append(nanos // 1_000_000)
        self._users.append(_lifted(told, "user.id", "enduser.id"))
        self._sessions.append(_lifted(told, "session.id"))
        self._addresses.append(_lifted_address(told))
        self._descriptions.append(self._description(record, told))
        _add_own(told, record)
        self._metadata.append(_joined(told, shared.members))

    def _description(self, record: LogRecord, told: dict[str, Any]) -> str:
        """The body, if it is text that fits; any other one becomes metadata."""
        text = record.body.string_value
        if text and not rules.too_long(text, self._mapping.description_bytes_max):
            return text
        if record.HasField("body") and (body := text or any_value.plain(record.body)) not in ("", None):
            told["otel.body"] = body
        return ""

    def offered(self) -> Offered:
        """All of it, with ids."""
        absent = Absent(len(self._types))
        return Offered(
            list(map(uuid8, self._times_ms, self._distinct_hashes())),
            self._types,
            self._users,
            self._times_ms,
            self._sessions if any(self._sessions) else absent,
            self._addresses if any(self._addresses) else absent,
            self._descriptions if any(self._descriptions) else absent,
            self._metadata,
        )

    def _distinct_hashes(self) -> list[bytes]:
        """The n-th of several equal records is an event of its own."""
        if len(set(self._hashes)) == len(self._hashes):
            return self._hashes
        seen: dict[bytes, int] = {}
        distinct = []
        for row, hashed in enumerate(self._hashes):
            ordinal = 0 if row in self._by_uid else seen.get(hashed, 0)
            seen[hashed] = ordinal + 1
            distinct.append(repeated(hashed, ordinal))
        return distinct


def _lifted(told: dict[str, Any], *keys: str) -> str:
    """Takes out the first of these attributes that is text or a whole number; "" if none is."""
    for key in keys:
        value = told.get(key)
        if value and value.__class__ in (str, int):
            del told[key]
            return str(value)
    return ""


def _lifted_address(told: dict[str, Any]) -> str:
    """Takes out the address of the client. It may also be a name or a socket's path, and then stays where it is."""
    value = told.get("client.address")
    if value and isinstance(value, str) and rules.is_address(value):
        del told["client.address"]
        return value
    return ""


def _set_aside(told: dict[str, Any]) -> None:
    """Puts attributes with names like ours where they stay apart from ours."""
    if strange := {key: told.pop(key) for key in list(told) if key.startswith(OWN)}:
        told["otel.attributes"] = strange


def _add_own(told: dict[str, Any], record: LogRecord) -> None:
    """What a record has beside attributes and body. Nanoseconds are kept: the time of an event has milliseconds."""
    if record.time_unix_nano:
        told["otel.time_unix_nano"] = record.time_unix_nano
    if record.observed_time_unix_nano:
        told["otel.observed_time_unix_nano"] = record.observed_time_unix_nano
    if record.severity_number:
        told["otel.severity_number"] = record.severity_number
    if record.severity_text:
        told["otel.severity_text"] = record.severity_text
    # Ids that are all zeros are none (W3C Trace Context, 3.2.2).
    if (trace_id := record.trace_id).strip(b"\0"):
        told["otel.trace_id"] = trace_id.hex()
    if (span_id := record.span_id).strip(b"\0"):
        told["otel.span_id"] = span_id.hex()
    if record.flags:
        told["otel.flags"] = record.flags
    if record.dropped_attributes_count:
        told["otel.dropped_attributes_count"] = record.dropped_attributes_count


def _joined(told: dict[str, Any], members: bytes) -> str:
    """One JSON object of both, as text; "" if there is nothing in it."""
    if not told:
        return f"{{{members.decode()}}}" if members else ""
    own = orjson.dumps(told)
    return (own[:-1] + b"," + members + b"}" if members else own).decode()
