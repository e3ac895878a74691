"""Patterns of event types: letters, digits and "_.:/-" stand for themselves, `*` for any number of them."""

from __future__ import annotations

import re
from functools import lru_cache

GLOB_PATTERN = r"^[A-Za-z0-9_.:/*-]{1,128}$"
EVERYTHING = "*"


@lru_cache(maxsize=4_096)
def _compiled(glob: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, glob.split("*"))), re.DOTALL)


def matches(glob: str, name: str) -> bool:
    """Whether the glob stands for the name, whole and in its case."""
    return _compiled(glob).fullmatch(name) is not None


@lru_cache(maxsize=4_096)
def common_name(left: str, right: str) -> str | None:
    """A shortest name that both globs stand for; None if there is none. Where one letter is as good, it is `x`."""
    # One row per prefix of `left`: the shortest name for it and each prefix of `right`.
    row: list[str | None] = []
    for taken in range(len(left) + 1):
        above, row = row, []
        for used in range(len(right) + 1):
            row.append(_shortest(left[:taken], right[:used], above, row))
    name = row[-1]
    return "x" if name == "" else name


def _shortest(left: str, right: str, above: list[str | None], row: list[str | None]) -> str | None:
    if not left and not right:
        return ""
    candidates: list[str | None] = []
    if left.endswith("*"):
        candidates.append(above[len(right)])  # the star stands for nothing
        if right and not right.endswith("*"):
            candidates.append(_longer(row[len(right) - 1], right[-1]))  # or for one more letter
    if right.endswith("*"):
        candidates.append(row[len(right) - 1])
        if left and not left.endswith("*"):
            candidates.append(_longer(above[len(right)], left[-1]))
    if left and right and left[-1] == right[-1] != "*":
        candidates.append(_longer(above[len(right) - 1], left[-1]))
    return min((name for name in candidates if name is not None), key=lambda name: (len(name), name), default=None)


def _longer(name: str | None, letter: str) -> str | None:
    return None if name is None else name + letter
