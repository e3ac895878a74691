"""What a single value must be to be taken. Each rule answers with a Fault, or None if all is well."""

from __future__ import annotations

import ipaddress
import os
import re
from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from server import model

NAME = model.NAME

NIL_ID = bytes(16)


class Fault(NamedTuple):
    """Why an event is rejected."""

    reason: str
    message: str
    field: str


class _AnyObject(msgspec.Struct):
    """Decoding into it accepts exactly the JSON objects (RFC 8259), and builds nothing."""


_decode_object = msgspec.json.Decoder(_AnyObject).decode


def is_object(text: str) -> bool:
    """Whether the text is one JSON object."""
    try:
        _decode_object(text)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return False
    return True


def are_objects(texts: Iterable[str]) -> bool:
    """Whether each of the texts is "" or one JSON object; without a call of our own for each."""
    try:
        deque(map(_decode_object, filter(None, texts)), maxlen=0)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return False
    return True


def json_object(text: str, field: str, *, bytes_max: int, depth_max: int) -> Fault | None:
    """Nothing, or one JSON object within limits, without the character U+0000 (databases cannot hold it in text)."""
    if not text:
        return None
    if too_long(text, bytes_max):
        return Fault("METADATA_TOO_LARGE", f"{field} has more than {bytes_max:,} bytes", field)
    # Opening brackets bound the depth from above; only a text with many of them is walked.
    if text.count("{") + text.count("[") > depth_max and _depth(text) > depth_max:
        return Fault("METADATA_TOO_DEEP", f"{field} is nested deeper than {depth_max} levels", field)
    if not is_object(text):
        return Fault("METADATA_NOT_JSON_OBJECT", f"{field} is not a JSON object", field)
    if "\\u0000" in text and _holds_nul(text):
        return Fault("TEXT_HAS_NUL", f"{field} contains the character U+0000", field)
    return None


def _depth(text: str) -> int:
    """The deepest nesting of brackets outside of strings."""
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "}]":
            depth -= 1
    return deepest


def _holds_nul(text: str) -> bool:
    """Whether an escape for U+0000 is meant, and not an escaped backslash followed by "u0000"."""
    return any(len(match[1]) % 2 == 1 for match in re.finditer(r"(\\+)u0000", text))


def too_long(text: str, bytes_max: int) -> bool:
    """Whether the UTF-8 form of a text has more bytes than allowed."""
    return len(text) * 4 > bytes_max and len(text.encode()) > bytes_max


def plain_text(text: str, field: str, *, bytes_max: int) -> Fault | None:
    """Text within its limit, without U+0000."""
    if too_long(text, bytes_max):
        return Fault("FIELD_TOO_LONG", f"{field} has more than {bytes_max:,} bytes", field)
    if "\0" in text:
        return Fault("TEXT_HAS_NUL", f"{field} contains the character U+0000", field)
    return None


def type_name(name: str) -> Fault | None:
    """The form of an event type."""
    if NAME.fullmatch(name):
        return None
    return Fault("TYPE_INVALID", 'a type is 1 to 128 characters out of letters, digits and "_.:/-"', "type")


@lru_cache(maxsize=65_536)
def is_address(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address of at most 45 characters, or empty."""
    if not text:
        return True
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return len(text) <= 45


def is_uuid7(event_id: bytes) -> bool:
    """Whether 16 bytes are a UUID of version 7 and the standard variant (RFC 9562, 5.7)."""
    return len(event_id) == 16 and event_id[6] >> 4 == 7 and event_id[8] >> 6 == 2


def uuid7_time_ms(event_id: bytes) -> int:
    """The time inside a UUIDv7, milliseconds since the epoch."""
    return int.from_bytes(event_id[:6])


def new_uuid7(timestamp_ms: int) -> bytes:
    """A random UUIDv7 (RFC 9562, 5.7) of the given time, which need not be now: ids keep the order of event time."""
    drawn = bytearray(timestamp_ms.to_bytes(8, signed=True)[2:] + os.urandom(10))
    drawn[6] = 0x70 | drawn[6] & 0x0F
    drawn[8] = 0x80 | drawn[8] & 0x3F
    return bytes(drawn)
