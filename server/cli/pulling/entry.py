"""An entry of a stream becomes an event: the same one, with the same id and time, however often it is read."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import trackd

from server.cli.importing.identity import content_id
from server.cli.importing.jsonl import BadLine, fields, time_of
from server.cli.importing.lines import LINE_BYTES_MAX

LINE_FIELD = b"event"
"""The field whose value is a whole event, written as a line of `trackd import`."""
NOT_AN_EVENT = "NOT_AN_EVENT"
"""The reason for entries that say nothing a daemon could be asked about. All others are the daemon's own."""
_UUID_VERSION_BYTE = 6


class Entry(NamedTuple):
    """One entry as it was read. `content` holds names and values in turn, empty for an entry that is gone."""

    stream: str
    id: str
    content: list[bytes]

    @property
    def key(self) -> tuple[str, str]:
        """What names the entry within its Redis database."""
        return self.stream, self.id


def event_of(entry: Entry, origin: str = "") -> trackd.Event:
    """The event of an entry. What the entry leaves out comes from its name, so that reading it again changes nothing.

    Without a time the event happened when the entry was added: the milliseconds of the entry's id. (One that brings a
    UUIDv7 has the time within that.) Without an id it gets a UUIDv8: the milliseconds of the event and a hash of
    `origin`, stream and entry id. `origin` tells apart streams of one name on several servers.

    Raises BadLine for what is no event.
    """
    said = fields(_line(entry.content))
    if said["timestamp_ms"] is None and not _carries_time(said["id"]):
        said["timestamp_ms"] = int(entry.id.partition("-")[0])
    if not said["id"]:
        said["id"] = content_id(time_of(said), (origin, entry.stream, entry.id))
    return trackd.Event(**said)


def _carries_time(id_: bytes | None) -> bool:
    return id_ is not None and id_[_UUID_VERSION_BYTE] >> 4 == 7


def _line(content: list[bytes]) -> bytes:
    """The entry as a line of `trackd import`."""
    if sum(map(len, content)) > LINE_BYTES_MAX:
        raise BadLine(f"longer than {LINE_BYTES_MAX:,} bytes")
    if len(content) == 2 and content[0] == LINE_FIELD:
        return content[1]
    said: dict[str, Any] = {}
    try:
        for name, value in zip(content[::2], content[1::2], strict=True):
            key = name.decode()
            if key in said:
                raise BadLine("a field is there twice", key)
            said[key] = _value(key, value)
    except UnicodeDecodeError:
        raise BadLine("a field is not UTF-8") from None
    if LINE_FIELD.decode() in said:
        raise BadLine(f"there are fields beside the field {LINE_FIELD.decode()}, which is the whole event")
    return msgspec.json.encode(said)


def _value(name: str, value: bytes) -> Any:
    """The value of a single field. All are texts but for the change, which is JSON, and tags, which may be."""
    text = value.decode()
    if not text:
        return None
    if name == "tags" and text[0] != "[":
        return text.split(",")
    if name not in ("tags", "change"):
        return text
    try:
        return msgspec.json.decode(value, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        raise BadLine(f"{name} is not JSON: {error}") from None
