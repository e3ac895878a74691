"""A lost catalog beside a month that cannot be read: what numbers were given out is not known, so none are."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.errors import Corrupt
from tests.faults.test_damage import DAMAGES, MONTHS, PER_MONTH, file_of, open_store, refusal, root
from tests.support.events import read

__all__ = ["root"]


@pytest.mark.parametrize("month", MONTHS)
@pytest.mark.parametrize("damage", ["magic", "overwritten", "cut to a page"])
def test_a_lost_catalog_is_not_guessed_while_a_month_cannot_be_read(root: Path, damage: str, month: str) -> None:
    """The start is refused and names the month, however often it is tried; with the month back, all is rebuilt."""
    for file in root.glob("catalog.db*"):
        file.unlink()
    whole = file_of(root, month).read_bytes()
    DAMAGES[damage](file_of(root, month))
    for _attempt in range(3):
        error = refusal(lambda: open_store(root))
        assert (type(error), error.reason) == (Corrupt, "CATALOG_LOST")
        assert month in error.message
    file_of(root, month).write_bytes(whole)
    store = open_store(root)
    try:
        assert len(read(store)) == len(MONTHS) * PER_MONTH
        assert list(store.check()) == []
    finally:
        store.close()
