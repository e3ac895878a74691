"""Folding write-ahead logs back in the background, so that no commit waits for it.

A PASSIVE checkpoint (sqlite.org/c3ref/wal_checkpoint_v2.html) never waits for readers or the writer and never makes
them wait. It holds no interpreter lock while it works. What it cannot do is start the log over while commits keep
coming: above a limit the writer does that itself (store.maintain), and by then little is left to fold.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from pathlib import Path

import apsw

from server.errors import TrackdError
from server.storage.sqlite import connection as sqlite


class Checkpointer:
    """One thread that checkpoints the files it is asked to, one after the other."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._underway: set[Path] = set()
        self._thread: threading.Thread | None = None

    def ask(self, path: Path) -> None:
        """Checkpoints a file soon; nothing if that is asked for already."""
        with self._lock:
            if path in self._underway:
                return
            self._underway.add(path)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="trackd-checkpointer", daemon=True)
            self._thread.start()
        self._asked.put(path)

    def close(self) -> None:
        """Ends the thread after what it has been asked."""
        if self._thread is not None:
            self._asked.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (path := self._asked.get()) is not None:
            # An error here is met by the writer as well, at its next commit, and it knows what to do about it.
            with suppress(TrackdError), sqlite.translated(path):
                connection = sqlite.open_reader(path, cache_bytes=0)
                connection.pragma("query_only", False)  # SQLite runs no checkpoint over such a connection
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                connection.close()
            with self._lock:
                self._underway.discard(path)
