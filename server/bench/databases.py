"""The peers of `trackd bench query`. Each is imported where it is asked for: only the extra `bench` brings them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from server.bench.asking import Engine
from server.errors import Precondition

NAMES = ("PostgreSQL", "DuckDB")


class Database(Engine, Protocol):
    """A peer that has the rows."""

    @property
    def about(self) -> Mapping[str, Any]:
        """Its version, and how long loading took."""


Opener: TypeAlias = Callable[[Path, Path], AbstractContextManager[Database]]
"""Makes a database from a table in the text format of COPY, with its files below a scratch directory."""


def opener(name: str, scratch: Path) -> Opener:
    """How a peer is opened; Precondition if it is not installed or cannot run below `scratch`."""
    try:
        if name == "DuckDB":
            from server.bench import duck

            return duck.opened
        from server.bench import postgres

        postgres.require(scratch)
    except ModuleNotFoundError as error:
        raise Precondition(
            "BENCH_PEER_MISSING",
            f"{name} is not installed: there is no {error.name}",
            hint="pip install 'trackd[bench]', or measure trackd alone with --without-peers",
        ) from error
    return postgres.opened
