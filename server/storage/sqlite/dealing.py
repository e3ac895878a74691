"""New positions for rows whose old ones would tell who they were: the same positions, dealt anew at random."""

from __future__ import annotations

import secrets

import apsw
import numpy as np

from server.storage.sqlite import connection as sqlite


def deal_positions(connection: apsw.Connection, positions: str) -> None:
    """Makes the table temp.dealt (before, after), one row for each position that the statement finds."""
    before = np.array([position for (position,) in sqlite.fetch(connection, positions)], np.int64)
    # Seeded by the operating system: an order that can be guessed would be none.
    after = np.random.Generator(np.random.PCG64DXSM(secrets.randbits(128))).permutation(before)
    connection.execute("CREATE TEMP TABLE dealt (before INTEGER PRIMARY KEY, after INTEGER NOT NULL UNIQUE)")
    sqlite.insert(connection, "temp.dealt", {"before": before.tolist(), "after": after.tolist()})
