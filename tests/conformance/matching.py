"""The small language of clients/conformance/scenarios.json: what stands for something else, what an answer must be."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any


def expand(value: Any) -> Any:
    """The value with every `{"$word": argument}` replaced by what it stands for; KeyError for an unknown word.

    Expectations such as `$at_least` stay: they stand for more than one value.
    """
    if isinstance(value, list):
        return [inner for one in value for inner in _spliced(one)]
    if isinstance(value, dict):
        word = _word(value)
        if word is not None and word not in EXPECTATIONS:
            return WORDS[word](value[word])
        return {name: expand(inner) for name, inner in value.items()}
    return value


def _spliced(value: Any) -> Iterator[Any]:
    """An element of a list; those that stand for several elements are several."""
    expanded = expand(value)
    if isinstance(value, dict) and _word(value) == "$made":
        yield from expanded
    else:
        yield expanded


def _word(value: dict[str, Any]) -> str | None:
    return next((name for name in value if name.startswith("$")), None) if len(value) == 1 else None


def made_events(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The made events `from` <= n < `to` as they are described for send_made, written out.

    `padding_step`: each has so many x more than the one before.
    """
    paddings = ("x" * length for length in itertools.count(asked.get("padding", 0), asked.get("padding_step", 0)))
    return [
        {
            "id": made_id(asked["base_ms"], number).hex(),
            "type": asked["type"],
            "user_id": f"user-{number % 7}",
            "timestamp_ms": asked["base_ms"] + number,
            "metadata": f'{{"n":{number},"pad":"{padding}"}}' if padding else f'{{"n":{number}}}',
        }
        for number, padding in zip(range(asked["from"], asked["to"]), paddings, strict=False)
    ]


def made_id(base_ms: int, number: int) -> bytes:
    """UUIDv7 (RFC 9562, 5.7) of the made event with this number: 48 bits of time, then nothing but its number."""
    return (base_ms + number << 80 | 7 << 76 | 2 << 62 | number).to_bytes(16, "big")


WORDS: dict[str, Callable[[Any], Any]] = {
    "$repeat": lambda argument: str(argument[0]) * int(argument[1]),
    "$now_ms": lambda offset: time.time_ns() // 1_000_000 + int(offset),
    "$made": made_events,
}


EXPECTATIONS = frozenset({"$at_least"})


def mismatches(expected: Any, found: Any, where: str = "") -> Iterator[str]:
    """What is not as expected. Nothing means that it matches.

    Of an object the named members must match, others are free; null also matches a member that is not there. A list
    has as many elements, each matching its counterpart. `{"$at_least": n}` matches numbers. Anything else is equal,
    also in its kind: 1 is not true.
    """
    place = where or "the answer"
    if isinstance(expected, dict) and set(expected) == {"$at_least"}:
        if isinstance(found, bool) or not isinstance(found, int | float) or found < expected["$at_least"]:
            yield f"{place}: {found!r} is not at least {expected['$at_least']}"
    elif isinstance(expected, dict):
        if not isinstance(found, dict):
            yield f"{place}: {found!r} is not an object"
            return
        for name, inner in expected.items():
            yield from mismatches(inner, found.get(name), f"{where}.{name}" if where else name)
    elif isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            yield f"{place}: {_short(found)} has not {len(expected)} elements"
            return
        for index, (inner, one) in enumerate(zip(expected, found, strict=True)):
            yield from mismatches(inner, one, f"{where}[{index}]")
    elif type(expected) is not type(found) or expected != found:
        yield f"{place}: {_short(found)} is not {_short(expected)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
