"""Archives and legal holds: how much of one is held, and cutting it down to that when its time has come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from retention.facts import NOTHING_HELD, RAW, Held
from retention.hold import Hold
from retention.month import Month
from server.archive import reading, steps
from server.archive.columns import folded
from server.archive.destroying import destroy
from server.archive.drafts import Draft
from server.archive.folders import Folder
from server.archive.manifest import Manifest, Part
from server.archive.reading import Content
from server.archive.storing import Lineage, store, summed, versions
from server.errors import Corrupt
from server.rewriting import Heard
from server.storage.digest import bucket_of, root_of

_JUDGED = ["type", "user_id", "source", "form"]


def held(folder: Folder, manifest: Manifest, holds: Iterable[Hold], heard: Heard | None = None) -> Held:
    """The rows of an archive that active holds hold: only rows as they were sent, like those of a month.

    Reads four columns of the parts that can have any; `heard` is told how many rows are done.
    """
    effective = _effective(manifest, holds)
    total, by = 0, Counter[str]()
    done = 0
    for part in manifest.parts:
        if _may_hold(manifest, part, effective):
            with folder.fetch(part.path) as file:
                opened = reading.open_part(file, part.path)
                masks = _masks(reading.read(opened, part.path, _JUDGED), effective, Month.parse(manifest.month))
            by.update({code: int(mask.sum()) for code, mask in masks.items()})
            total += int(_any(masks, part.rows).sum())
        done += part.rows
        if heard is not None:
            heard(done)
    return Held(total, tuple(sorted((code, rows) for code, rows in by.items() if rows))) if total else NOTHING_HELD


def cut_down(
    folder: Folder, manifest: Manifest, holds: Iterable[Hold], *, plan_id: str, heard: Heard | None = None
) -> Manifest | None:
    """Removes all rows of an archive that no active hold holds; its new manifest, or None if nothing is left of it.

    Only parts that lose rows are written anew, read back and compared; then the new manifest takes the place of the old
    one, under the same name, no longer `whole`; then the old parts go. A crash leaves the one or the other. If every
    row is held it is the same archive. Raises Corrupt(PART_DAMAGED, ARCHIVE_DIFFERS), Unavailable(ARCHIVE_TARGET).
    """
    effective = _effective(manifest, holds)
    if not any(_may_hold(manifest, part, effective) for part in manifest.parts):
        destroy(folder, manifest.name)
        return None
    month = Month.parse(manifest.month)
    lineage = Lineage(month, manifest.lineage, manifest.buckets)
    draft = Draft(folder, month, manifest.lineage)
    draft.begin(manifest.name)
    steps.reached("drafted")
    left: list[tuple[Part, Content]] = []
    done = 0
    for part in manifest.parts:
        if _may_hold(manifest, part, effective):
            left += _cut(folder, draft, lineage, part, effective)
        done += part.rows
        if heard is not None:
            heard(done)
    if not left:
        draft.end()
        destroy(folder, manifest.name)
        return None
    if [part for part, _ in left] == list(manifest.parts):
        draft.end()
        return manifest
    found = summed([(part.bucket, content) for part, content in left], manifest.buckets)
    remaining = replace(
        manifest,
        parts=tuple(part for part, _ in left),
        counts=found.counts,
        first_ms=found.first_ms,
        last_ms=found.last_ms,
        bucket_digests=found.bucket_digests,
        content_digest=root_of(found.bucket_digests),
        whole=False,
        plan_id=plan_id,
        versions=versions(),
    )
    draft.supersede(remaining)
    return remaining


def _cut(
    folder: Folder, draft: Draft, lineage: Lineage, part: Part, holds: Sequence[Hold]
) -> Iterator[tuple[Part, Content]]:
    """What is left of a part: nothing, itself, or a new one."""
    with folder.fetch(part.path) as file:
        rows = reading.rows_of(file, part.path)
    keep = _any(_masks(rows, holds, lineage.month), part.rows)
    if not keep.any():
        return
    kept = rows if keep.all() else rows.filter(keep)
    expected = reading.content_of(kept, part.path, part.bucket, lineage.buckets)
    if keep.all():
        yield part, expected
        return
    stored = store(folder, draft, lineage, part.bucket, [reading.plain(kept)])
    if stored.content.digest.buckets() != expected.digest.buckets():
        raise Corrupt(
            "ARCHIVE_DIFFERS",
            f"what was written of {part.path} is not what it held",
            hint="look at the disk of the target",
        )
    yield stored.part, stored.content


def _effective(manifest: Manifest, holds: Iterable[Hold]) -> list[Hold]:
    month = Month.parse(manifest.month)
    types = {one.type for one in manifest.counts if one.form == RAW}
    return [hold for hold in holds if hold.active and any(hold.touches(month, name) for name in types)]


def _may_hold(manifest: Manifest, part: Part, holds: Sequence[Hold]) -> bool:
    """Whether a part can have held rows: users are where their bucket is."""
    return any(
        not hold.users or part.bucket in {folded(bucket_of(user), manifest.buckets) for user in hold.users}
        for hold in holds
    )


def _masks(rows: Any, holds: Sequence[Hold], month: Month) -> Mapping[str, Any]:
    """For each hold, by code, which of the rows (pyarrow.Table) it holds."""
    raw = _where(rows["form"], lambda form: form == RAW)
    masks = {}
    for hold in holds:
        mask = raw & _where(rows["type"], lambda name, hold=hold: hold.touches(month, name))
        if hold.users:
            mask = mask & _where(rows["user_id"], hold.users.__contains__)
        if hold.sources:
            mask = mask & _where(rows["source"], hold.sources.__contains__)
        masks[hold.code] = mask
    return masks


def _where(column: Any, wanted: Any) -> Any:
    """Which rows of a column that comes as a dictionary have a wanted value: each value is looked at once."""
    values = column.combine_chunks()
    flags = np.fromiter((bool(wanted(value)) for value in values.dictionary.to_pylist()), np.bool_)
    return flags[values.indices.to_numpy()]


def _any(masks: Mapping[str, Any], rows: int) -> Any:
    mask = np.zeros(rows, np.bool_)
    for one in masks.values():
        mask |= one
    return mask
