"""Long work in a process of its own, so that it takes neither the interpreter lock nor a processor from who is waiting.

Next to a busy event loop a thread that only now and then does something in Python holds everybody up, and its low
priority makes that worse: it is sent to sleep with the lock in its hand. A process has a lock of its own.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, TypeVar

from server.errors import TrackdError, Unavailable
from server.in_step import Abandoned

T = TypeVar("T")

BYTES_MIN = 8 * 1024 * 1024
"""Of a month's file: what is smaller is done before a process has begun (0.3 s)."""
NICE = 19
OOM_SCORE_ADJ = 500
"""Of -1000 to 1000: who is ended first when memory runs out (proc(5))."""
ASK_AGAIN_S = 1.0
"""So often at least whoever waits is heard, also where the work has nothing to tell for long."""
END_S = 3.0
"""Work that was told to end gets so long to clean up."""


def aside(size: int, scratch: Path, work: Callable[..., T], *arguments: Any, **callbacks: Callable[..., Any]) -> T:
    """`work(*arguments, **callbacks)`: here if the file that it is about is small, apart if it is large."""
    if size < BYTES_MIN:
        return work(*arguments, **callbacks)
    return apart(scratch, work, *arguments, **callbacks)


def apart(scratch: Path, work: Callable[..., T], *arguments: Any, **callbacks: Callable[..., Any]) -> T:
    """`work(*arguments, **callbacks)` in another process, which gets what processors others leave.

    `scratch` is where it puts temporary files, which may be as large as what it is about. `work` is a function of a
    module; it, what it is given and what it returns or raises are pickled. The callbacks are called here, on this
    thread, and their answers go there; what one of them raises ends the work and is raised here. The callback `heard`,
    if there is one, is told the last number again while the work is silent. Raises Unavailable(WORK_ENDED) if the
    process ends by itself. It ends with this one, however that ends.
    """
    here, there = Pipe()
    with _begun(there, scratch) as process:
        there.close()
        try:
            answer: T = _attended(_Line(here), (work, arguments, tuple(callbacks)), callbacks)
        except _Gone:
            raise Unavailable(
                "WORK_ENDED",
                f"the process that did the work has ended (code {process.wait()})",
                hint="look at the kernel log, memory may have run out; the next run begins it again",
            ) from None
        finally:
            here.close()
            _end(process)
    return answer


def _begun(line: Connection, scratch: Path) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, str(line.fileno())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=[line.fileno()],
        # Not a session: of a session of its own Linux weighs the niceness against nobody (sched(7), autogroup).
        process_group=0,
        # SQLITE_TMPDIR is SQLite's own (sqlite.org/tempfiles.html).
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(scratch), "SQLITE_TMPDIR": str(scratch)},
    )


def _attended(line: _Line, task: object, callbacks: dict[str, Callable[..., Any]]) -> Any:
    """What the task gives back, with its questions answered meanwhile."""
    line.send(task)
    told = None
    while True:
        while not line.anything():
            if told is not None:
                callbacks["heard"](*told)
        kind, *what = line.receive()
        if kind == "done":
            return what[0]
        if kind == "failed":
            raise what[0]
        name, values = what
        if name == "heard":
            told = values
        line.send((callbacks[name](*values),))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Once its line is cut it cleans up and ends; what is in a long statement then is ended."""
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()


class _Gone(Exception):
    """Nobody is at the other end of a line any more."""


class _Line:
    """One end of what the two processes say to each other, in turns."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, message: object) -> None:
        data = pickle.dumps(message)  # what cannot be pickled is no sign of anybody's end
        try:
            self._connection.send_bytes(data)
        except OSError as error:
            raise _Gone from error

    def anything(self) -> bool:
        """Whether something, be it the end, has come after a while."""
        return self._connection.poll(ASK_AGAIN_S)

    def receive(self) -> Any:
        try:
            data = self._connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise _Gone from error
        return pickle.loads(data)  # noqa: S301  # our own process


def give_way(nice: int) -> None:
    """This thread, and those that it begins, get what processors others leave (setpriority(2), of threads on Linux).

    Never more than they got before. Where that is forbidden, as a filter of system calls may, all goes on as it was.
    """
    thread = threading.get_native_id()
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, thread, max(nice, os.getpriority(os.PRIO_PROCESS, thread)))


# In the other process


def _serve(line: _Line) -> None:
    give_way(NICE)
    with suppress(OSError):  # if memory runs out this one is to go, not the daemon
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE_ADJ), "ascii")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work, arguments, names = line.receive()
    asking = threading.Lock()

    def ask(name: str, *values: Any) -> Any:
        try:
            with asking:
                line.send(("asked", name, values))
                return line.receive()[0]
        except _Gone:  # for a reason that is known there
            raise Abandoned from None

    with suppress(_Gone):
        try:
            line.send(("done", work(*arguments, **{name: partial(ask, name) for name in names})))
        except Exception as error:  # noqa: BLE001  # raised there
            line.send(("failed", _portable(error)))


def _portable(error: Exception) -> Exception:
    """With where it came from: frames are not pickled."""
    if not isinstance(error, TrackdError):
        error.add_note("".join(traceback.format_exception(error)))
    return error


def _end_with_parent() -> None:
    """Standard input is a pipe that nobody writes to: it ends when the other process is gone."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    _serve(_Line(Connection(int(sys.argv[1]))))
