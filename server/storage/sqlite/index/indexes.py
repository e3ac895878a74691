"""The index of each month: which file it is, opening it, and replacing one that is of no use."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import apsw
import structlog

from retention.month import Month
from server.errors import Corrupt, TrackdError
from server.model import MonthInfo, MonthState
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import schema
from server.storage.sqlite.index.file import IndexFile, is_whole
from server.storage.sqlite.index.held import Held
from server.storage.sqlite.index.reading import IndexReader, Version
from server.storage.sqlite.index.tables import LAYOUT
from server.storage.sqlite.index.tail import Tail
from server.storage.sqlite.index.truth import Truth
from server.storage.sqlite.layout import Layout

log = structlog.get_logger(__name__)


class Indexes:
    """What readers and the folder know of the files. Everything above "The folder" may be called from any thread."""

    def __init__(
        self,
        layout: Layout,
        tail: Tail,
        store_id: str,
        month_info: Callable[[Month], MonthInfo | None],
        held: Held,
    ) -> None:
        self.held = held
        self._layout = layout
        self._tail = tail
        self._store_id = store_id
        self._month_info = month_info
        self._lock = threading.Lock()
        self._numbers: dict[tuple[Month, int], int] = {}
        """The index in use of a generation; 0: there is none."""
        self._distrusted: set[Month] = set()
        self._versions: dict[Month, Version] = {}

    def path(self, info: MonthInfo) -> Path | None:
        """The index of a month, or None if it has none that is known to be good."""
        if info.month in self._distrusted:
            return None
        number = self._number(info)
        return self._layout.index(info.month, info.generation, number) if number else None

    def distrust(self, month: Month, problem: Exception) -> None:
        """An index could not be read: from now on its month is answered without, until it has a new one."""
        info = self._month_info(month)
        if info is None or info.state is MonthState.DROPPED:
            return
        with self._lock:
            if month in self._distrusted:
                return
            self._distrusted.add(month)
        log.error("index_unusable", month=str(month), problem=str(problem))
        self._tail.gap_found(month)

    def version(self, info: MonthInfo) -> Version | None:
        """What the index in use has now, as far as is known without reading it."""
        path = self.path(info)
        return None if path is None else self.version_of(info.month, path)

    def version_of(self, month: Month, path: Path) -> Version | None:
        """What that index of a month, which is the one in use, has now, as far as is known without reading it."""
        version = self._versions.get(month)
        return version if version is not None and version.path == path else None

    def learn(self, info: MonthInfo, version: Version) -> None:
        """A reader has read what an index has. Once the folder has published a version, it knows better."""
        with self._lock:
            known = self._versions.get(info.month)
            number = self._numbers.get((info.month, info.generation), 0)
            in_use = version.path == self._layout.index(info.month, info.generation, number)
            if in_use and (known is None or known.path != version.path):
                self._versions[info.month] = version

    def _number(self, info: MonthInfo) -> int:
        key = (info.month, info.generation)
        with self._lock:
            if key not in self._numbers:
                self._numbers[key] = self._layout.current_index(*key)
            return self._numbers[key]

    # The folder

    def publish(self, file: IndexFile) -> None:
        """Tells readers what an index has, after each commit and before the tail lets go of what is in it now."""
        version = file.version()
        with self._lock:
            self._versions[file.month] = version

    def in_use(self, file: IndexFile) -> bool:
        """False if the month has another generation by now, or if somebody found that this index is of no use."""
        info = self._month_info(file.month)
        if file.month in self._distrusted:
            return False
        return info is not None and file.path.parent == self._layout.generation(info.month, info.generation)

    def has(self, month: Month) -> bool:
        """False if a month has been dropped, and its index with it."""
        info = self._month_info(month)
        return info is not None and info.state is not MonthState.DROPPED

    def open(self, month: Month, removals_generation: Callable[[Month], int]) -> IndexFile:
        """The index of a month, for writing; a new one where there is none or none that can be used."""
        info = self._month_info(month)
        if info is None or info.state is MonthState.DROPPED:
            raise Corrupt("FILE_MISSING", f"{month} is not in the store")
        path = self.path(info)
        if path is not None:
            try:
                file = IndexFile.open(path, month)
            except Corrupt as problem:
                self.distrust(month, problem)
            else:
                try:
                    self.judge(file, file.connection, info)
                except Corrupt as problem:
                    file.close()
                    self.distrust(month, problem)
                else:
                    return file
        # A gap is filled with what the truth has from now on, without what was erased before; the tail may be older.
        in_gap = month in self._tail.view.gaps
        return self._replace(info, removals_generation(month) if in_gap else 0)

    def judge(self, index: IndexReader, connection: apsw.Connection, info: MonthInfo) -> Version:
        """What an index has; Corrupt if it is of another truth than the one beside it, or of another layout."""
        about = schema.read_about(connection, index.path)
        expected = {
            "store": self._store_id,
            "month": str(info.month),
            "generation": info.generation,
            "layout": LAYOUT,
        }
        wrong = {key: about.get(key) for key, value in expected.items() if about.get(key) != value}
        if not is_whole(index.path, about):
            raise Corrupt(
                "FILE_DAMAGED",
                f"{index.path.name} was not on disk as a whole when the machine stopped, or when it was copied",
            )
        if not wrong:
            version = index.version()
            if version.watermark <= self._tail.view.head:
                return version
            wrong = {"watermark": version.watermark}
        raise Corrupt("FILE_DAMAGED", f"{index.path.name} does not belong to this month: {wrong}")

    def _replace(self, info: MonthInfo, removals: int) -> IndexFile:
        """Begins a new index under a number that no file ever had, and removes the others."""
        old = self._layout.index_numbers(info.month, info.generation)
        number = max([*old, self._number(info)], default=0) + 1
        about = {
            "store": self._store_id,
            "month": str(info.month),
            "generation": info.generation,
            "removals": removals,
        }
        file = IndexFile.create(self._layout.index(info.month, info.generation, number), info.month, about)
        with self._lock:
            self._numbers[info.month, info.generation] = number
            self._distrusted.discard(info.month)
        with sqlite.translated():
            for other in old:
                self._layout.remove_index(info.month, info.generation, other)
        return file


class OpenIndexes:
    """The folder's open files: those used last, a bounded number."""

    def __init__(self, indexes: Indexes, truth: Truth, open_max: int) -> None:
        self._indexes = indexes
        self._truth = truth
        self._open_max = open_max
        self._open: OrderedDict[Month, IndexFile] = OrderedDict()
        self._written_s: dict[Month, float] = {}
        """When a month was last written to; those that were synced since are not here."""

    def get(self, month: Month) -> IndexFile:
        """The index of a month, open."""
        file = self._open.pop(month, None)
        if file is not None and not self._indexes.in_use(file):
            file.close()
            file = None
        if file is None:
            while len(self._open) >= self._open_max:
                self._open.popitem(last=False)[1].close()
            file = self._indexes.open(month, self._truth.removals_generation)
            if not (file.synced or month in self._written_s):
                # Left so by a daemon that was killed: errors that the disk met since then show now.
                file.sync()
        self._open[month] = file
        return file

    def forget(self, month: Month) -> None:
        """Closes a file, whatever state it is in."""
        file = self._open.pop(month, None)
        if file is not None:
            try:
                file.close()
            except TrackdError as problem:
                log.warning("index_not_closed", month=str(month), problem=str(problem))

    def written(self, month: Month) -> None:
        """Something was committed, and is not on disk for sure."""
        self._written_s[month] = time.monotonic()

    def unsynced(self, rest_s: float) -> list[Month]:
        """The months that were written to and then left alone for so long."""
        end_s = time.monotonic() - rest_s
        for month in [month for month in self._written_s if not self._indexes.has(month)]:
            del self._written_s[month]
        return [month for month, at_s in self._written_s.items() if at_s <= end_s]

    def unsynced_files(self) -> list[Path]:
        """From any thread: the files that are open and not on disk for sure."""
        return [file.path for file in list(self._open.values()) if not file.synced]

    def sync(self, month: Month) -> None:
        """Puts an index on disk; if readers are in the way it goes on to be among the unsynced."""
        del self._written_s[month]
        if not self.get(month).sync():
            self.written(month)

    def close(self) -> None:
        """Puts on disk what is not, and closes all."""
        for month in self.unsynced(0.0):
            try:
                self.sync(month)
            except TrackdError as problem:  # it is made anew when the machine has stopped
                log.warning("index_not_synced", month=str(month), problem=str(problem))
        for month in list(self._open):
            self.forget(month)
