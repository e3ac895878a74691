"""Names of users that no event has any more: a dictionary is personal data, too (GDPR Art. 5(1)(e))."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable

import apsw
import numpy as np
from pyroaring import BitMap

from server.model import MonthInfo, MonthState
from server.rewriting import OnWriter
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite.catalog import Catalog
from server.storage.sqlite.layout import Layout
from server.storage.sqlite.numbers import UserKeys

CACHE_BYTES = 1024 * 1024
AT_ONCE = 1_000
"""Forgotten in one commit of the writer: some milliseconds."""
PAUSE_S = 0.02
"""Between two of them, for events."""
KEYS_AT_ONCE = 10_000
"""Read in one step: longer than half a millisecond nobody waits for the interpreter lock."""


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
                known = _keys(connection)
            finally:
                connection.close()
        unused = list(known - used)
        forgotten = 0
        for start in range(0, len(unused), AT_ONCE):
            part = unused[start : start + AT_ONCE]
            forgotten += on_writer(lambda part=part: users.forget(part))  # type: ignore[misc]
            time.sleep(PAUSE_S)
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
            return _keys(connection)
    finally:
        connection.close()


def _keys(connection: apsw.Connection) -> BitMap:
    """All keys of a table of users."""
    sql = "SELECT string_agg(key, ' ') FROM (SELECT key FROM users WHERE key > ? ORDER BY key LIMIT ?)"
    found, last = BitMap(), -1
    while text := sqlite.first(connection, sql, (last, KEYS_AT_ONCE))[0]:
        keys = np.fromstring(text, np.uint32, sep=" ")
        found |= BitMap(array("I", keys.tobytes()))
        last = int(keys[-1])
    return found
