"""Files of rows: how a part is written, sorted and always the same for the same rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from server.archive.columns import SCHEMA, SORTED, table_of
from server.archive.folders import unnamed
from server.storage.digest import BUCKETS
from server.storage.exported import Exported

GROUP_ROWS = 65_536
"""Of a row group: what a reader has to read, at least, to find one user."""
PARTITION_ROWS = 131_072
_NUMBERS = ("position", "timestamp_ms", "received_ms", "time")
_REPEATED = (
    "type",
    "user_id",
    "source",
    "session_id",
    "client_ip",
    "description",
    "tags.list.element",
    "table_name",
    "action",
    "status",
    "form",
)


class Spill:
    """Rows on their way from the store, in the order of positions, into the buckets of their users.

    They wait in files without names under `scratch`: a crash leaves none of them.
    """

    def __init__(self, scratch: Path | None) -> None:
        self._scratch = scratch
        self._files: dict[int, IO[bytes]] = {}
        self._writers: dict[int, Any] = {}
        self._waiting: list[Exported] = []
        self._waiting_rows = 0
        self._under_way: Future[None] | None = None
        self.rows = 0
        self.bytes = 0
        """In memory."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()

    def add(self, rows: Exported, pool: Executor) -> None:
        """Takes some rows. They are sorted into buckets on a thread of the pool, not more than one lot at a time."""
        self._waiting.append(rows)
        self._waiting_rows += len(rows)
        if self._waiting_rows >= PARTITION_ROWS:
            self._settle()
            self._under_way = pool.submit(self._partition, self._waiting)
            self._waiting, self._waiting_rows = [], 0

    def finish(self) -> None:
        """There are no more."""
        self._settle()
        if self._waiting:
            self._partition(self._waiting)
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _settle(self) -> None:
        if self._under_way is not None:
            self._under_way.result()

    def taken(self, buckets: Iterable[int]) -> Any:
        """The rows of some buckets of digests, as a pyarrow.Table; their files are gone then."""
        tables = []
        for bucket in buckets:
            if bucket in self._files:
                with self._files.pop(bucket) as file:
                    file.seek(0)
                    tables.append(pa.ipc.open_stream(pa.PythonFile(file, "r")).read_all())
        return pa.concat_tables(tables) if tables else SCHEMA.empty_table()

    def _partition(self, lot: Sequence[Exported]) -> None:
        rows = pa.Table.from_batches([table_of(part) for part in lot])
        buckets = np.concatenate([part.buckets for part in lot])
        self.rows += rows.num_rows
        self.bytes += rows.nbytes
        rows = rows.take(np.argsort(buckets, kind="stable")).combine_chunks()
        start = 0
        for bucket, count in enumerate(np.bincount(buckets, minlength=BUCKETS).tolist()):
            if count:
                self._writer(bucket).write_table(rows.slice(start, count))
                start += count

    def _writer(self, bucket: int) -> Any:
        if bucket not in self._writers:
            self._files[bucket] = file = unnamed(self._scratch)
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writers[bucket] = pa.ipc.new_stream(pa.PythonFile(file, "w"), SCHEMA, options=options)
        return self._writers[bucket]


def in_order(rows: Any) -> Any:
    """The rows (pyarrow.Table) sorted by user, time and position. Those of each user must be in order of positions."""
    users = rows["user_id"].combine_chunks().dictionary_encode()
    ranks = np.empty(len(users.dictionary), np.int64)
    ranks[pc.sort_indices(users.dictionary).to_numpy()] = np.arange(len(ranks))
    times = rows["timestamp_ms"].to_numpy()
    # A month has fewer than 2^32 milliseconds, so both fit into one number; a stable sort keeps the order of positions.
    keys = (ranks[users.indices.to_numpy()] << 32) | (times - times.min())
    return rows.take(np.argsort(keys, kind="stable"))


def write(file: IO[bytes], groups: Iterable[Any], lineage: str) -> None:
    """Writes sorted rows (pyarrow.Table) as a Parquet file.

    The lineage is written into it, so that archives that happen to hold the same rows never share a file.
    """
    options: dict[str, Any] = {
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": list(_REPEATED),
        "column_encoding": dict.fromkeys(_NUMBERS, "DELTA_BINARY_PACKED"),
        "write_page_index": True,
        # Arrow's own types would tell its readers of texts larger than 2 GB, which these are not.
        "store_schema": False,
        "sorting_columns": pq.SortingColumn.from_ordering(SCHEMA, SORTED),
    }
    with pq.ParquetWriter(pa.PythonFile(file, "w"), SCHEMA, **options) as writer:
        for rows in groups:
            writer.write_table(rows, row_group_size=GROUP_ROWS)
        writer.add_key_value_metadata({"trackd.lineage": lineage, "trackd.format": "1"})


def sha256_of(file: IO[bytes]) -> str:
    """Of a whole file."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
