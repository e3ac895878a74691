"""Opens a store by the name of its engine. The only place that knows which engines there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from retention.month import Month
from retention.policy import Claim
from server.config import Config
from server.errors import ConfigurationError
from server.model import Finding
from server.storage.contract import Store
from server.storage.digest import ContentDigest
from server.storage.exported import Exported

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


def write_restored(
    path: Path, month: Month, batches: Iterable[Exported], about: Mapping[str, object], claim: Claim
) -> ContentDigest:
    """Makes a SQLite file of the shape of a sealed month, of rows in any order; the digest of what is in it then.

    `about` is what it says of itself, beside counts and times; `claim` what is true of rows that went through a
    profile. Its durability is the caller's business.
    """
    from server.storage.sqlite.restored import write_restored

    return write_restored(path, month, batches, about, claim)


def read_restored(path: Path) -> Mapping[str, object]:
    """What such a file says of itself. Raises Corrupt if it is none."""
    from server.storage.sqlite.restored import read_restored

    return read_restored(path)
