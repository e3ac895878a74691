"""Rows of a part as the canonical lines of server.storage.digest.

Arrow's kernels put the lines together, without an object for a row and without the interpreter lock: next to a daemon
that matters more than the time it takes. Where a text has a control character, which is rare, orjson writes the lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from server.archive.columns import ACTIONS, CHANGES, STATUSES, TEXT

_ACTIONS = {word: number for number, word in ACTIONS.items()}
_STATUSES = {word: number for number, word in STATUSES.items()}
_PLAIN = ("type", "user_id", "source", "session_id", "client_ip", "description", "metadata")
_CHANGED = ("table_name", "row_id", "old_values", "new_values")
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_NO_CHANGE = "," + ",".join(["null"] * len(CHANGES)) + "]\n"


def lines_of(rows: Any) -> bytes | memoryview:
    """The lines of rows (pyarrow.Table, at least one), in their order, with a line feed between them."""
    batch = rows.combine_chunks().to_batches()[0]
    texts = {name: _text(batch.column(name)) for name in (*_PLAIN, *_CHANGED)}
    labels = _text(batch.column("tags").flatten())
    if any(_has(text, _CONTROL) for text in (*texts.values(), labels)):
        return b"\n".join(odd_lines_of(rows))
    lines = _joined(*_pieces(batch, texts, labels))
    ends = np.frombuffer(lines.buffers()[1], np.int64)
    return memoryview(lines.buffers()[2])[: int(ends[len(lines)]) - 1]


def _joined(*pieces: Any) -> Any:
    """Row by row, one after the other; texts among columns are the same in each row."""
    typed = [pa.scalar(piece, TEXT) if isinstance(piece, str) else piece for piece in pieces]
    return pc.binary_join_element_wise(*typed, pa.scalar("", TEXT))


def _pieces(batch: Any, texts: dict[str, Any], labels: Any) -> Iterator[Any]:
    """What stands in a line, one after the other."""
    yield "["
    yield _number(batch.column("position"))
    yield ',"'
    yield _hex(batch.column("id"))
    yield '","'
    for name in ("type", "user_id", "source"):
        yield _escaped(texts[name])
        yield '","' if name != "source" else '",'
    yield _number(batch.column("timestamp_ms"))
    yield ","
    yield _number(batch.column("received_ms"))
    yield ',"'
    for name in ("session_id", "client_ip", "description"):
        yield _escaped(texts[name])
        yield '","'
    yield _escaped(_tags(batch.column("tags"), labels))
    yield '","'
    yield _escaped(texts["metadata"])
    yield '"'
    yield _change(batch, texts)


def _change(batch: Any, texts: dict[str, Any]) -> Any:
    """The end of a line: the seven values of a change, or as many nulls."""
    changed = pc.is_valid(batch.column("table_name"))
    if not pc.any(changed).as_py():
        return _NO_CHANGE
    table, row, old, new = (_escaped(texts[name]) for name in _CHANGED)
    action, status = (
        _number(pc.index_in(_text(batch.column(name)), pa.array(_words(words), TEXT)))
        for name, words in (("action", ACTIONS), ("status", STATUSES))
    )
    affected = pc.fill_null(_number(batch.column("rows_affected")), pa.scalar("null", TEXT))
    ends = _joined(',"', table, '","', row, '",', action, ',"', old, '","', new, '",', status, ",", affected, "]\n")
    return pc.if_else(changed, ends, pa.scalar(_NO_CHANGE, ends.type))


def _words(words: dict[int, str]) -> list[str]:
    """So that the place of a word is its number."""
    return [words.get(number, "") for number in range(max(words) + 1)]


def _text(column: Any) -> Any:
    """The texts as one plain array; "" for null."""
    return pc.fill_null(column.cast(TEXT), pa.scalar("", TEXT))


def _number(column: Any) -> Any:
    return column.cast(TEXT)


def _hex(ids: Any) -> Any:
    """16 bytes as 32 digits."""
    count = len(ids)
    data = np.frombuffer(ids.buffers()[1], np.uint8)[16 * ids.offset : 16 * (ids.offset + count)]
    digits = np.empty((len(data), 2), np.uint8)
    digits[:, 0] = _HEX[data >> 4]
    digits[:, 1] = _HEX[data & 15]
    ends = np.arange(0, 32 * count + 1, 32, dtype=np.int64)
    return pa.Array.from_buffers(TEXT, count, [None, pa.py_buffer(ends), pa.py_buffer(digits)])


def _tags(lists: Any, labels: Any) -> Any:
    """The JSON arrays that the lists were; "" for none."""
    lengths = pc.list_value_length(lists)
    if not len(labels):
        return pa.scalar("", TEXT)
    ends = np.zeros(len(lists) + 1, np.int64)
    np.cumsum(lengths.to_numpy(), out=ends[1:])
    quoted = _joined('"', _escaped(labels), '"')
    joined = pc.binary_join(pa.LargeListArray.from_arrays(pa.array(ends), quoted), pa.scalar(",", TEXT))
    return pc.if_else(pc.greater(lengths, 0), _joined("[", joined, "]"), pa.scalar("", TEXT))


_CONTROL = np.arange(256) < 0x20
_QUOTE = np.arange(256) == ord('"')
_BACKSLASH = np.arange(256) == ord("\\")


def _has(texts: Any, bytes_: Any) -> bool:
    """Whether one of these bytes is in one of the texts. Buffers may be longer than what lies in them."""
    if not len(texts):
        return False
    _valid, ends, data = texts.buffers()
    ends = np.frombuffer(ends, np.int64)
    first, last = ends[texts.offset], ends[texts.offset + len(texts)]
    return data is not None and bool(bytes_[np.frombuffer(data, np.uint8)[first:last]].any())


def _escaped(texts: Any) -> Any:
    """As they stand between the quotes of a JSON text; none of them has a control character."""
    if isinstance(texts, pa.Scalar):
        return texts
    if _has(texts, _BACKSLASH):
        texts = pc.replace_substring(texts, "\\", "\\\\")
    return pc.replace_substring(texts, '"', '\\"') if _has(texts, _QUOTE) else texts


# Rows with odd texts


def odd_lines_of(rows: Any) -> list[bytes]:
    """The lines of rows (pyarrow.Table), whatever they hold: one by one, by orjson."""
    columns: list[Any] = [
        rows["position"].to_pylist(),
        [id_.hex() for id_ in rows["id"].to_pylist()],
        *(rows[name].to_pylist() for name in ("type", "user_id", "source", "timestamp_ms", "received_ms")),
        *(rows[name].to_pylist() for name in ("session_id", "client_ip", "description")),
        [orjson.dumps(tags).decode() if tags else "" for tags in rows["tags"].to_pylist()],
        [metadata or "" for metadata in rows["metadata"].to_pylist()],
        *_odd_changes(rows),
    ]
    return list(map(orjson.dumps, zip(*columns, strict=True)))


def _odd_changes(rows: Any) -> Iterator[Any]:
    names = [rows[name].to_pylist() for name in CHANGES]
    changes = [
        (table, row, _ACTIONS.get(action), old or "", new or "", _STATUSES.get(status), affected)
        if table is not None
        else tuple(repeat(None, len(CHANGES)))
        for table, row, action, old, new, status, affected in zip(*names, strict=True)
    ]
    return zip(*changes, strict=True)
