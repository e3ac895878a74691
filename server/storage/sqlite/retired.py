"""Generations that were replaced: removed once nobody can be reading them, a little at a time and beside the writer."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import structlog

from retention.month import Month
from server.errors import TrackdError
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import steps
from server.storage.sqlite.layout import Layout
from server.storage.sqlite.visits import Visits

log = structlog.get_logger(__name__)

STEP_PAUSE_S = 0.02
"""Between two steps, for the writer's fsyncs: to unlink 2.5 GB at once delays them by half a second."""


class Retired:
    """What is to be removed. Belongs to the writer. What it does not get to is removed by the next start."""

    def __init__(self, layout: Layout, visits: Visits) -> None:
        self._layout = layout
        self._visits = visits
        self._waiting: list[tuple[int, Month, int]] = []
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="trackd-remover")
        self._removing = 0
        self._closing = False

    def __len__(self) -> int:
        return len(self._waiting) + self._removing

    def add(self, month: Month, generation: int) -> None:
        """From now on nobody begins to read this generation."""
        self._waiting.append((self._visits.mark(), month, generation))

    def remove_unread(self) -> None:
        """Removes those that the last reader has left, in the background."""
        while self._waiting and self._visits.ended_before(self._waiting[0][0]):
            _mark, month, generation = self._waiting.pop(0)
            self._removing += 1
            self._worker.submit(self._remove, month, generation)

    def _remove(self, month: Month, generation: int) -> None:
        try:
            with sqlite.translated():
                steps.reached("retired")
                for _step in self._layout.remove_in_steps(month, generation):
                    if self._closing:
                        return
                    time.sleep(STEP_PAUSE_S)
        except TrackdError as problem:
            log.error("generation_not_removed", month=str(month), generation=generation, problem=str(problem))
        else:
            log.info("generation_removed", month=str(month), generation=generation)
        finally:
            self._removing -= 1

    def close(self) -> None:
        """Ends the thread after the step that it is in."""
        self._closing = True
        self._worker.shutdown(wait=True, cancel_futures=True)
