"""Judging whole columns and judging single events come to the same verdict."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from server.config import Limits
from server.ingest.admission import Admission
from server.ingest.event_types import EventTypes
from server.ingest.offered import Offered
from server.ingest.rules import NIL_ID, new_uuid7
from server.model import Absent
from tests.unit.test_admission import BATCHES, GOOD, NOW_MS, Row, admit, said, taken


@settings(max_examples=400, deadline=None)
@given(BATCHES)
def test_company_changes_no_verdict(rows: list[Row]) -> None:
    """A batch is judged by its columns; beside one broken event each is judged by itself: both say the same."""
    alone = admit(rows)
    closely = admit([*rows, GOOD | {"ids": NIL_ID}])
    assert said(closely.rejected).pop(len(rows)) == ("ID_INVALID", "id")
    assert said(closely.rejected[:-1]) == said(alone.rejected)
    assert taken(closely) == taken(alone)


@pytest.mark.parametrize("others", [0, 1, 31, 32, 33, 100, 1_000])
def test_too_deep_metadata_is_found_in_any_company(others: int) -> None:
    """One event nested 33 deep, where 32 is the limit, and so many events without metadata."""
    deep = '{"a":' * 32 + "{}" + "}" * 32
    size = others + 1
    offered = Offered(
        [new_uuid7(NOW_MS) for _ in range(size)], ["t"] * size, [""] * size, [NOW_MS] * size,
        Absent(size), Absent(size), Absent(size), [deep, *[""] * others],
    )  # fmt: skip
    types = EventTypes([], open_registry=True, types_max=10)
    types.known.add("t")
    admitted = Admission(Limits(), types, lambda: NOW_MS).admit(offered, source="tests", atomic=False)
    assert [(item.index, item.reason) for item in admitted.rejected] == [(0, "METADATA_TOO_DEEP")]
