"""Rows of a sealed month as columns, put together by SQLite without the interpreter lock.

A statement gives a window of some ten thousand rows in one step, each column as one text: numbers with a space between
them, texts one after the other with their lengths beside them. What is left to do here costs a tenth of reading rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw
import numpy as np

from retention.facts import RAW
from retention.month import Month
from server.errors import Internal
from server.rewriting import Selection
from server.storage.exported import Exported, ExportedChanges, Integers, Texts
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite.content_digest import Condition, scanned, windows
from server.storage.sqlite.schema import changes_table, events_table

WINDOW_ROWS = 32_768
WINDOW_BYTES = 32 * 1024 * 1024
"""A window becomes some texts, of which SQLite makes none above 1 GB (SQLITE_MAX_LENGTH, sqlite.org/limits.html)."""


def chosen_by(rows: Selection) -> Condition:
    """The rows of a selection, as a condition on `e`."""

    def condition(connection: apsw.Connection) -> str:
        # The plus keeps SQLite from going by an index, which would cost the order of positions.
        types = f"+e.type IN ({_keys(connection, 'SELECT key, name FROM types', rows.types)})"
        if not has_forms(connection):
            return f"{types} AND {int(RAW in rows.forms)}"
        forms = _keys(connection, "SELECT key, profile FROM forms UNION ALL SELECT 0, ''", rows.forms)
        return f"{types} AND +e.form IN ({forms})"

    return condition


def _keys(connection: apsw.Connection, sql: str, wanted: Sequence[str]) -> str:
    names = frozenset(wanted)
    return ", ".join(str(key) for key, name in sqlite.fetch(connection, sql) if name in names)


def has_forms(connection: apsw.Connection) -> bool:
    """Whether the month tells which profile each row went through; otherwise all are as they were sent."""
    return bool(connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'forms'").get)


def export(path: Path, month: Month, rows: Selection) -> Iterator[Exported]:
    """The rows of a selection, window by window; see SealedRows.export."""
    with scanned(path) as connection:
        condition = chosen_by(rows)(connection)
        form = _FORM if has_forms(connection) else f"'{RAW}'"
        events = _events_sql(month, form, condition)
        changes = _changes_sql(month, condition)
        for window in windows(connection, month, WINDOW_ROWS, WINDOW_BYTES):
            (count, *columns), *_ = sqlite.fetch(connection, events, window)
            if count:
                positions = _integers(columns[0])
                if not (np.diff(positions) > 0).all():
                    raise Internal("EXPORT_ORDER", f"rows of {month} came in another order", hint="report it")
                changed, *_ = sqlite.fetch(connection, changes, window)
                yield _exported(positions, columns, _changes(positions, changed))


_FORM = f"coalesce((SELECT f.profile FROM forms f WHERE f.key = e.form), '{RAW}')"
_EVENT_NUMBERS = ("e.position", "e.timestamp_ms", "e.received_ms", "b.bucket")
_EVENT_TEXTS = (
    "t.name",
    "u.name",
    "s.name",
    "{form}",
    "e.session_id",
    "e.client_ip",
    "e.description",
    "e.tags",
    "e.metadata",
)
_CHANGE_NUMBERS = ("c.position", "c.action", "c.status", "coalesce(c.rows_affected, -1)")
_CHANGE_TEXTS = ("c.table_name", "c.row_id", "c.old_values", "c.new_values")


def _events_sql(month: Month, form: str, condition: str) -> str:
    texts = [form if text == "{form}" else text for text in _EVENT_TEXTS]
    # CROSS JOIN is SQLite's word for "in this order" (sqlite.org/lang_select.html).
    return (
        f"SELECT count(*), {_columns(_EVENT_NUMBERS, texts)}, {_bytes('e.id')} FROM {events_table(month)} e "
        "CROSS JOIN types t ON t.key = e.type CROSS JOIN users u ON u.key = e.user "
        "CROSS JOIN sources s ON s.key = e.source CROSS JOIN temp.buckets b ON b.user = e.user "
        f"WHERE e.position BETWEEN ? AND ? AND {condition}"
    )


def _changes_sql(month: Month, condition: str) -> str:
    return (
        f"SELECT {_columns(_CHANGE_NUMBERS, _CHANGE_TEXTS)} FROM {changes_table(month)} c "
        f"CROSS JOIN {events_table(month)} e ON e.position = c.position "
        f"WHERE c.position BETWEEN ? AND ? AND {condition}"
    )


def _columns(numbers: Sequence[str], texts: Sequence[str]) -> str:
    each = [_numbers(number) for number in numbers]
    for text in texts:
        each += [_bytes(text), _numbers(f"octet_length({text})")]
    return ", ".join(each)


def _numbers(expression: str) -> str:
    return f"string_agg({expression}, ' ')"


def _bytes(expression: str) -> str:
    return f"CAST(string_agg({expression}, '') AS BLOB)"


def _integers(text: str | None) -> Integers:
    return np.fromstring(text or "", np.int64, sep=" ")


def _texts(columns: list[bytes | str]) -> list[Texts]:
    return [Texts(data or b"", _integers(lengths)) for data, lengths in zip(columns[::2], columns[1::2], strict=True)]  # type: ignore[arg-type]


def _exported(positions: Integers, columns: list[bytes | str], changes: ExportedChanges) -> Exported:
    timestamps_ms, received_ms, buckets = map(_integers, columns[1 : len(_EVENT_NUMBERS)])  # type: ignore[arg-type]
    types, users, sources, forms, sessions, ips, descriptions, tags, metadata = _texts(
        columns[len(_EVENT_NUMBERS) : -1]
    )
    return Exported(
        positions=positions,
        ids=columns[-1],  # type: ignore[arg-type]
        types=types,
        user_ids=users,
        sources=sources,
        forms=forms,
        timestamps_ms=timestamps_ms,
        received_ms=received_ms,
        session_ids=sessions,
        client_ips=ips,
        descriptions=descriptions,
        tags=tags,
        metadata=metadata,
        buckets=buckets,
        changes=changes,
    )


def _changes(positions: Integers, columns: list[bytes | str]) -> ExportedChanges:
    places, actions, statuses, rows_affected = map(_integers, columns[: len(_CHANGE_NUMBERS)])  # type: ignore[arg-type]
    table_names, row_ids, old_values, new_values = _texts(columns[len(_CHANGE_NUMBERS) :])
    return ExportedChanges(
        rows=np.searchsorted(positions, places),
        table_names=table_names,
        row_ids=row_ids,
        actions=actions,
        old_values=old_values,
        new_values=new_values,
        statuses=statuses,
        rows_affected=rows_affected,
    )
