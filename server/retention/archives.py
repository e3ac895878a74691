"""Copies of months as retention knows them: Parquet archives at their targets, restored months in the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from retention.facts import NOTHING_HELD, Copy, CopyKind, Held
from retention.hold import Hold
from retention.month import Month
from retention.policy import ArchiveTarget, Claim
from retention.port import Heard
from server.apart import aside
from server.archive import extra
from server.archive.folders import Folder, open_folder
from server.errors import ConfigurationError, NotFound, Precondition
from server.rewriting import MonthStocks, Selection
from server.storage.contract import SealedRows, Store

if TYPE_CHECKING:
    from server.archive.making import Wanted
    from server.archive.manifest import Manifest

log = structlog.get_logger(__name__)

RESTORED = "restored"


class ParquetArchives:
    """See server.retention.store_port.Archives. For the thread of retention.

    Where targets are is learned from the policy, and remembered: it may not name one any more when its archives go.
    """

    def __init__(self, store: Store, data: Path, now_ms: Callable[[], int]) -> None:
        """`data`: restored months are in its folder "restored"; what goes to remote targets waits in it."""
        self._store = store
        self._data = data
        self._restored = data / RESTORED
        self._now_ms = now_ms
        self._urls: dict[str, str] = {}
        self._held: dict[tuple[str, tuple[Hold, ...]], Held] = {}

    def expire_restored(self) -> None:
        """Removes restored months in the data directory whose time has come."""
        if self._restored.is_dir():
            from server.archive.restoring import expire

            _require()
            for one in expire(self._restored, self._now_ms()):
                log.info("restored_month_expired", month=str(one.month), rows=one.rows)

    def learn(self, targets: Iterable[ArchiveTarget]) -> None:
        """Where these targets are."""
        self._urls.update({target.name: target.url for target in targets})

    def make(
        self, month: Month, counted: MonthStocks, rows: Selection, target: ArchiveTarget, plan_id: str, heard: Heard
    ) -> Copy:
        """See Archives."""
        from server.archive.making import Wanted

        _require()
        self.learn([target])
        chosen = [one for one in counted.stocks if one.event_type in rows.types and one.profile in rows.forms]
        wanted = Wanted(
            month=month,
            generation=counted.generation,
            month_digest=counted.digest,
            rows=rows,
            target=target.name,
            plan_id=plan_id,
            created_ms=self._now_ms(),
            anonymous=bool(chosen) and all(one.claim is Claim.ANONYMOUS for one in chosen),
        )
        size = sum(one.bytes for one in chosen)
        with closing(self._store.reader()) as reader, reader.sealed(month, generation=counted.generation) as stored:
            return aside(size, self._data, _made, target.url, self._data, stored, wanted, heard=heard).copy()

    def held(self, month: Month, copy: Copy, holds: Sequence[Hold]) -> Copy:
        """See Archives."""
        effective = tuple(hold for hold in holds if any(hold.touches(month, name) for name in copy.types))
        if not effective or copy.kind is not CopyKind.ARCHIVE:
            return replace(copy, held=NOTHING_HELD)
        key = (f"{copy.name}/{copy.rows}", effective)
        if key not in self._held:
            from server.archive.cutting import held
            from server.archive.manifest import find

            folder = self._folder(copy)
            manifest = find(folder, copy.name)
            if manifest is None:  # it was being destroyed when the daemon ended; what is left of it holds nothing
                return replace(copy, held=NOTHING_HELD)
            self._held[key] = held(folder, manifest, effective)
        return replace(copy, held=self._held[key])

    def destroy(self, copy: Copy, month: Month, holds: Sequence[Hold], heard: Heard) -> Copy | None:  # noqa: ARG002
        """See Archives."""
        if copy.kind is CopyKind.RESTORED:
            from server.archive.restoring import remove

            remove(self._restored, copy.name.removeprefix(f"{RESTORED}-"))
            return None
        from server.archive.cutting import cut_down
        from server.archive.destroying import destroy
        from server.archive.manifest import find

        folder = self._folder(copy)
        manifest = find(folder, copy.name)
        if manifest is None:
            destroy(folder, copy.name)
            return None
        left = cut_down(folder, manifest, holds, plan_id=manifest.plan_id, heard=heard)
        return left.copy() if left else None

    def _folder(self, copy: Copy) -> Folder:
        _require()
        url = self._urls.get(copy.target)
        if url is None:
            raise NotFound(
                "ARCHIVE_TARGET_UNKNOWN",
                f"nobody knows where the archive target {copy.target} is",
                hint="name it in the policy, in [archive.NAME]",
            )
        return open_folder(url, self._data)


def _made(url: str, data: Path, stored: SealedRows, wanted: Wanted, *, heard: Heard) -> Manifest:
    from server.archive.making import make

    return make(open_folder(url, data), stored, wanted, heard=heard)


def _require() -> None:
    try:
        extra.require("pyarrow", "fsspec")
    except ConfigurationError as error:
        raise Precondition(error.reason, error.message, hint=error.hint) from error
