"""OpenTelemetry's AnyValue as what JSON knows.

Text, whole numbers (64 bits, exact), booleans, lists and maps are themselves. Bytes become base64 text (RFC 4648,
section 4), NaN and infinities the words "NaN", "Infinity" and "-Infinity", as in protobuf's own JSON; nothing is null.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue


class Encoded(str):
    """Text that stands for what JSON has no form for. Nobody is called so."""

    __slots__ = ()


def plain(value: AnyValue) -> Any:
    """The value, down to its leaves. The decoder bounds how deep a message is nested (100 messages)."""
    kind = value.WhichOneof("value")
    return _READERS[kind](value) if kind in _READERS else None


def mapping(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Attributes. A key that comes twice, which OpenTelemetry forbids, has its last value."""
    # Most are texts and whole numbers: those need no question what they are.
    return {pair.key: (value := pair.value).string_value or value.int_value or plain(value) for pair in pairs}


def number(value: float) -> float | str:
    """A double, in words where JSON has no number for it."""
    if math.isfinite(value):
        return value
    return Encoded("NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity")


_READERS: Mapping[str | None, Callable[[AnyValue], Any]] = {
    "string_value": lambda value: value.string_value,
    "int_value": lambda value: value.int_value,
    "bool_value": lambda value: value.bool_value,
    "double_value": lambda value: number(value.double_value),
    "array_value": lambda value: [plain(one) for one in value.array_value.values],
    "kvlist_value": lambda value: mapping(value.kvlist_value.values),
    "bytes_value": lambda value: Encoded(base64.b64encode(value.bytes_value).decode()),
}
