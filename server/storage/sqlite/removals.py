"""Which events of a month were erased, for whoever holds rows that were read before."""

from __future__ import annotations

import apsw
import numpy as np
from numpy.typing import NDArray

from server.storage.sqlite import connection as sqlite


def removals_since(connection: apsw.Connection, applied: int | None) -> tuple[int, NDArray[np.int64]] | None:
    """The last generation of removals, and the positions erased after generation `applied`, rising.

    None if some of them are forgotten already: an index exists that has applied more. `applied` None asks for all that
    are not forgotten.
    """
    about = dict(sqlite.fetch(connection, "SELECT key, value FROM about WHERE key IN ('removals', 'removals_purged')"))
    last, purged = about.get("removals", 0), about.get("removals_purged", 0)
    if applied is None:
        applied = purged
    if last <= applied:
        return last, np.empty(0, np.int64)
    if purged > applied:
        return None
    rows = sqlite.fetch(connection, "SELECT position FROM removed WHERE generation > ?", (applied,))
    return last, np.unique(np.array([position for (position,) in rows], np.int64))
