"""Tracking how long something took and how it ended."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ParamSpec, Protocol, Self, TypeVar, cast

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Tracks(Protocol):
    """What spans report to: a Tracker."""

    def track(
        self, type: str, *, user_id: str, metadata: Mapping[str, Any], tags: tuple[str, ...], session_id: str
    ) -> bool:
        """As Tracker.track."""


class Span:
    """A block, or each call of a function, that is tracked when it ends; made by `Tracker.tracked`.

    As a context manager use it once. `user_id`, `session_id`, `tags` and `metadata` can be changed until the end.
    """

    def __init__(
        self,
        tracker: Tracks,
        type: str,
        *,
        user_id: str,
        metadata: Mapping[str, Any],
        tags: tuple[str, ...],
        session_id: str,
    ) -> None:
        self.type = type
        self.user_id = user_id
        self.session_id = session_id
        self.tags = tags
        self.metadata = dict(metadata)
        self._tracker = tracker
        self._began_ns = 0

    def __enter__(self) -> Self:
        self._began_ns = time.perf_counter_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        told = self.metadata | {
            "duration_ms": (time.perf_counter_ns() - self._began_ns) / 1e6,
            "outcome": _outcome(error),
        }
        if error is not None:
            told["error"] = error.__class__.__name__
        self._tracker.track(self.type, user_id=self.user_id, metadata=told, tags=self.tags, session_id=self.session_id)

    def __call__(self, function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        """The function, each of whose calls is tracked. TypeError for a generator: its calls only begin something."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__qualname__} is a generator; use `with tracker.tracked(...)` in it")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Any:
                with self._again():
                    return await function(*args, **kwargs)

            return cast(Callable[Parameters, Result], awaited)

        @functools.wraps(function)
        def called(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            with self._again():
                return function(*args, **kwargs)

        return called

    def _again(self) -> Span:
        return Span(
            self._tracker,
            self.type,
            user_id=self.user_id,
            metadata=self.metadata,
            tags=self.tags,
            session_id=self.session_id,
        )


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "ok"
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "error"
