"""While writes are refused for long: whoever is refused is let go."""

from __future__ import annotations

import gc
import weakref

import pytest

from server.errors import StoreFailed, TrackdError, Unavailable
from tests.unit.test_writer import Decode, HeldStore, offer, settle, writing


@pytest.mark.parametrize(
    "problem", [Unavailable("DISK_FULL", "full"), StoreFailed("STORAGE_IO", "failed")], ids=["full", "failed"]
)
async def test_refused_batches_are_not_kept(problem: TrackdError) -> None:
    """A full disk lasts for hours while senders try again: nothing of their batches may stay in memory."""
    async with writing(store := HeldStore()) as writer:
        store.fails = problem
        await settle(writer.submit(offer(0)))
        refused: list[weakref.ref[Decode]] = []
        for number in range(50):
            decode = Decode(number, 1)
            refused.append(weakref.ref(decode))
            with pytest.raises(TrackdError):
                writer.submit(offer(number, decode=decode))
            del decode
        gc.collect()
        assert sum(one() is not None for one in refused) <= 1
