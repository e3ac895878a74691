"""The columns of archives, and how rows get into them.

Texts that are absent are "", as everywhere in trackd. JSON that is absent is null, and so is all of a change where
there is none: JSON functions of other tools take the columns as they are. `time` repeats `timestamp_ms` for people and
for tools that prune by time; it is compared with it when a part is read back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from server.model import Action, ChangeStatus
from server.storage.digest import BUCKETS, bucket_of
from server.storage.exported import Exported, ExportedChanges, Integers, Texts

TEXT = pa.large_string()
"""In memory, where a column may be larger than 2 GB; a Parquet file has one kind of text."""
SCHEMA = pa.schema(
    [
        pa.field("position", pa.int64(), nullable=False),
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("type", TEXT, nullable=False),
        pa.field("user_id", TEXT, nullable=False),
        pa.field("source", TEXT, nullable=False),
        pa.field("time", pa.timestamp("ms", "UTC"), nullable=False),
        pa.field("timestamp_ms", pa.int64(), nullable=False),
        pa.field("received_ms", pa.int64(), nullable=False),
        pa.field("session_id", TEXT, nullable=False),
        pa.field("client_ip", TEXT, nullable=False),
        pa.field("description", TEXT, nullable=False),
        pa.field("tags", pa.list_(pa.field("element", TEXT, nullable=False)), nullable=False),
        pa.field("metadata", TEXT),
        pa.field("table_name", TEXT),
        pa.field("row_id", TEXT),
        pa.field("action", TEXT),
        pa.field("old_values", TEXT),
        pa.field("new_values", TEXT),
        pa.field("status", TEXT),
        pa.field("rows_affected", pa.int64()),
        pa.field("form", TEXT, nullable=False),
    ]
)
BUCKET_ROWS, BUCKET_BYTES = 131_072, 64 * 1024 * 1024
"""Of a bucket, in memory: two of them are held there, in two orders, when an archive is made."""
CHANGES = ("table_name", "row_id", "action", "old_values", "new_values", "status", "rows_affected")
SORTED = (("user_id", "ascending"), ("timestamp_ms", "ascending"), ("position", "ascending"))
ACTIONS = {int(action): action.name.lower() for action in Action}
STATUSES = {int(status): status.name.lower() for status in ChangeStatus}


def described() -> dict[str, str]:
    """Name -> type of each column, for manifests."""
    return {field.name: str(field.type).replace("large_string", "string") for field in SCHEMA}


def bucket_count(rows: int, size_bytes: int) -> int:
    """Into how many buckets a month goes: as many as keep each below both limits; 64 at most."""
    count = 1
    while count < BUCKETS and (rows > count * BUCKET_ROWS or size_bytes > count * BUCKET_BYTES):
        count *= 2
    return count


def folded(bucket: int, buckets: int) -> int:
    """The bucket of an archive that one of the 64 buckets of digests goes into: neighbours stay together."""
    return bucket * buckets // BUCKETS


def table_of(rows: Exported) -> Any:
    """The rows as a pyarrow.RecordBatch of SCHEMA."""
    count = len(rows)
    columns = {
        "position": pa.array(rows.positions),
        "id": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), count, [None, pa.py_buffer(rows.ids)]),
        "type": _texts(rows.types),
        "user_id": _texts(rows.user_ids),
        "source": _texts(rows.sources),
        "time": pa.array(rows.timestamps_ms).cast(pa.timestamp("ms", "UTC")),
        "timestamp_ms": pa.array(rows.timestamps_ms),
        "received_ms": pa.array(rows.received_ms),
        "session_id": _texts(rows.session_ids),
        "client_ip": _texts(rows.client_ips),
        "description": _texts(rows.descriptions),
        "tags": _lists(rows.tags),
        "metadata": _texts(rows.metadata, absent_is_null=True),
        "form": _texts(rows.forms),
        **_changes(rows.changes, count),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _texts(texts: Texts, *, absent_is_null: bool = False) -> Any:
    ends = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(texts.lengths, out=ends[1:])
    valid = pa.py_buffer(np.packbits(texts.lengths > 0, bitorder="little")) if absent_is_null else None
    return pa.Array.from_buffers(TEXT, len(texts), [valid, pa.py_buffer(ends), pa.py_buffer(texts.data)])


def _lists(tags: Texts) -> Any:
    """Lists of the texts in JSON arrays. There are far fewer different ones than rows."""
    encoded = _texts(tags).dictionary_encode()
    lists = [orjson.loads(text) if text else [] for text in encoded.dictionary.to_pylist()]
    return pa.array(lists, SCHEMA.field("tags").type).take(encoded.indices)


def _changes(changes: ExportedChanges, count: int) -> dict[str, Any]:
    if not len(changes.rows):
        return {name: pa.nulls(count, SCHEMA.field(name).type) for name in CHANGES}
    places = np.full(count, -1, np.int64)
    places[changes.rows] = np.arange(len(changes.rows))
    at = pa.array(places, mask=places < 0)
    columns = {
        "table_name": _texts(changes.table_names),
        "row_id": _texts(changes.row_ids),
        "action": _words(changes.actions, ACTIONS),
        "old_values": _texts(changes.old_values, absent_is_null=True),
        "new_values": _texts(changes.new_values, absent_is_null=True),
        "status": _words(changes.statuses, STATUSES),
        "rows_affected": pa.array(changes.rows_affected, mask=changes.rows_affected < 0),
    }
    return {name: column.take(at) for name, column in columns.items()}


def _words(numbers: Integers, words: dict[int, str]) -> Any:
    return pa.array([words[number] for number in numbers.tolist()], TEXT)


# The way back


def exported_of(rows: Any) -> Exported:
    """Rows of a part (pyarrow.Table, as `reading` gives them), in their order, as they once left the store."""
    rows = rows.cast(SCHEMA).combine_chunks()
    columns = {name: _array(rows[name]) for name in SCHEMA.names}
    users = columns["user_id"].dictionary_encode()
    buckets = np.fromiter(map(bucket_of, users.dictionary.to_pylist()), np.int64)
    return Exported(
        positions=columns["position"].to_numpy(),
        ids=b"".join(columns["id"].to_pylist()),
        types=_texts_of(columns["type"]),
        user_ids=_texts_of(columns["user_id"]),
        sources=_texts_of(columns["source"]),
        forms=_texts_of(columns["form"]),
        timestamps_ms=columns["timestamp_ms"].to_numpy(),
        received_ms=columns["received_ms"].to_numpy(),
        session_ids=_texts_of(columns["session_id"]),
        client_ips=_texts_of(columns["client_ip"]),
        descriptions=_texts_of(columns["description"]),
        tags=Texts.of(orjson.dumps(tags).decode() if tags else "" for tags in columns["tags"].to_pylist()),
        metadata=_texts_of(columns["metadata"]),
        buckets=buckets[users.indices.to_numpy()],
        changes=_changes_of(columns),
    )


def _array(column: Any) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _texts_of(column: Any) -> Texts:
    texts = pa.concat_arrays([pc.fill_null(column, pa.scalar("", TEXT))])
    ends = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = texts.buffers()[2]
    return Texts(data.to_pybytes()[int(ends[0]) : int(ends[-1])] if data else b"", np.diff(ends))


def _changes_of(columns: dict[str, Any]) -> ExportedChanges:
    changed = pc.is_valid(columns["table_name"])
    of = {name: columns[name].filter(changed) for name in CHANGES}
    return ExportedChanges(
        rows=np.flatnonzero(changed.to_numpy(zero_copy_only=False)),
        table_names=_texts_of(of["table_name"]),
        row_ids=_texts_of(of["row_id"]),
        actions=_numbers_of(of["action"], ACTIONS),
        old_values=_texts_of(of["old_values"]),
        new_values=_texts_of(of["new_values"]),
        statuses=_numbers_of(of["status"], STATUSES),
        rows_affected=pc.fill_null(of["rows_affected"], -1).to_numpy(),
    )


def _numbers_of(words: Any, numbered: dict[int, str]) -> Integers:
    numbers = {word: number for number, word in numbered.items()}
    return np.fromiter((numbers[word] for word in words.to_pylist()), np.int64)
