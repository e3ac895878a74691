"""Archives as retention asks for them: by the names of targets in the policy, as copies in the store's records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from retention.facts import NOTHING_HELD, Copy, CopyKind, Held
from retention.hold import Hold
from retention.month import Month
from retention.policy import ArchiveTarget, Claim
from server.archive import cutting, destroying, manifest, restoring
from server.archive.folders import Folder, open_folder
from server.archive.making import Wanted, make
from server.errors import NotFound, Precondition
from server.rewriting import Heard, MonthStocks, Selection
from server.storage.contract import Reader


class Targets:
    """Makes, counts and ends copies. For one thread, and the only one who writes to these targets."""

    def __init__(
        self,
        readers: Callable[[], Reader],
        url_of: Callable[[str], str | None],
        now_ms: Callable[[], int],
        *,
        scratch: Path | None = None,
        restored: Path | None = None,
    ) -> None:
        """`url_of`: where the target of a name is, None if nobody knows; `restored`: where restored months are put.

        `scratch`: see server.archive.making.make.
        """
        self._readers = readers
        self._url_of = url_of
        self._now_ms = now_ms
        self._scratch = scratch
        self._restored = restored
        self._counted: dict[tuple[str, int], tuple[tuple[Hold, ...], Held]] = {}

    def make(
        self, month: Month, counted: MonthStocks, rows: Selection, target: ArchiveTarget, plan_id: str, heard: Heard
    ) -> Copy:
        """Copies such rows of a sealed month to the target; see server.archive.making.make."""
        chosen = [stock for stock in counted.stocks if stock.event_type in rows.types and stock.profile in rows.forms]
        wanted = Wanted(
            month=month,
            generation=counted.generation,
            month_digest=counted.digest,
            rows=rows,
            target=target.name,
            plan_id=plan_id,
            created_ms=self._now_ms(),
            anonymous=bool(chosen) and all(stock.claim is Claim.ANONYMOUS for stock in chosen),
        )
        folder = open_folder(target.url, self._scratch)
        return make(folder, self._readers, wanted, scratch=self._scratch, heard=heard).copy()

    def destroy(
        self,
        copy: Copy,
        month: Month,  # noqa: ARG002 - its name says it
        holds: Sequence[Hold],
        heard: Heard,
        plan_id: str = "",
    ) -> Copy | None:
        """Destroys a copy; an archive that has held rows is cut down to them, and what is left is returned.

        One that is gone already is fine: done again after a crash it goes on. A restored month is no original, so holds
        do not keep it beyond its date.
        """
        if copy.kind is not CopyKind.ARCHIVE:
            self._remove_restored(copy)
            return None
        folder = self._folder(copy.target)
        found = manifest.find(folder, copy.name)
        if found is None:
            destroying.destroy(folder, copy.name)
            return None
        left = cutting.cut_down(folder, found, holds, plan_id=plan_id or found.plan_id, heard=heard)
        return None if left is None else left.copy()

    def held(self, month: Month, copy: Copy, holds: Sequence[Hold]) -> Copy:
        """The copy with what active holds hold of it. Counted once for each archive and set of holds."""
        if copy.kind is not CopyKind.ARCHIVE:
            return copy
        touching = tuple(
            hold for hold in holds if hold.active and any(hold.touches(month, name) for name in copy.types)
        )
        if not touching:
            return replace(copy, held=NOTHING_HELD)
        known = self._counted.get((copy.name, copy.rows))
        if known is None or known[0] != touching:
            folder = self._folder(copy.target)
            known = touching, cutting.held(folder, manifest.load(folder, copy.name), touching)
            self._counted[copy.name, copy.rows] = known
        return replace(copy, held=known[1])

    def _folder(self, target: str) -> Folder:
        url = self._url_of(target)
        if url is None:
            raise Precondition(
                "TARGET_UNKNOWN",
                f"nobody says where the target {target} is",
                hint="keep targets in the policy for as long as archives are there",
            )
        return open_folder(url, self._scratch)

    def _remove_restored(self, copy: Copy) -> None:
        if self._restored is None:
            raise Precondition("TARGET_UNKNOWN", "restored months have no directory", hint="set one")
        name = copy.name.removeprefix(restoring.PREFIX)
        try:
            restoring.remove(self._restored, name)
        except NotFound:
            return
