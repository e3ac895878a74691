"""Opens a store by the name of its engine. The only place that knows which engines there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from server.config import Config
from server.errors import ConfigurationError
from server.model import Finding
from server.storage.contract import Store

ENGINES = ("memory", "sqlite")


def open_store(engine: str, config: Config) -> Store:
    """Opens the store that `config` describes; the caller closes it.

    Raises ConfigurationError (ENGINE_UNKNOWN) for a name that is not in ENGINES.
    """
    # Imported where they are needed: an engine's driver must not be a condition for using another engine.
    if engine == "memory":
        from server.storage.memory.store import MemoryStore

        return MemoryStore(months_max=config.limits.months_max)
    if engine == "sqlite":
        from server.storage.sqlite.store import SqliteStore

        return SqliteStore(Path(config.data), config.storage, config.query, months_max=config.limits.months_max)
    raise ConfigurationError(
        "ENGINE_UNKNOWN", f"there is no storage engine {engine!r}", hint=f"known are {', '.join(ENGINES)}"
    )


def check_data(directory: Path) -> Sequence[Finding]:
    """Looks over a data directory without opening it as a store; empty means sound."""
    from server.storage.sqlite.check import check_directory
    from server.storage.sqlite.layout import Layout

    return check_directory(Layout(directory))
