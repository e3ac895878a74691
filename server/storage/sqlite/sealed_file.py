"""A sealed month as any thread, and another process, can read it: by its file alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from retention.month import Month
from server.rewriting import Heard, Selection
from server.storage.contract import SealedRows
from server.storage.digest import ContentDigest
from server.storage.exported import Exported
from server.storage.sqlite.content_digest import content_digest
from server.storage.sqlite.export import chosen_by, export


@dataclass(frozen=True, slots=True)
class SealedFile(SealedRows):
    """See the contract."""

    path: Path
    month: Month

    def export(self, rows: Selection) -> Iterator[Exported]:
        return export(self.path, self.month, rows)

    def content_digest(self, rows: Selection, heard: Heard | None = None) -> ContentDigest:
        return content_digest(self.path, self.month, heard, chosen_by(rows))
