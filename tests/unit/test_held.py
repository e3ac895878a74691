"""Parts of runs in memory: read once, bounded, the one used longest ago let go of first."""

from __future__ import annotations

import pytest

from server.storage.sqlite.index.held import NOTHING_HELD, PARTS_OF_ALL, Held


def read(held: Held, key: str, size: int = 10) -> bool:
    """Asks for a part; whether it had to be read."""
    done: list[str] = []

    def now() -> str:
        done.append(key)
        return f"part {key}"

    assert held.get(key, now, lambda _part: size) == f"part {key}"
    return bool(done)


def test_a_part_is_read_once() -> None:
    """And given from memory from then on."""
    held = Held(1_000)
    assert [read(held, key) for key in "abab"] == [True, True, False, False]
    assert held.bytes == 20


def test_the_part_used_longest_ago_goes() -> None:
    """Using one again keeps it."""
    held = Held(100)
    for key in "abcdefghij":
        read(held, key)
    assert held.bytes == 100
    assert not read(held, "a")
    assert read(held, "k")
    assert held.bytes == 100
    assert [read(held, key) for key in "acb"] == [False, False, True]


@pytest.mark.parametrize("held", [Held(100), NOTHING_HELD], ids=["small", "nothing"])
def test_a_large_part_is_not_kept(held: Held) -> None:
    """It would drive out too many others."""
    assert read(held, "a", 100 // PARTS_OF_ALL + 1)
    assert read(held, "a", 100 // PARTS_OF_ALL + 1)
    assert held.bytes == 0


def test_who_reads_the_same_at_once_counts_once() -> None:
    """Two threads may both miss it."""
    held = Held(1_000)
    assert held.get("a", lambda: str(read(held, "a")), lambda _part: 10) == "True"
    assert held.bytes == 10
