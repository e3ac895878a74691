"""When two events with one identity have the same content."""

from __future__ import annotations

import orjson

from server.model import Change


def same_json(one: str, other: str) -> bool:
    """Whether two JSON texts (or "") state the same value: spacing and the order of keys do not count.

    Texts that orjson cannot hold (numbers beyond a double) are the same only if they are equal letter by letter.
    """
    if one == other:
        return True
    if not one or not other:
        return False
    try:
        return _canonical(one) == _canonical(other)
    except orjson.JSONDecodeError:
        return False


def same_change(one: Change | None, other: Change | None) -> bool:
    """Whether two audit parts say the same."""
    if one is None or other is None:
        return one is other
    return (
        (one.table_name, one.row_id, one.action, one.status, one.rows_affected)
        == (other.table_name, other.row_id, other.action, other.status, other.rows_affected)
        and same_json(one.old_values, other.old_values)
        and same_json(one.new_values, other.new_values)
    )


def _canonical(text: str) -> bytes:
    return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS)
