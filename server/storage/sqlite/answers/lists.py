"""Pages of events: the index tells which positions are next, the truth has the events."""

from __future__ import annotations

from collections.abc import Sequence

from server.model import EventFilter, Keyset, MonthInfo, Order
from server.question import AllOf, Field, FieldKind, OneOf
from server.storage.sqlite import questions
from server.storage.sqlite.answers.cut import take_cut
from server.storage.sqlite.answers.files import Files, IndexUnusable
from server.storage.sqlite.answers.names import Names
from server.storage.sqlite.answers.page import LEADS_MAX, Page, Row
from server.storage.sqlite.answers.selection import Matcher
from server.storage.sqlite.answers.timeline import Timeline, fits
from server.storage.sqlite.index.derived import Derived

NEAR_POSITIONS = 50_000
"""In the order of positions, so few are read one after the other faster than looked up."""

ATTEMPTS = 2
"""A run may be replaced in the middle of a page; then the index is pinned."""


class Lists:
    """Makes lists for one reader."""

    def __init__(self, files: Files, derived: Derived, names: Names) -> None:
        self._files = files
        self._derived = derived
        self._names = names

    def of(self, where: EventFilter, order: Order, as_of: int, months: Sequence[MonthInfo]) -> List:
        """A list over these months."""
        parts = [
            OneOf(Field(kind), values)
            for kind, values in (
                (FieldKind.TYPE, where.types),
                (FieldKind.USER, where.user_ids),
                (FieldKind.SOURCE, where.sources),
            )
            if values
        ]
        matcher = Matcher(AllOf(tuple(parts)), self._names, months)
        return List(self._files, self._derived, self._names, matcher, where, order, as_of)


class List:
    """The events that match a filter, in one order, month by month."""

    def __init__(
        self,
        files: Files,
        derived: Derived,
        names: Names,
        matcher: Matcher,
        where: EventFilter,
        order: Order,
        as_of: int,
    ) -> None:
        self._files = files
        self._derived = derived
        self._names = names
        self._where = where
        self._order = order
        self._as_of = as_of
        self._page = Page(files, matcher, where, order, as_of)

    def over(self, months: Sequence[MonthInfo], limit: int, after: Keyset | None) -> list[Row]:
        """The first matching events in the order of time; `months` are in the same order."""
        for _attempt in range(ATTEMPTS if fits(self._where, self._order) else 0):
            try:
                return Timeline(self._files, self._derived, self._names, self._page).rows(months, limit, after)
            except IndexUnusable:
                continue  # a run was replaced; or month by month it turns out what is wrong, and with which
        rows: list[Row] = []
        for info in months:
            if len(rows) >= limit:
                break
            rows += self.month(info, limit - len(rows), after)
        return rows

    def month(self, info: MonthInfo, limit: int, after: Keyset | None) -> list[Row]:
        """The first matching events of a month behind `after`, as rows of `questions.page`."""
        if not self._better_scanned(after):
            for attempt in range(ATTEMPTS):
                try:
                    cut = take_cut(self._files, self._derived, [info], pin=attempt > 0)
                    return self._page.rows(cut, limit, after)
                except IndexUnusable:
                    continue
        return list(
            self._files.rows(info, *questions.page(info.month, self._where, self._order, limit, after, self._as_of))
        )

    def _better_scanned(self, after: Keyset | None) -> bool:
        where, order = self._where, self._order
        few_leads = any(0 < len(values) <= LEADS_MAX for values in (where.user_ids, where.tags))
        if not order.by_time:
            first = max(where.after_position or 0, 0 if after is None or order.descending else after.position)
            return not few_leads or self._as_of - first <= NEAR_POSITIONS
        return bool(where.session_ids) and not few_leads
