"""The same rows in DuckDB: a native table in a file, asked within this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from server.bench.asking import Rows, cell
from server.bench.questions import Asked, Kind

NAME = "DuckDB"

TABLE = """CREATE TABLE events AS SELECT
    id::UUID AS id, type, user_id, source, ts, session_id,
    CASE WHEN tags = '{}' THEN [] ELSE string_split(trim(tags, '{}'), ',') END AS tags, metadata::JSON AS metadata
FROM read_csv($1, header = false, delim = '\t', quote = '', escape = '', columns = {
    'id': 'VARCHAR', 'type': 'SMALLINT', 'user_id': 'INTEGER', 'source': 'SMALLINT', 'ts': 'TIMESTAMP',
    'session_id': 'INTEGER', 'tags': 'VARCHAR', 'metadata': 'VARCHAR'})"""
INDEX = "CREATE INDEX events_user ON events (user_id)"
"""The kind of index it has does not order by time; columns that are less selective it would not use one for."""


class Duck:
    """An open database."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, load_seconds: float) -> None:
        self._connection = connection
        self.about = {"version": duckdb.__version__, "load_seconds": round(load_seconds, 1)}

    def ask(self, kind: Kind, asked: Asked) -> Any:
        """The columns of a table, or the rows of a list: whichever the driver gives faster."""
        arguments = [_naive(argument) for argument in asked.arguments]
        done = self._connection.execute(kind.duckdb or kind.postgresql, arguments)
        return done.fetchall() if kind.name.startswith("latest") else done.fetchnumpy()

    def rows(self, answer: Any) -> Rows:
        """The rows in the common form."""
        if isinstance(answer, list):
            return [tuple(map(cell, row)) for row in answer]
        columns = [
            (column.astype("datetime64[us]") if column.dtype.kind == "M" else column).tolist()
            for column in answer.values()
        ]
        return [tuple(map(cell, row)) for row in zip(*columns, strict=True)]


@contextmanager
def opened(table: Path, scratch: Path) -> Iterator[Duck]:
    """A new database below `scratch` with the rows of a table in the text format of COPY."""
    start = time.perf_counter()
    with duckdb.connect(str(scratch / "events.duckdb")) as connection:
        connection.execute(TABLE, [str(table)])
        connection.execute(INDEX)
        connection.execute("ANALYZE")
        connection.execute("CHECKPOINT")
        yield Duck(connection, time.perf_counter() - start)


def _naive(argument: object) -> object:
    return argument.astimezone(UTC).replace(tzinfo=None) if isinstance(argument, datetime) else argument
