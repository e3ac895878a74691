"""Readers that answer only what a test lets them."""

from __future__ import annotations

from typing import Any

from server.storage.contract import Reader


class Mute(Reader):
    """Answers nothing; a test overrides what may be asked."""

    def list_events(self, *_: Any, **__: Any) -> Any:
        """Not expected."""
        raise AssertionError("list_events")

    def count_events(self, *_: Any, **__: Any) -> Any:
        """Not expected."""
        raise AssertionError("count_events")

    def aggregate(self, *_: Any, **__: Any) -> Any:
        """Not expected."""
        raise AssertionError("aggregate")

    def freeze(self, *_: Any, **__: Any) -> Any:
        """Not expected."""
        raise AssertionError("freeze")

    def sealed(self, *_: Any, **__: Any) -> Any:
        """Not expected."""
        raise AssertionError("sealed")

    def stocks(self, *_: Any, **__: Any) -> Any:
        """Not expected."""
        raise AssertionError("stocks")

    def interrupt(self) -> None:
        """Not expected."""
        raise AssertionError("interrupt")

    def close(self) -> None:
        """Not expected."""
        raise AssertionError("close")
