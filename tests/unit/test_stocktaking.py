"""What plans are made of is what there is now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from retention.facts import NOTHING_HELD, Copy, CopyKind, Held
from retention.hold import Hold
from retention.month import Month
from server.retention.stocktaking import Stocktaking
from server.storage.memory.store import MemoryStore
from tests.support.events import append, make_event
from tests.support.retaining import deed, here, seal

MONTH = Month(2025, 10)


def test_a_copy_that_could_not_be_looked_into_is_looked_into_again() -> None:
    """Although nothing else about its month has changed: nobody may believe for long that nothing of it is held."""
    store, found = MemoryStore(), [NOTHING_HELD, Held(1, (("H-1", 1),))]
    append(store, make_event(1, str(MONTH), type="t"))
    seal(store, MONTH)
    copy = Copy(kind=CopyKind.ARCHIVE, name="a", types=("t",), rows=1, bytes=1, created_ms=0, target="far")
    store.records.put_copy(MONTH, copy, deed("archive"))

    def held(_month: Month, copy: Copy, _holds: Sequence[Hold]) -> Copy:
        return replace(copy, held=found.pop(0))

    stocktaking = Stocktaking(
        store, here, held_copy=held, is_importing=lambda: False, is_ingesting=lambda: False
    )  # fmt: skip
    told = [month.copies[0].held.rows for _ in range(2) for month in stocktaking.facts().months]
    assert told == [0, 1]
