"""The next generation of a month, built beside the one in use: sealed for good, or open again.

A sealed month is one file that any SQLite tool can open and make sense of: no write-ahead log, the dictionary rows that
its events use, a view with names, the classic indexes by user and by type, built by sorting, and in `about` what it is:
how many events, from when to when, and the digest of their content. It is never written to again.
"""

from __future__ import annotations

from pathlib import Path

import apsw
import structlog

from retention.month import Month
from server.errors import Corrupt, Precondition, TrackdError
from server.model import MonthInfo, MonthState, Rebuilt
from server.rewriting import Heard
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import steps
from server.storage.sqlite.content_digest import digest_on_two_cores, read_alone
from server.storage.sqlite.draft import Draft, Halves, removals_of
from server.storage.sqlite.index.derived import Derived
from server.storage.sqlite.layout import Layout
from server.storage.sqlite.likeness import Likeness

log = structlog.get_logger(__name__)

FOLD_WAIT_S = 60.0
FROM = {MonthState.SEALED: MonthState.SEALING, MonthState.OPEN: MonthState.SEALED}
"""The state that a month is in before it is rebuilt for another one."""


def rebuild(
    layout: Layout, store_id: str, derived: Derived, info: MonthInfo, state: MonthState, heard: Heard | None
) -> Rebuilt:
    """See Store.rebuild."""
    if FROM.get(state) is not info.state:
        raise Precondition(
            "MONTH_STATE",
            f"{info.month} is {info.state.value}; it cannot be made {state.value}",
            hint="seal a month that was fenced; reopen one that is sealed",
        )
    month, source = info.month, layout.events(info.month, info.generation)
    generation = 1 + max((number for found, number in layout.found() if found == month), default=info.generation)
    halves = Halves(heard)
    with sqlite.translated(layout.months / str(month)):
        path = layout.draft(month, generation) / source.name
    steps.reached("drafted")
    copy = Draft(path, source, info, state)
    try:
        copy.rows(halves.copied)
        steps.reached("copied")
        copy.finish()
    finally:
        copy.close()
    steps.reached("indexed")
    digest = _digest_of_likeness(path, source, info, copy.removals, halves)
    rebuilt = copy.describe(store_id, generation, digest)
    steps.reached("described")
    folded = derived.wait_for(month, rebuilt.removals, FOLD_WAIT_S)
    with sqlite.translated(path):
        if folded:
            _copy_index(layout, derived, info, path.parent, rebuilt)
        layout.publish(month, generation)
    steps.reached("published")
    return rebuilt


def _digest_of_likeness(path: Path, source: Path, info: MonthInfo, removals: int, halves: Halves) -> str:
    """The digest of the new file, as it is read back; an error if it has anything but the events of the source.

    One digest is enough, and it is the new file's: it is what this file is held against from now on, so it must be of
    what can be read from it, while whatever the copying lost or changed shows when the rows are compared. That tells
    more than a second digest does, and costs a fourth of it. Whoever is erased meanwhile is missing in the source, or,
    when the rows have been compared, makes `adopt` refuse the file.
    """
    likeness = Likeness(source, info.month)
    digest = digest_on_two_cores(path, info.month, halves.read, likeness)
    with read_alone(path) as connection:
        if not likeness.holds(connection, digest.rows):
            raise _differs(source, info, removals)
    return digest.hexdigest()


def _differs(source: Path, info: MonthInfo, removals: int) -> TrackdError:
    connection = sqlite.open_reader(source, cache_bytes=0)
    try:
        if removals_of(connection) != removals:
            return changed(info.month)
    finally:
        connection.close()
    return Corrupt(
        "FILE_DAMAGED",
        f"the copy of {info.month} is not what was copied",
        hint="run `trackd check`; look at the disk and the kernel log",
    )


def changed(month: Month) -> Precondition:
    """The month is not what it was when it was rebuilt."""
    return Precondition("MONTH_CHANGED", f"{month} has changed since it was rebuilt", hint="rebuild it again")


def _copy_index(layout: Layout, derived: Derived, info: MonthInfo, draft: Path, rebuilt: Rebuilt) -> None:
    """Derived data is of the same events at the same positions; if there is none that can be used, it is made anew."""
    path = derived.indexes.path(info)
    if path is None:
        return
    target = draft / layout.index(info.month, rebuilt.generation, 1).name
    try:
        connection = sqlite.open_reader(path, cache_bytes=0)
        try:
            connection.pragma("query_only", False)
            connection.execute("VACUUM INTO ?", (str(target),))
        finally:
            connection.close()
        copy = apsw.Connection(str(target))
        copy.execute("UPDATE about SET value = ? WHERE key = 'generation'", (rebuilt.generation,))
        complete = removals_of(copy) == rebuilt.removals
        copy.close()
    except (apsw.Error, TrackdError) as problem:
        log.warning("index_not_copied", month=str(info.month), problem=str(problem))
        complete = False
    if not complete:
        target.unlink(missing_ok=True)
