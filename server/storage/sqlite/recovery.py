"""Start-up: what the directory holds is compared with what the catalog says, and the catalog is put right.

The months are the truth. Nothing that holds events is ever removed here; a file that cannot be read makes its month
damaged, alone, and the rest serves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog

from retention.month import Month
from server.errors import Corrupt, TrackdError
from server.model import EventType, MonthInfo, MonthState
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import schema
from server.storage.sqlite.catalog import Catalog
from server.storage.sqlite.layout import Layout
from server.storage.sqlite.numbers import Counter, UserKeys

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Recovered:
    """What the store starts from."""

    head: int = 0
    months: dict[Month, MonthInfo] = field(default_factory=dict)
    damaged: dict[Month, TrackdError] = field(default_factory=dict)
    sources: set[str] = field(default_factory=set)
    """Those that stored events."""
    last_positions: dict[Month, int] = field(default_factory=dict)
    """Of the months that can be read."""
    dropped: dict[Month, int] = field(default_factory=dict)
    """Months whose rows are all gone, with a position that none of them lay behind."""
    erased: set[Month] = field(default_factory=set)
    """Months of which events were removed."""

    def learn(self, month: Month, survey: _Survey) -> None:
        """Takes over what a month says."""
        self.head = max(self.head, survey.last_position)
        self.last_positions[month] = survey.last_position
        if survey.erased:
            self.erased.add(month)
        self.sources.update(name for _key, name in survey.sources)


@dataclass(frozen=True, slots=True)
class _Survey:
    """What one month file says."""

    rows: bool
    state: MonthState
    built_from: int
    """The generation that it replaces; 0 for the first one of a month."""
    last_position: int
    erased: bool
    users: list[tuple[int, str]]
    types: list[tuple[int, str]]
    sources: list[tuple[int, str]]


def recover(layout: Layout, catalog: Catalog, positions: Counter, users: UserKeys) -> Recovered:
    """Looks at every month, adopts or removes what the catalog does not name, and finds the head."""
    result = Recovered()
    layout.remove_drafts()
    named = {month: (generation, state) for month, generation, state in catalog.months()}
    complete = catalog.users_complete
    rebuilding = not named
    if rebuilding:
        _refuse_to_guess(layout)
    _tidy(layout, catalog, named)
    types, sources = catalog.types(), catalog.sources()
    result.dropped = catalog.dropped()
    result.sources |= catalog.sources_of_dropped()
    result.head = max(result.dropped.values(), default=0)
    result.months = {month: MonthInfo(month, *known) for month, known in sorted(named.items())}
    for month, (generation, _state) in sorted(_with_rows(named)):
        try:
            survey = _survey(layout, month, generation, users_from=complete)
        except Corrupt as problem:
            if problem.reason == "FORMAT_TOO_NEW":
                raise
            log.error("month_damaged", month=str(month), generation=generation, problem=str(problem))
            result.damaged[month] = problem
            result.months[month] = MonthInfo(month, generation, MonthState.DAMAGED)
            continue
        result.learn(month, survey)
        users.adopt(survey.users)
        for key, name in survey.types:
            if key not in types:
                types[key] = EventType(name, "", month.start_ms, declared=False)
                catalog.put_type(key, types[key])
        for key, name in survey.sources:
            if key not in sources:
                sources[key] = name
                catalog.put_source(key, name)
    if rebuilding and named:
        log.warning("catalog_rebuilt", months=len(named))
    if result.damaged:
        # What cannot be read may hold the highest of what was given out, and the head never falls.
        result.head = max(result.head, positions.next - 1)
    positions.skip_to(result.head + 1)
    users.flush()
    return result


def _with_rows(named: dict[Month, tuple[int, MonthState]]) -> Iterator[tuple[Month, tuple[int, MonthState]]]:
    return ((month, known) for month, known in named.items() if known[1] is not MonthState.DROPPED)


def _tidy(layout: Layout, catalog: Catalog, named: dict[Month, tuple[int, MonthState]]) -> None:
    """Settles what becomes of every generation that the catalog does not name."""
    for month, generation in sorted(layout.found(), reverse=True):
        if month in named and named[month][1] is MonthState.DROPPED:
            _remove(layout, month, generation, "generation_removed")
        elif month not in named or named[month][0] != generation:
            _adopt_or_remove(layout, catalog, named, month, generation)


def _refuse_to_guess(layout: Layout) -> None:
    """Before a catalog is rebuilt: a month that cannot be read may hold the highest positions that were given out."""
    unreadable = []
    for month, generation in layout.found():
        try:
            _survey(layout, month, generation, users_from=1)
        except Corrupt:
            unreadable.append(str(month))
    if unreadable:
        raise Corrupt(
            "CATALOG_LOST",
            f"the catalog is gone and cannot be rebuilt beside damaged months: {', '.join(unreadable)}",
            hint="restore catalog.db or these months from a backup, else their positions would be given out again",
        )


def _adopt_or_remove(
    layout: Layout, catalog: Catalog, named: dict[Month, tuple[int, MonthState]], month: Month, generation: int
) -> None:
    """A generation that the catalog does not name: its creation was not completed, or the catalog was lost."""
    in_use = named[month][0] if month in named else 0
    if in_use > generation and _built_from(layout, month, in_use):
        _remove(layout, month, generation, "generation_removed")  # it was replaced; perhaps only a part of it is left
        return
    try:
        survey = _survey(layout, month, generation, users_from=1)
    except Corrupt:
        log.error("orphan_unreadable", month=str(month), generation=generation)
        return
    if not survey.rows or (in_use and survey.built_from == in_use):
        _remove(layout, month, generation, "orphan_removed")  # empty, or a copy that was never adopted
        return
    if month in named:
        log.error("orphan_with_events", month=str(month), generation=generation)
        return
    catalog.set_generation(month, generation, survey.state)
    named[month] = (generation, survey.state)
    log.warning("orphan_adopted", month=str(month), generation=generation)


def _remove(layout: Layout, month: Month, generation: int, event: str) -> None:
    for _step in layout.remove_in_steps(month, generation):
        pass
    log.info(event, month=str(month), generation=generation)


def _built_from(layout: Layout, month: Month, generation: int) -> int:
    """Which generation this one replaces; 0 if none, or if it cannot be read."""
    try:
        return _survey(layout, month, generation, users_from=1).built_from
    except Corrupt:
        return 0


def _survey(layout: Layout, month: Month, generation: int, *, users_from: int) -> _Survey:
    path = layout.events(month, generation)
    if not path.exists():
        raise Corrupt("FILE_MISSING", f"{path.name} of {month}, generation {generation}, is missing")
    connection = sqlite.open_reader(path, cache_bytes=0)
    try:
        with sqlite.translated(path):
            about = schema.read_about(connection, path)  # before anything else: it may be no file of ours
            last = connection.execute(f"SELECT max(position) FROM {schema.events_table(month)}").get or 0
            # Of events that were erased since: their positions are not given again.
            erased = connection.execute("SELECT value FROM about WHERE key = 'last_position'").get or 0
            return _Survey(
                bool(last or erased),
                MonthState(str(about.get("state", MonthState.OPEN.value))),
                int(str(about.get("built_from", 0))),
                max(last, erased),
                bool(erased),
                sqlite.fetch(connection, "SELECT key, name FROM users WHERE key >= ?", (users_from,)),
                sqlite.fetch(connection, "SELECT key, name FROM types"),
                sqlite.fetch(connection, "SELECT key, name FROM sources"),
            )
    finally:
        connection.close()
