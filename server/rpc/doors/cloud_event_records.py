"""CloudEvents as events. What becomes of which attribute is told in protos/trackd/cloudevents/v1/publish.proto."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
import orjson
from google.protobuf.timestamp_pb2 import Timestamp
from trackd.cloudevents.v1.cloudevents_pb2 import CloudEvent

from server.content_id import TIME_MS_MAX, digest, uuid8
from server.ingest import rules
from server.ingest.offered import Offered
from server.ingest.rules import Fault
from server.model import Absent

SPEC_VERSION = "1.0"
OWN = "ce_"
"""How names in the metadata begin that are not those of the data; the Kafka binding of CloudEvents has it, too."""

_RESERVED = frozenset({"id", "source", "type", "specversion", "data"})
_JSON_TYPE = re.compile(r"[^/;]+/(?:[^/;]+\+)?json\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_BLANKS = " \t\n\r"
"""What JSON takes for white space."""
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_any_json = msgspec.json.Decoder(msgspec.Raw).decode
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


class _Unfit(Exception):
    """This CloudEvent cannot be an event."""

    def __init__(self, message: str, field: str, reason: str = "CLOUD_EVENT_INVALID") -> None:
        super().__init__(message)
        self.fault = Fault(reason, message, field)


@dataclass(frozen=True, slots=True)
class _Row:
    """One event."""

    id: bytes
    type: str
    timestamp_ms: int
    user_id: str
    session_id: str
    client_ip: str
    metadata: str


_NOTHING = _Row(rules.NIL_ID, "", 0, "", "", "", "")
"""Stands for an event that is rejected."""


def offered(events: Iterable[CloudEvent]) -> tuple[Offered, dict[int, Fault]]:
    """The events as columns, and those that are no CloudEvents of version 1.0 or have no time."""
    rows = []
    faults: dict[int, Fault] = {}
    for place, event in enumerate(events):
        try:
            rows.append(_row(event))
        except _Unfit as problem:
            faults[place] = problem.fault
            rows.append(_NOTHING)
    return Offered(
        [row.id for row in rows],
        [row.type for row in rows],
        [row.user_id for row in rows],
        [row.timestamp_ms for row in rows],
        [row.session_id for row in rows],
        [row.client_ip for row in rows],
        Absent(len(rows)),
        [row.metadata for row in rows],
    ), faults


def _row(event: CloudEvent) -> _Row:
    _judge(event)
    told: dict[str, Any] = {"ce_id": event.id, "ce_source": event.source}
    user_id = session_id = client_ip = ""
    time: CloudEvent.CloudEventAttributeValue | None = None
    attributes = event.attributes
    for name in attributes:
        value = attributes[name]
        if not _is_name(name):
            raise _Unfit(f"{name[:60]!r} is no name of an attribute: lower-case letters and digits", "attributes")
        if name == "time":
            time = value
        elif name == "authid" and value.ce_string:
            user_id = value.ce_string
        elif name == "sessionid" and value.ce_string:
            session_id = value.ce_string
        elif name == "clientip" and value.ce_string and rules.is_address(value.ce_string):
            client_ip = value.ce_string
        else:
            told[OWN + name] = _plain(name, value)
    timestamp_ms, finer = _time(event.id, time)
    if finer:
        told["ce_time"] = finer
    hashed = digest(orjson.dumps(("cloudevents", event.source, event.id)))
    # A time that an id cannot carry is one that is not taken, or before 1970.
    made = uuid8(min(max(timestamp_ms, 0), TIME_MS_MAX), hashed)
    return _Row(made, event.type, timestamp_ms, user_id, session_id, client_ip, _metadata(event, told))


def _judge(event: CloudEvent) -> None:
    if event.spec_version != SPEC_VERSION:
        raise _Unfit(f"its version is {event.spec_version[:60]!r}; {SPEC_VERSION!r} is taken", "spec_version")
    if not event.id:
        raise _Unfit("a CloudEvent needs an id", "id")
    if not event.source:
        raise _Unfit("a CloudEvent needs a source", "source")


@lru_cache(maxsize=4_096)
def _is_name(name: str) -> bool:
    """Whether an optional attribute may be called so (CloudEvents 1.0, naming conventions)."""
    return re.fullmatch("[a-z0-9]+", name) is not None and name not in _RESERVED


# Attributes


def _plain(name: str, value: CloudEvent.CloudEventAttributeValue) -> Any:
    kind = value.WhichOneof("attr")
    if kind == "ce_timestamp":
        return _rfc3339(name, value.ce_timestamp)
    return _READERS[kind](value) if kind in _READERS else None


_READERS: Mapping[str | None, Callable[[CloudEvent.CloudEventAttributeValue], Any]] = {
    "ce_string": lambda value: value.ce_string,
    "ce_integer": lambda value: value.ce_integer,
    "ce_boolean": lambda value: value.ce_boolean,
    "ce_uri": lambda value: value.ce_uri,
    "ce_uri_ref": lambda value: value.ce_uri_ref,
    "ce_bytes": lambda value: base64.b64encode(value.ce_bytes).decode(),
}


def _rfc3339(name: str, moment: Timestamp) -> str:
    try:
        return moment.ToJsonString()
    except ValueError as error:
        raise _Unfit(f"{name} is not between the years 1 and 9999", f"attributes.{name}") from error


def _time(event_id: str, value: CloudEvent.CloudEventAttributeValue | None) -> tuple[int, str]:
    """Milliseconds since 1970, and the time as text where it is finer than that."""
    if value is None:
        return _time_of_id(event_id), ""
    if value.HasField("ce_timestamp"):
        moment = value.ce_timestamp
        nanos = moment.nanos
        text = _rfc3339("time", moment) if nanos % 1_000_000 or not 0 <= nanos < 1_000_000_000 else ""
        return moment.seconds * 1_000 + nanos // 1_000_000, text
    try:
        sent = datetime.fromisoformat(value.ce_string)
        since = sent - _EPOCH
    except (ValueError, TypeError, OverflowError) as error:
        message = "time is neither a timestamp nor text as in RFC 3339, with its offset from UTC"
        raise _Unfit(message, "attributes.time") from error
    return since // timedelta(milliseconds=1), value.ce_string if since.microseconds % 1_000 else ""


def _time_of_id(event_id: str) -> int:
    """The time inside of a UUIDv7, which counts where there is no other one."""
    try:
        found = UUID(event_id).bytes
    except ValueError:
        found = b""
    if not rules.is_uuid7(found):
        message = "without the attribute time the id must be a UUIDv7: there is no other time that a resend keeps"
        raise _Unfit(message, "attributes.time", "TIMESTAMP_REQUIRED")
    return rules.uuid7_time_ms(found)


# Data


def _metadata(event: CloudEvent, told: dict[str, Any]) -> str:
    """One JSON object of the attributes and the data, whose own text is kept: no number loses a digit."""
    form = event.WhichOneof("data")
    members = ""
    if form == "proto_data":
        packed = event.proto_data
        told["ce_data"] = {"@type": packed.type_url, "value": base64.b64encode(packed.value).decode()}
    elif form is not None and (text := _json_text(event, form)) is not None:
        members = _as_members(text)
    elif form == "text_data":
        told["ce_data"] = event.text_data
    elif form == "binary_data":
        told["ce_data_base64"] = base64.b64encode(event.binary_data).decode()
    own = orjson.dumps(told)[:-1].decode()
    return f"{own},{members}}}" if members else own + "}"


def _json_text(event: CloudEvent, form: str) -> str | None:
    """The data without the blanks around it, if it is JSON: any, where it is said to be; without a word, an object."""
    try:
        text = (event.text_data if form == "text_data" else event.binary_data.decode()).strip(_BLANKS)
    except UnicodeDecodeError:
        return None
    content_type = event.attributes["datacontenttype"].ce_string if "datacontenttype" in event.attributes else ""
    fits = _is_json(text) if _means_json(content_type) else not content_type and rules.is_object(text)
    return text if fits else None


@lru_cache(maxsize=256)
def _means_json(content_type: str) -> bool:
    """Whether data of this media type is JSON (RFC 6839, 3.1)."""
    return _JSON_TYPE.fullmatch(content_type) is not None


def _is_json(text: str) -> bool:
    try:
        _any_json(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _as_members(text: str) -> str:
    """A JSON value as members of an object that already has names of ours."""
    if not text.startswith("{"):
        return f'"ce_data":{text}'
    # A name can be written with escapes: only then, or where it is there in plain, is a closer look worth its while.
    if (f'"{OWN}' in text or "\\u" in text) and any(name.startswith(OWN) for name in _members(text)):
        return f'"ce_data":{text}'
    return text[1:-1].strip(_BLANKS)
