"""Ids for events that come without one: the same event gets the same id each time it is read.

An id is that of server.content_id, made of the event's time, its content, and its ordinal among identical events of
the same file. So a file that is read twice, in whatever order of lines and batches, names the same events.
"""

from __future__ import annotations

from array import array

import orjson

from server.content_id import digest, repeated, uuid8

_CHAINED_MAX = 8
_SPREAD = 0x9E3779B97F4A7C15
"""Odd and without pattern (2^64 divided by the golden ratio): repetitions land far from other fingerprints."""
_ALL_BITS = (1 << 64) - 1


class Ordinals:
    """Counts how often each 64-bit fingerprint was seen, in one pass and without keeping what was counted.

    Memory: a table of 8 bytes a slot that is at most three quarters full, so 11 to 21 bytes for each distinct line
    (135 MB at 10 million, and half of that again for a moment whenever it doubles); repeated lines take one slot for
    each repetition up to eight, and above that one dictionary entry altogether. Lines may come in any order of time.

    Two different lines with the same fingerprint (odds of 3 in a million for a file of 10 million lines) would count
    as one. They still get different ids, the same each time the same file is read.
    """

    def __init__(self) -> None:
        self._mask = (1 << 12) - 1
        self._slots = array("Q", bytes(8 << 12))
        self._used = 0
        self._many: dict[int, int] = {}

    def next(self, fingerprint: int) -> int:
        """How many times this fingerprint was given before."""
        key = fingerprint or 1
        if self._add(key):
            return 0
        # The n-th repetition is stored as a fingerprint of its own.
        for ordinal in range(1, _CHAINED_MAX):
            if self._add((key + ordinal * _SPREAD & _ALL_BITS) or 1):
                return ordinal
        ordinal = self._many.get(key, _CHAINED_MAX)
        self._many[key] = ordinal + 1
        return ordinal

    def _add(self, key: int) -> bool:
        """Puts the key into its slot; False if it is there already."""
        slots, mask = self._slots, self._mask
        at = key & mask
        while held := slots[at]:
            if held == key:
                return False
            at = (at + 1) & mask
        slots[at] = key
        self._used += 1
        if self._used * 4 > mask * 3:
            self._grow()
        return True

    def _grow(self) -> None:
        mask = self._mask * 2 + 1
        slots = array("Q", bytes(8 * (mask + 1)))
        for key in self._slots:
            if key:
                at = key & mask
                while slots[at]:
                    at = (at + 1) & mask
                slots[at] = key
        self._slots, self._mask = slots, mask


def canonical_json(text: str) -> str:
    """The same text for the same JSON value: no spaces, keys sorted. Text that is not JSON stays as it is."""
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS).decode()
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return text


def content_id(timestamp_ms: int, content: object, ordinals: Ordinals | None = None) -> bytes:
    """The id of an event of this time (0 to server.content_id.TIME_MS_MAX) and content (anything that orjson takes).

    Without `ordinals` the caller vouches that no two events have the same content.
    """
    hashed = digest(orjson.dumps((timestamp_ms, content)))
    if ordinals is not None:
        hashed = repeated(hashed, ordinals.next(int.from_bytes(hashed[:8], "big")))
    return uuid8(timestamp_ms, hashed)
