"""A process that seals a month while events come in for another one, and kills itself at a step: run with arguments.

    python -m tests.faults.sealing DIRECTORY STEP NUMBER

The step "told" is the first word from work in another process, whatever its size, and "kill it" kills that process
then, not this one: why the work failed is a line among the others. The positions of acknowledged events go to standard
output, one a line.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from retention.month import Month
from server import apart
from server.config import Storage
from server.errors import Unavailable
from server.model import MonthState
from server.storage.sqlite import steps
from server.storage.sqlite.store import SqliteStore
from tests.support.events import append, make_event

OCTOBER = Month(2025, 10)


def children() -> list[int]:
    """The processes that this one has begun."""
    return [int(number) for number in Path("/proc/thread-self/children").read_text("ascii").split()]


def say(word: object) -> None:
    """As one line, also where two threads speak at once: print() writes the end of the line by itself."""
    os.write(sys.stdout.fileno(), f"{word}\n".encode())


def main(directory: str, step: str, number: int) -> None:
    """Does it."""

    def reached(_step: str) -> None:
        if _step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def told(_rows: int) -> None:
        if step == "kill it":
            os.kill(children().pop(), signal.SIGKILL)
        reached("told")

    steps.reached = reached
    if step in ("told", "kill it"):
        apart.BYTES_MIN = 0
    store = SqliteStore(Path(directory), Storage(disk_free_bytes_min=1), months_max=10)
    done = threading.Event()
    writing = threading.Lock()

    def load() -> None:
        place = number * 100_000
        while not done.is_set():
            with writing:
                place += 1
                last = append(store, make_event(place, "2025-11", place)).last_position
            say(last)

    loading = threading.Thread(target=load)
    loading.start()
    with writing:
        store.fence(OCTOBER)
    try:
        rebuilt = store.rebuild(OCTOBER, MonthState.SEALED, told)
    except Unavailable as error:
        say(error.reason)
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
