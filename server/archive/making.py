"""Making an archive: out of the store, sorted, written, read back, compared; only then it is one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from retention.month import Month
from server.archive import parts, places, steps
from server.archive.columns import bucket_count, described, folded
from server.archive.drafts import Draft
from server.archive.folders import Folder
from server.archive.manifest import Manifest, Part
from server.archive.storing import Lineage, Stored, Summed, store, summed, versions
from server.errors import Corrupt, Precondition, TrackdError
from server.in_step import InStep
from server.rewriting import Heard, Selection
from server.storage.contract import SealedRows
from server.storage.digest import BUCKETS, ContentDigest, root_of

WORKERS = 2
"""Not fewer: one of them takes the digest of what is stored, in step with the rows that the other one sorts away."""
TELL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which rows become an archive, and what its manifest says about why."""

    month: Month
    generation: int
    month_digest: str
    """Of the sealed month, as planned."""
    rows: Selection
    target: str
    """The name that the target has in the policy."""
    plan_id: str
    created_ms: int
    anonymous: bool = False
    """All rows have the label "anonymous"."""

    @property
    def lineage(self) -> str:
        """What all attempts at it have in common."""
        return places.lineage(self.month, self.rows, self.target)


def make(
    folder: Folder,
    stored: SealedRows,
    wanted: Wanted,
    *,
    heard: Heard | None = None,
) -> Manifest:
    """Copies the rows of a sealed month to the target; the manifest of what was read back and found to be the same.

    `stored` is read on two threads at once. Rows wait in files without names in `folder.scratch`, about as large as the
    month's file; memory holds two parts. `heard` is told how many rows are done, on the calling thread: half of the
    work is reading a row from the store, half is writing and comparing it. What it raises ends the work, and nothing is
    left that counts.

    Done again with the same rows it gives the same parts and the same name; left-overs of an attempt that was killed
    are removed first. Raises Precondition(ARCHIVE_EMPTY) if there is no such row;
    Corrupt(ARCHIVE_DIFFERS, PART_DAMAGED) if what was read back is not what is stored; Unavailable(ARCHIVE_TARGET).
    """
    draft = Draft(folder, wanted.month, wanted.lineage)
    draft.begin()
    try:
        steps.reached("drafted")
        with parts.Spill(folder.scratch) as spill, _Work(folder, draft, wanted, heard) as work:
            manifest = work.done(stored, spill)
        steps.reached("compared")
        draft.supersede(manifest)
    except Exception:
        # A failure cleans up at once if it can. Whatever it is, the next attempt does.
        with suppress(TrackdError):
            draft.end()
        raise
    return manifest


class _Work:
    """One attempt."""

    def __init__(self, folder: Folder, draft: Draft, wanted: Wanted, heard: Heard | None) -> None:
        self._folder = folder
        self._draft = draft
        self._wanted = wanted
        self._progress = _Progress(heard)
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="trackd-archive")
        self._step = InStep()
        """Led by reading from the store; the digest of what is stored follows."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        self._step.__exit__(kind, *rest)
        self._pool.shutdown(cancel_futures=True)

    def done(self, stored: SealedRows, spill: parts.Spill) -> Manifest:
        """All of it, up to the manifest."""
        wanted = self._wanted
        expected = self._pool.submit(stored.content_digest, wanted.rows, self._step.follow)
        exported = 0
        for rows in stored.export(wanted.rows):
            spill.add(rows, self._pool)
            exported += len(rows)
            self._step.led(exported)
            self._progress.add(len(rows))
            self._progress.tell()
            if expected.done():
                expected.result()
        self._step.end()
        spill.finish()
        steps.reached("exported")
        if not spill.rows:
            raise Precondition("ARCHIVE_EMPTY", f"{wanted.month} has no such rows", hint="plan again")
        buckets = bucket_count(spill.rows, spill.bytes)
        written = self._parts(spill, buckets)
        self._progress.tell()
        content = summed([(one.part.bucket, one.content) for one in written], buckets)
        _require_same(expected.result(), content, wanted.month)
        return self._manifest([one.part for one in written], content, buckets)

    def _parts(self, spill: parts.Spill, buckets: int) -> list[Stored]:
        """The parts, in the order of buckets; as many at once as there are workers, so that few are in memory."""
        running: set[Future[Stored | None]] = set()
        found: list[Stored] = []
        for bucket in range(buckets):
            running.add(self._pool.submit(self._part, spill, bucket, buckets))
            while len(running) >= WORKERS:
                found += self._ended(running)
        while running:
            found += self._ended(running)
        return sorted(found, key=lambda one: one.part.bucket)

    def _ended(self, running: set[Future[Stored | None]]) -> list[Stored]:
        ended, _ = wait(running, TELL_S, FIRST_COMPLETED)
        running -= ended
        self._progress.tell()
        return [stored for future in ended if (stored := future.result())]

    def _part(self, spill: parts.Spill, bucket: int, buckets: int) -> Stored | None:
        self._step.unless_failed()
        rows = spill.taken(place for place in range(BUCKETS) if folded(place, buckets) == bucket)
        if not rows.num_rows:
            return None
        lineage = Lineage(self._wanted.month, self._wanted.lineage, buckets)
        groups = iter([parts.in_order(rows)])
        del rows  # what is in two orders in memory should not stay so until it is verified
        return store(self._folder, self._draft, lineage, bucket, groups, self._verified)

    def _verified(self, rows: int) -> None:
        self._step.unless_failed()
        self._progress.add(rows)

    def _manifest(self, stored: Sequence[Part], content: Summed, buckets: int) -> Manifest:
        wanted = self._wanted
        digest = root_of(content.bucket_digests)
        return Manifest(
            name=places.name(wanted.month, wanted.lineage, digest),
            lineage=wanted.lineage,
            month=str(wanted.month),
            generation=wanted.generation,
            month_digest=wanted.month_digest,
            types=tuple(sorted(wanted.rows.types)),
            forms=tuple(sorted(wanted.rows.forms)),
            target=wanted.target,
            counts=content.counts,
            first_ms=content.first_ms,
            last_ms=content.last_ms,
            columns=described(),
            buckets=buckets,
            parts=tuple(stored),
            bucket_digests=content.bucket_digests,
            content_digest=digest,
            anonymous=wanted.anonymous,
            plan_id=wanted.plan_id,
            created_ms=wanted.created_ms,
            versions=versions(),
        )


class _Progress:
    """Rows that were read from the store, and rows that were read back: a row is done when it is both."""

    def __init__(self, heard: Heard | None) -> None:
        self._heard = heard
        self._lock = threading.Lock()
        self._halves = 0

    def add(self, rows: int) -> None:
        """From any thread."""
        with self._lock:
            self._halves += rows

    def tell(self) -> None:
        """On the thread of whoever waits for the archive."""
        if self._heard is not None:
            self._heard(self._halves // 2)


def _require_same(stored: ContentDigest, found: Summed, month: Month) -> None:
    if stored.buckets() != found.bucket_digests:
        raise Corrupt(
            "ARCHIVE_DIFFERS",
            f"what was archived of {month} is not what is stored",
            hint="run `trackd check`; look at the disks of the store and of the target",
        )
