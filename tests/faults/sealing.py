"""A process that seals a month while events come in for another one, and kills itself at a step: run with arguments.

    python -m tests.faults.sealing DIRECTORY STEP NUMBER

The positions of acknowledged events go to standard output, one a line.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from retention.month import Month
from server.config import Storage
from server.model import MonthState
from server.storage.sqlite import steps
from server.storage.sqlite.store import SqliteStore
from tests.support.events import append, make_event

OCTOBER = Month(2025, 10)


def main(directory: str, step: str, number: int) -> None:
    """Does it."""

    def reached(_step: str) -> None:
        if _step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    steps.reached = reached
    store = SqliteStore(Path(directory), Storage(disk_free_bytes_min=1), months_max=10)
    done = threading.Event()
    writing = threading.Lock()

    def load() -> None:
        place = number * 100_000
        while not done.is_set():
            with writing:
                place += 1
                last = append(store, make_event(place, "2025-11", place)).last_position
            print(last, flush=True)

    loading = threading.Thread(target=load)
    loading.start()
    with writing:
        store.fence(OCTOBER)
    rebuilt = store.rebuild(OCTOBER, MonthState.SEALED)
    with writing:
        store.adopt(rebuilt)
    while store.retired:
        with writing:
            store.maintain(idle=False)
    done.set()
    loading.join()
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
