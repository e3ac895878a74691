"""The files that one reader has open: truths and indexes of the months it asked last; and how it is interrupted."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import apsw
import orjson

from server.errors import Corrupt, StoreFailed, TrackdError, Unavailable
from server.model import MonthInfo, MonthState
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import schema
from server.storage.sqlite.answers.together import Together
from server.storage.sqlite.index.indexes import Indexes
from server.storage.sqlite.index.reading import IndexReader, Version
from server.storage.sqlite.layout import Layout
from server.storage.sqlite.visits import Visits

FETCH_ROWS = 256
CACHE_SHARE = 4
"""A fourth of the pages that the writer keeps of a month: scans come back to none, lookups to the inner ones."""


class Files:
    """Connections of one thread. Only `interrupt` may be called from another."""

    def __init__(self, layout: Layout, indexes: Indexes, visits: Visits, *, open_max: int, cache_bytes: int) -> None:
        self._layout = layout
        self._indexes = indexes
        self._visits = visits
        self._open_max = open_max
        self._cache_bytes = cache_bytes // CACHE_SHARE
        self._open: OrderedDict[Path, apsw.Connection] = OrderedDict()
        self._pinned: set[Path] = set()
        self._together: Together | None = None
        self._guard = threading.Lock()
        self._running = False
        self._stopped = False

    # One question

    @contextmanager
    def question(self) -> Iterator[None]:
        """Everything that is pinned inside is let go of at the end."""
        with self._visits.visit():
            with self._guard:
                self._running, self._stopped = True, False
            try:
                yield
            finally:
                with self._guard:
                    self._running = False
                self._release()

    def interrupt(self) -> None:
        """From any thread: stops the question that is running."""
        with self._guard:
            if self._running:
                self._stopped = True
                for connection in self._open.values():
                    connection.interrupt()
                if self._together is not None:
                    self._together.connection.interrupt()

    def unless_stopped(self) -> None:
        """Raises Unavailable(INTERRUPTED) if the question was stopped; long computations call it now and then."""
        if self._stopped:
            raise Unavailable(
                "INTERRUPTED", "the question was stopped", hint="give it a later deadline or ask for less"
            )

    # Truth

    def truth_file(self, info: MonthInfo) -> tuple[Path, bool]:
        """Where the month's events are, and whether that file never changes again."""
        return self._layout.events(info.month, info.generation), info.state is MonthState.SEALED

    def path(self, info: MonthInfo) -> Path:
        """Where the month's events are, for whoever reads all of them with a connection of their own."""
        return self._layout.events(info.month, info.generation)

    def truth(self, info: MonthInfo, *, pin: bool = False) -> apsw.Connection:
        """The month's events; pinned as they are now, so that later reads of this question see the same moment."""
        path, immutable = self.truth_file(info)
        connection = self._connection(path, immutable=immutable)
        if pin:
            with sqlite.translated(path):
                self._pin(path, connection)
        return connection

    def size(self, info: MonthInfo) -> int:
        """Bytes of the file of the month's events."""
        path = self._layout.events(info.month, info.generation)
        with sqlite.translated(path):
            return path.stat().st_size

    def _pin(self, path: Path, connection: apsw.Connection) -> None:
        if path in self._pinned:
            connection.execute("COMMIT")
        # BEGIN alone pins nothing: the first read does.
        connection.execute("BEGIN; SELECT 1 FROM about LIMIT 1").fetchall()
        self._pinned.add(path)

    def rows(self, info: MonthInfo, sql: str, bindings: Sequence[apsw.SQLiteValue] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a statement over a month's events."""
        connection = self.truth(info)
        with sqlite.translated(self._layout.events(info.month, info.generation)):
            cursor = connection.execute(sql, bindings)
            while rows := list(islice(cursor, FETCH_ROWS)):
                self.unless_stopped()
                yield from rows

    def few_rows(self, info: MonthInfo, sql: str, bindings: Sequence[apsw.SQLiteValue] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement that makes one JSON array of them: one step, however busy the writer is."""
        self.unless_stopped()
        connection = self.truth(info)
        with sqlite.translated(self._layout.events(info.month, info.generation)):
            return [tuple(row) for row in orjson.loads(sqlite.first(connection, sql, bindings)[0])]

    # Indexes

    def index(self, info: MonthInfo, *, pin: bool) -> tuple[IndexReader, Version] | None:
        """The month's index and what it has; None if there is none that can be used.

        Without a pin, runs may be replaced while they are read, and the question is asked again (see index_reading).
        """
        path = self._indexes.path(info)
        if path is None:
            return None
        index = IndexReader(path, info.month, lambda: self._connection(path), self._indexes.held)
        version = None if pin else self._indexes.version_of(info.month, path)
        if version is not None:
            return index, version
        try:
            connection = self._connection(path)
            if pin:
                self._pin(path, connection)
            version = self._indexes.judge(index, connection, info)
        except (TrackdError, apsw.Error, ValueError, TypeError) as problem:
            self.unless_stopped()
            self.give_up(info, path, problem)
            return None
        self._indexes.learn(info, version)
        return index, version

    @contextmanager
    def index_reading(self, info: MonthInfo, version: Version) -> Iterator[None]:
        """Turns whatever goes wrong with an index into IndexUnusable, after which the question is asked again.

        Only of an index that is pinned it says something: from any other a run may just have been taken out.
        """
        try:
            yield
        except (apsw.Error, Corrupt, StoreFailed, ValueError, TypeError) as problem:
            self.unless_stopped()
            if isinstance(problem, apsw.InterruptError):
                raise sqlite.translate(problem, version.path) from problem
            if version.path in self._pinned:
                self.give_up(info, version.path, problem)
            raise IndexUnusable(str(problem)) from problem

    def give_up(self, info: MonthInfo, path: Path, problem: Exception) -> None:
        """An index that is replaced right now is no news; any other is not trusted any more."""
        connection = self._open.pop(path, None)
        self._pinned.discard(path)
        if connection is not None:
            connection.close()
        if self._indexes.path(info) == path:
            self._indexes.distrust(info.month, problem)

    # Several months at once

    def together(self, files: Mapping[str, tuple[Path, bool]]) -> apsw.Connection:
        """A connection that has these files, each under its name: what they all are asked takes one step.

        `files`: paths, and whether they never change again. Only for reading rows and columns whose places are known:
        each file is seen as it is at that moment, not as it was pinned.
        """
        with self._guard:
            self.unless_stopped()
            if self._together is None:
                self._together = Together(files_max=self._open_max, cache_bytes=self._cache_bytes)
        return self._together.having(files)

    # Connections

    def _connection(self, path: Path, *, immutable: bool = False) -> apsw.Connection:
        connection = self._open.get(path)
        if connection is None:
            connection = sqlite.open_reader(path, cache_bytes=self._cache_bytes, immutable=immutable)
            with sqlite.translated(path):
                schema.read_about(connection, path)
        with self._guard:
            self.unless_stopped()
            self._open[path] = connection
            self._open.move_to_end(path)
            surplus = self._surplus(path) if len(self._open) > self._open_max else []
        for old in surplus:
            old.close()
        return connection

    def _surplus(self, path: Path) -> list[apsw.Connection]:
        """Takes out as many of those that are not in use as there are too many."""
        idle = [other for other in self._open if other not in self._pinned and other != path]
        return [self._open.pop(other) for other in idle[: len(self._open) - self._open_max]]

    def _release(self) -> None:
        for path in self._pinned:
            connection = self._open.get(path)
            if connection is not None and connection.in_transaction:
                connection.execute("COMMIT")
        self._pinned.clear()
        with self._guard:
            surplus = [self._open.popitem(last=False)[1] for _ in range(len(self._open) - self._open_max)]
        for connection in surplus:
            connection.close()

    def close(self) -> None:
        """Closes all."""
        with self._guard:
            connections = list(self._open.values())
            self._open.clear()
            if self._together is not None:
                connections.append(self._together.connection)
                self._together = None
        for connection in connections:
            with sqlite.translated():
                connection.close()


class IndexUnusable(Exception):
    """An index turned out to be damaged in the middle of a question, or another run was there."""
