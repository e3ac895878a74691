"""Ends and forks of the process: Trackers are flushed at exit, and start anew in a forked child.

What holds for forks. A child has copies of the parent's memory and none of its threads; so in a child every Tracker is
as it was before its first event, and what the parent has tracked is sent by the parent alone. gRPC's core does not
survive a fork where GRPC_ENABLE_FORK_SUPPORT switches its own support off: there, a process must not track before it
forks.

Children of multiprocessing end without the interpreter's exit handlers; they have finalizers of their own.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import multiprocessing
import os
import threading
import weakref
from multiprocessing import util
from typing import Protocol

# gRPC imports it with the first channel, which a Tracker opens on a thread of its own. A process that is forked at that
# moment would have half of the module, for ever.
with contextlib.suppress(ImportError):
    importlib.import_module("grpc._channel")


class Lasting(Protocol):
    """What wants to hear of the end and of forks."""

    def at_exit(self, *, threads: bool) -> None:
        """The interpreter ends. `threads`: whether new ones can be started."""

    def in_forked_child(self) -> None:
        """This is a new process with a copy of the other one's memory."""


_known: weakref.WeakSet[Lasting] = weakref.WeakSet()
_started: set[Lasting] = set()


def watch_over(one: Lasting) -> None:
    """Tells it of forks, for as long as somebody else knows it."""
    _known.add(one)


def keep(one: Lasting) -> None:
    """Tells it of the end of this process, also where nobody else knows it any more."""
    _started.add(one)
    if multiprocessing.parent_process() is not None:
        # Those of priority 0 and above run while everything still works.
        util.Finalize(None, _at_exit, exitpriority=0)


def let_go(one: Lasting) -> None:
    """It has ended already."""
    _started.discard(one)


def threads_can_start() -> bool:
    """Whether a thread can be started. While the interpreter shuts down it cannot, from Python 3.12 on."""
    try:
        probe = threading.Thread(target=int, name="trackd-probe")
        probe.start()
    except RuntimeError:
        return False
    probe.join()
    return True


def _at_exit() -> None:
    threads = threads_can_start()
    for one in list(_started):
        with contextlib.suppress(Exception):  # one that fails must not keep the others from being flushed
            one.at_exit(threads=threads)


def _in_forked_child() -> None:
    _started.clear()
    for one in list(_known):
        one.in_forked_child()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)
