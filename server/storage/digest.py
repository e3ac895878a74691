"""A digest of a month's content that any engine and any copy of the month can be held against.

Every event is one line: a JSON array without spaces, of UTF-8 in which only what JSON demands is escaped. The lines go,
in the order of positions, into 64 buckets by user, so that erasing one person changes one bucket; a bucket's digest is
the SHA-256 of its lines, each ended by a line feed. The digest of the month is the SHA-256 of the bucket digests one
after the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

import orjson

from server.model import Event

BUCKETS = 64


def bucket_of(user_id: str) -> int:
    """The bucket of a user; nobody has one, too."""
    return hashlib.sha256(user_id.encode()).digest()[0] % BUCKETS


class ContentDigest:
    """Takes lines in the order of positions."""

    def __init__(self) -> None:
        self._buckets = [hashlib.sha256() for _ in range(BUCKETS)]
        self.rows = 0

    def add(self, bucket: int, lines: bytes | memoryview, rows: int) -> None:
        """Some lines of a bucket, with a line feed between them but not behind the last."""
        self._buckets[bucket].update(lines)
        self._buckets[bucket].update(b"\n")
        self.rows += rows

    def buckets(self) -> tuple[str, ...]:
        """The digest of each bucket, hexadecimal."""
        return tuple(bucket.hexdigest() for bucket in self._buckets)

    def hexdigest(self) -> str:
        """The digest of all that was added."""
        return root_of(self.buckets())


def root_of(buckets: Sequence[str]) -> str:
    """The digest of a month whose buckets have these."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, buckets))).hexdigest()


def digest_of(events: Iterable[Event]) -> str:
    """The digest of events in the order of positions."""
    return digested(events).hexdigest()


def digested(events: Iterable[Event]) -> ContentDigest:
    """The same, with its buckets."""
    digest = ContentDigest()
    for event in events:
        digest.add(bucket_of(event.user_id), line_of(event), 1)
    return digest


def line_of(event: Event) -> bytes:
    """The line of an event."""
    change = event.change
    values = [
        event.position,
        event.id.hex(),
        event.type,
        event.user_id,
        event.source,
        event.timestamp_ms,
        event.received_ms,
        event.session_id,
        event.client_ip,
        event.description,
        orjson.dumps(event.tags).decode() if event.tags else "",
        event.metadata,
    ]
    if change is None:
        values += [None] * 7
    else:
        values += [
            change.table_name,
            change.row_id,
            int(change.action),
            change.old_values,
            change.new_values,
            int(change.status),
            change.rows_affected,
        ]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
