"""A part on its way to the target and back: written, noted, published, read again from where it lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa

from retention.month import Month
from server.archive import parts, places, reading, steps
from server.archive.columns import folded
from server.archive.drafts import Draft
from server.archive.folders import Folder
from server.archive.manifest import Counted, Part
from server.archive.reading import Content
from server.storage.digest import BUCKETS, ContentDigest


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where parts of an archive belong."""

    month: Month
    name: str
    buckets: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A part that was published, and what was read back."""

    part: Part
    content: Content


def store(
    folder: Folder,
    draft: Draft,
    lineage: Lineage,
    bucket: int,
    groups: Iterable[Any],
    heard: Callable[[int], None] | None = None,
) -> Stored:
    """Publishes sorted rows (pyarrow.Table) as the part of a bucket, and reads it back.

    `heard` is told of rows that were read back. Corrupt(PART_DAMAGED) if that is not what was written.
    """
    file = draft.create(bucket)
    try:
        parts.write(file, groups, lineage.name)
        sha256 = parts.sha256_of(file)
        steps.reached("written")
        path = places.part(lineage.month, bucket, sha256)
        draft.note(path)
        steps.reached("noted")
        folder.publish(file, path)
    except BaseException:
        file.close()
        raise
    steps.reached("part_published")
    with folder.fetch(path) as back:
        if parts.sha256_of(back) != sha256:
            raise reading.damaged(path, "is not what was written")
        size = back.tell()
        content = reading.content_of(reading.rows_of(back, path), path, bucket, lineage.buckets, heard)
    pa.default_memory_pool().release_unused()
    steps.reached("part_verified")
    return Stored(Part(path, bucket, content.rows, size, sha256), content)


@dataclass(frozen=True, slots=True)
class Summed:
    """What all parts of an archive hold together."""

    counts: tuple[Counted, ...]
    first_ms: int
    last_ms: int
    bucket_digests: tuple[str, ...]


def summed(contents: Sequence[tuple[int, Content]], buckets: int) -> Summed:
    """Of (bucket, what its part holds); at least one."""
    counts: Counter[tuple[str, str]] = Counter()
    for _, content in contents:
        counts.update(content.counts)
    digests = {bucket: content.digest.buckets() for bucket, content in contents}
    empty = ContentDigest().buckets()
    return Summed(
        tuple(Counted(event_type, form, rows) for (event_type, form), rows in sorted(counts.items())),
        min(content.first_ms for _, content in contents if content.first_ms is not None),
        max(content.last_ms for _, content in contents if content.last_ms is not None),
        tuple(digests.get(folded(place, buckets), empty)[place] for place in range(BUCKETS)),
    )


def versions() -> dict[str, str]:
    """Of the software that writes an archive."""
    try:
        trackd = version("trackd")
    except PackageNotFoundError:  # run from a checkout that is not installed
        trackd = "unknown"
    return {"pyarrow": pa.__version__, "trackd": trackd}
