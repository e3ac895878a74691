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
from server.apart import aside
from server.errors import Corrupt, Precondition, TrackdError
from server.model import MonthInfo, MonthState, Rebuilt
from server.rewriting import Heard, nobody
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import steps
from server.storage.sqlite.content_digest import digest_on_two_cores, read_alone
from server.storage.sqlite.draft import WRITE_OUT_S, Draft, Halves, removals_of
from server.storage.sqlite.index.derived import Derived
from server.storage.sqlite.index.file import UNSYNCED
from server.storage.sqlite.layout import Layout
from server.storage.sqlite.likeness import Likeness
from server.write_out import WriteOut

log = structlog.get_logger(__name__)

FOLD_WAIT_S = 60.0
FROM = {MonthState.SEALED: MonthState.SEALING, MonthState.OPEN: MonthState.SEALED}
"""The state that a month is in before it is rebuilt for another one."""


def rebuild(
    layout: Layout, store_id: str, derived: Derived, info: MonthInfo, state: MonthState, heard: Heard | None
) -> Rebuilt:
    """See Store.rebuild. A large month is copied and compared in a process of its own (server.apart)."""
    if FROM.get(state) is not info.state:
        raise Precondition(
            "MONTH_STATE",
            f"{info.month} is {info.state.value}; it cannot be made {state.value}",
            hint="seal a month that was fenced; reopen one that is sealed",
        )
    with sqlite.translated(layout.months / str(info.month)):
        size = layout.events(info.month, info.generation).stat().st_size
    rebuilt = aside(size, layout.root, build, layout, store_id, info, state, heard=heard or nobody)
    steps.reached("described")
    folded = derived.wait_for(info.month, rebuilt.removals, FOLD_WAIT_S)
    with sqlite.translated(layout.months / str(info.month)):
        index = derived.indexes.path(info)
        # Derived data is of the same events at the same positions; if none can be used, it is made anew.
        if folded and index is not None:
            target = (
                layout.drafted(info.month, rebuilt.generation) / layout.index(info.month, rebuilt.generation, 1).name
            )
            if problem := aside(size, layout.root, copy_index, index, target, rebuilt, heard=heard or nobody):
                log.warning("index_not_copied", month=str(info.month), problem=problem)
        layout.publish(info.month, rebuilt.generation)
    steps.reached("published")
    return rebuilt


def build(layout: Layout, store_id: str, info: MonthInfo, state: MonthState, *, heard: Heard) -> Rebuilt:
    """The next generation, as a draft that is compared and only lacks its index."""
    month, source = info.month, layout.events(info.month, info.generation)
    generation = layout.next_generation(month)
    halves = Halves(heard)
    with sqlite.translated(layout.months / str(month)):
        path = layout.draft(month, generation) / source.name
    steps.reached("drafted")
    with WriteOut(lambda: [path], WRITE_OUT_S):
        copy = Draft(path, source, info, state)
        try:
            copy.rows(halves.copied)
            steps.reached("copied")
            copy.take_over()
            digest = copy.indexed_beside(lambda: _digest_of_likeness(path, source, info, copy.removals, halves))
        finally:
            copy.close()
        steps.reached("indexed")
    return copy.describe(store_id, generation, digest)


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


def copy_index(source: Path, target: Path, rebuilt: Rebuilt, *, heard: Heard) -> str:
    """Copies an index beside a rebuilt month; why there is none now, or nothing."""
    heard(rebuilt.rows)
    try:
        connection = sqlite.open_reader(source, cache_bytes=0)
        try:
            connection.pragma("query_only", False)
            connection.execute("VACUUM INTO ?", (str(target),))
        finally:
            connection.close()
        copy = apsw.Connection(str(target))
        copy.execute("UPDATE about SET value = ? WHERE key = 'generation'", (rebuilt.generation,))
        copy.execute("UPDATE about SET value = '' WHERE key = ?", (UNSYNCED,))  # it is when it is published
        complete = removals_of(copy) == rebuilt.removals
        copy.close()
        problem = "" if complete else "events were erased meanwhile"
    except (apsw.Error, TrackdError) as error:
        problem = str(error)
    if problem:
        target.unlink(missing_ok=True)
    return problem
