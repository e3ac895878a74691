"""Names of users that no event has any more: a dictionary is personal data, too (GDPR Art. 5(1)(e))."""

from __future__ import annotations

from collections.abc import Iterable

from pyroaring import BitMap

from server.model import MonthInfo, MonthState
from server.rewriting import OnWriter
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite.catalog import Catalog
from server.storage.sqlite.layout import Layout
from server.storage.sqlite.numbers import UserKeys

CACHE_BYTES = 1024 * 1024
AT_ONCE = 5_000
"""Forgotten in one commit of the writer: some milliseconds."""


def forget_names(
    layout: Layout, catalog: Catalog, users: UserKeys, months: Iterable[MonthInfo], on_writer: OnWriter
) -> int:
    """See Store.forget_names. Keys are not given again."""
    on_writer(users.watch)
    try:
        used = BitMap([0])
        for info in months:
            if info.state is MonthState.DAMAGED:
                return 0  # nobody knows whose events it has
            if info.state is not MonthState.DROPPED:
                used |= _users_of(layout, info)
        with sqlite.translated(layout.catalog):
            connection = sqlite.open_reader(layout.catalog, cache_bytes=CACHE_BYTES)
            try:
                known = BitMap(key for (key,) in connection.execute("SELECT key FROM users"))
            finally:
                connection.close()
        unused = list(known - used)
        forgotten = 0
        for start in range(0, len(unused), AT_ONCE):
            part = unused[start : start + AT_ONCE]
            forgotten += on_writer(lambda part=part: users.forget(part))  # type: ignore[misc]
        if forgotten:
            on_writer(catalog.checkpoint)  # what was erased is not left in the log
        return forgotten
    finally:
        on_writer(users.unwatch)


def _users_of(layout: Layout, info: MonthInfo) -> BitMap:
    path = layout.events(info.month, info.generation)
    connection = sqlite.open_reader(path, cache_bytes=CACHE_BYTES, immutable=info.state is MonthState.SEALED)
    try:
        with sqlite.translated(path):
            return BitMap(key for (key,) in connection.execute("SELECT key FROM users"))
    finally:
        connection.close()
