"""Reading parts back: their rows as canonical lines (server.storage.digest), made of nothing but the Parquet file.

This is the other side of the comparison that an archive counts after. Nothing of the way that rows took into the
archive is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from server.archive.columns import SCHEMA, SORTED, folded
from server.archive.folders import Folder
from server.archive.lines import lines_of
from server.archive.manifest import Manifest
from server.errors import Corrupt
from server.storage.digest import ContentDigest, bucket_of

LINES_ROWS = 16_384
_DICTIONARIES = ["type", "user_id", "source", "action", "status", "form"]
UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError, UnicodeDecodeError)
"""What pyarrow raises for files that are none of its own."""


@dataclass(slots=True)
class Content:
    """What some parts hold."""

    digest: ContentDigest = field(default_factory=ContentDigest)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(type, form) -> rows."""
    first_ms: int | None = None
    last_ms: int | None = None

    @property
    def rows(self) -> int:
        """All of them."""
        return self.digest.rows


def open_part(file: IO[bytes], where: str) -> Any:
    """A part as a pyarrow.parquet.ParquetFile. Corrupt(PART_DAMAGED) if it is none."""
    try:
        opened = pq.ParquetFile(file, read_dictionary=_DICTIONARIES)
        names = opened.schema_arrow.names
    except UNREADABLE as error:
        raise damaged(where, f"cannot be read: {error}") from error
    if names != SCHEMA.names:
        raise damaged(where, f"has the columns {', '.join(names)}")
    return opened


def rows_of(file: IO[bytes], where: str) -> Any:
    """All rows of a part, as a pyarrow.Table. Corrupt(PART_DAMAGED)."""
    return read(open_part(file, where), where)


def read(opened: Any, where: str, columns: Sequence[str] | None = None) -> Any:
    """Some columns of a part, as a pyarrow.Table; words that repeat are dictionaries. Corrupt(PART_DAMAGED)."""
    try:
        return opened.read(columns).unify_dictionaries().combine_chunks()
    except UNREADABLE as error:
        raise damaged(where, f"cannot be read: {error}") from error


def plain(rows: Any) -> Any:
    """Rows of a part (pyarrow.Table) as they are written into one."""
    return rows.cast(SCHEMA)


def damaged(where: str, problem: str) -> Corrupt:
    """A part that is not what was written."""
    return Corrupt("PART_DAMAGED", f"{where} {problem}", hint="bring it back from a copy of the target")


def content_of(rows: Any, where: str, bucket: int, buckets: int, heard: Callable[[int], None] | None = None) -> Content:
    """What the rows (pyarrow.Table) of the part of a bucket hold; `heard` is told of rows that are done.

    Corrupt(PART_DAMAGED) if they contradict themselves: out of order, in another bucket, with another time in `time`.
    """
    content = Content()
    if not rows.num_rows:
        return content
    places = _digest_buckets(rows)
    if {folded(place, buckets) for place in set(places.tolist())} != {bucket}:
        raise damaged(where, "has users of another bucket")
    if not pc.all(pc.equal(rows["time"].cast(pa.int64()), rows["timestamp_ms"])).as_py():
        raise damaged(where, "has times that are not those of timestamp_ms")
    _require_order(rows, where)
    times = pc.min_max(rows["timestamp_ms"]).as_py()
    content.first_ms, content.last_ms = times["min"], times["max"]
    counted = rows.select(["type", "form"]).group_by(["type", "form"]).aggregate([([], "count_all")])
    for count, event_type, form in zip(
        *(counted[name].to_pylist() for name in ("count_all", "type", "form")), strict=True
    ):
        content.counts[event_type, form] += count
    order = np.lexsort((rows["position"].to_numpy(), places))
    sorted_places = places[order]
    starts = [0, *(np.flatnonzero(np.diff(sorted_places)) + 1).tolist(), len(order)]
    for start, end in pairwise(starts):
        for low in range(start, end, LINES_ROWS):
            some = order[low : min(end, low + LINES_ROWS)]
            content.digest.add(int(sorted_places[start]), lines_of(rows.take(some)), len(some))
            if heard is not None:
                heard(len(some))
    return content


def _digest_buckets(rows: Any) -> Any:
    """The bucket of each row's user among the 64 of digests."""
    users = rows["user_id"].combine_chunks()
    buckets = np.fromiter(map(bucket_of, users.dictionary.to_pylist()), np.int64)
    return buckets[users.indices.to_numpy()]


def _require_order(rows: Any, where: str) -> None:
    """By user, time and position, as other tools may rely on."""
    keys = rows.select([name for name, _ in SORTED]).combine_chunks()
    users = keys["user_id"].cast(pa.large_string())
    before, after = keys.slice(0, len(keys) - 1), keys.slice(1)
    user, next_user = users.slice(0, len(keys) - 1), users.slice(1)
    same_user = pc.equal(user, next_user)
    same_time = pc.equal(before["timestamp_ms"], after["timestamp_ms"])
    within = pc.if_else(
        same_time,
        pc.less(before["position"], after["position"]),
        pc.less(before["timestamp_ms"], after["timestamp_ms"]),
    )
    if not pc.all(pc.if_else(same_user, within, pc.less(user, next_user))).as_py() and len(keys) > 1:
        raise damaged(where, "is not sorted by user, time and position")


def batches(folder: Folder, manifest: Manifest, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """All rows of an archive, or some columns of them, as pyarrow.Table, a row group at a time, in any order."""
    for part in manifest.parts:
        with folder.fetch(part.path) as file:
            opened = open_part(file, part.path)
            for group in range(opened.num_row_groups):
                try:
                    yield opened.read_row_group(group, columns)
                except UNREADABLE as error:
                    raise damaged(part.path, f"cannot be read: {error}") from error
