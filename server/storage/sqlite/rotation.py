"""Fencing, rebuilding and swapping months, as the writer sees it: see the storage contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from retention.chain import Deed
from retention.month import Month
from server.errors import NotFound, Precondition
from server.model import Item, MonthInfo, MonthState, Rebuilt
from server.rewriting import Claimed, Heard, Losses, Rewrite, Rewritten, dated
from server.storage.records import not_to_be_opened
from server.storage.sqlite import steps
from server.storage.sqlite.index.derived import Derived
from server.storage.sqlite.late import Late, refused_of_dropped
from server.storage.sqlite.layout import Layout
from server.storage.sqlite.month_file import Slice
from server.storage.sqlite.open_months import OpenMonths
from server.storage.sqlite.rebuild import FROM, changed, rebuild
from server.storage.sqlite.records import CatalogRecords
from server.storage.sqlite.retired import Retired
from server.storage.sqlite.rewrite import Dictionary, rewrite
from server.storage.sqlite.visits import Visits

CLOSED = (MonthState.SEALING, MonthState.SEALED, MonthState.DROPPED)
"""States in which a month takes no events."""


class Rotation:
    """Belongs to the writer, except for `rebuild`."""

    def __init__(
        self,
        layout: Layout,
        derived: Derived,
        opened: OpenMonths,
        visits: Visits,
        records: CatalogRecords,
        months: Callable[[], Mapping[Month, MonthInfo]],
        change: Callable[[MonthInfo, Losses | None, Deed | None, int, Claimed | None], MonthInfo],
    ) -> None:
        """`change` makes a month what it is told, durably and for everybody."""
        self._records = records
        self._layout = layout
        self._derived = derived
        self._opened = opened
        self._months = months
        self._change = change
        self._late = Late(layout)
        self._retired = Retired(layout, visits)

    def fence(self, month: Month) -> MonthInfo:
        """See Store.fence."""
        info = self._known(month)
        if info.state is MonthState.DAMAGED:
            raise Precondition("MONTH_DAMAGED", f"the file of {month} is damaged", hint="restore it from a backup")
        if info.state is MonthState.OPEN:
            info = self._change(replace(info, state=MonthState.SEALING), None, None, 0, None)
            steps.reached("fenced")
        return info

    def rebuild(self, store_id: str, month: Month, state: MonthState, heard: Heard | None) -> Rebuilt:
        """See Store.rebuild."""
        info = self._known(month)
        if info.state is MonthState.SEALED and state is MonthState.OPEN and month in self._records.frozen:
            raise not_to_be_opened(month)
        if info.state is MonthState.SEALED and state is MonthState.OPEN and self._records.losses.get(month):
            raise Precondition(
                "MONTH_REWRITTEN",
                f"{month} has rows that were anonymized or dropped; it cannot be opened again",
                hint="late events of such a month are rejected",
            )
        return rebuild(self._layout, store_id, self._derived, info, state, heard)

    def rewrite(
        self, store_id: str, month: Month, change: Rewrite, dictionary: Dictionary, heard: Heard | None
    ) -> Rewritten:
        """See Store.rewrite."""
        lost = self._records.losses.get(month, {})
        return rewrite(self._layout, store_id, self._known(month), change, lost, dictionary, heard)

    def adopt(self, made: Rebuilt | Rewritten, deed: Deed | None) -> MonthInfo:
        """See Store.adopt."""
        rebuilt = made.rebuilt if isinstance(made, Rewritten) else made
        info = self._known(rebuilt.month)
        expected = MonthState.SEALED if isinstance(made, Rewritten) else FROM[rebuilt.state]
        if info.generation != rebuilt.built_from or info.state is not expected:
            raise changed(rebuilt.month)
        if info.state is MonthState.SEALING and self._opened.get(rebuilt.month).removals != rebuilt.removals:
            raise changed(rebuilt.month)
        self._opened.close(rebuilt.month)
        steps.reached("adopting")
        lost, claimed = (dated(made.lost, deed), made.claimed) if isinstance(made, Rewritten) else (None, None)
        adopted = self._change(MonthInfo(rebuilt.month, rebuilt.generation, rebuilt.state), lost, deed, 0, claimed)
        steps.reached("adopted")
        self._derived.moved(adopted)
        self._late.forget(info)
        self._retired.add(info.month, info.generation)
        return adopted

    def drop(self, month: Month, lost: Losses, deed: Deed, last_position: int) -> MonthInfo:
        """See Store.drop."""
        info = self._known(month)
        if info.state is not MonthState.SEALED:
            raise Precondition(
                "MONTH_STATE", f"{month} is {info.state.value}; only sealed months are dropped", hint="seal it first"
            )
        steps.reached("dropping")
        dropped = self._change(replace(info, state=MonthState.DROPPED), dated(lost, deed), deed, last_position, None)
        steps.reached("dropped")
        self._derived.dropped(month)
        self._late.forget(info)
        self._retired.add(month, info.generation)
        return dropped

    def judge_late(self, info: MonthInfo, part: Slice) -> list[Item]:
        """What becomes of events of a month that takes none."""
        if info.state is MonthState.DROPPED:
            return [refused_of_dropped(row, info.month) for row in part.row_numbers()]
        return self._late.judge(info, part)

    def check_open(self, info: MonthInfo) -> None:
        """Precondition(MONTH_SEALED) for a month whose file does not change any more."""
        if info.state in (MonthState.SEALED, MonthState.DROPPED):
            raise Precondition("MONTH_SEALED", f"{info.month} is sealed", hint="reopen the month first")

    @property
    def retired(self) -> int:
        """Generations that were replaced and are still there."""
        return len(self._retired)

    def maintain(self) -> None:
        """Removes what nobody reads any more."""
        self._retired.remove_unread()

    def close(self) -> None:
        """Ends what goes on in the background."""
        self._retired.close()
        self._late.close()

    def _known(self, month: Month) -> MonthInfo:
        info = self._months().get(month)
        if info is None:
            raise NotFound("MONTH_UNKNOWN", f"there are no events of {month}", hint="list the months there are")
        return info
