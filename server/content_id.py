"""Ids made from content: what comes without an id of trackd's own gets the same one each time it is sent.

An id is a UUIDv8 (RFC 9562, section 5.8): 48 bits of event milliseconds, so that ids rise with time and the store's
unique index stays in order, and 74 bits of a 128-bit hash of what tells the event from all others of that millisecond.
"""

from __future__ import annotations

from hashlib import blake2b

TIME_MS_MAX = (1 << 48) - 1
"""The latest time that an id can carry."""
DIGEST_BYTES = 16

_VERSION_AND_VARIANT = (0x8 << 76) | (0b10 << 62)
_HASH_BITS = ((1 << 80) - 1) & ~((0xF << 76) | (0b11 << 62))


def digest(content: bytes) -> bytes:
    """The hash of an event's content: BLAKE2b (RFC 7693) with 128 bits."""
    return blake2b(content, digest_size=DIGEST_BYTES).digest()


def repeated(hashed: bytes, ordinal: int) -> bytes:
    """The hash of the n-th event with this content, where equal events are events of their own; unchanged for n = 0."""
    return digest(hashed + ordinal.to_bytes(8, "big")) if ordinal else hashed


def uuid8(timestamp_ms: int, hashed: bytes) -> bytes:
    """The id of an event of this time (0 to TIME_MS_MAX) whose content has this hash."""
    bits = int.from_bytes(hashed, "big") & _HASH_BITS
    return (timestamp_ms << 80 | _VERSION_AND_VARIANT | bits).to_bytes(16, "big")
