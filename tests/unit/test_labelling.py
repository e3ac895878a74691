"""Values of dimensions: what the index makes of a value as it is written is what questions read from the events."""

from __future__ import annotations

import json
from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.storage.sqlite import questions
from server.storage.sqlite.index.labelling import VALUE_BYTES_MAX, value_of
from server.storage.sqlite.index.truth import RAW_CHARACTERS_MAX

CONNECTION = apsw.Connection(":memory:")
KEY = 'k"é.$'
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


def raw_of(metadata: str) -> str | None:
    """What the folder reads."""
    sql = f"SELECT substr(? -> ?, 1, {RAW_CHARACTERS_MAX})"
    found: str | None = CONNECTION.execute(sql, (metadata, questions.path_of(KEY))).get
    return found


def read_of(metadata: str) -> str | None:
    """What a question reads that goes to the events."""
    value, bindings = questions.metadata_value(KEY, "m")
    found: str | None = CONNECTION.execute(f"SELECT {value} FROM (SELECT ? AS m)", (*bindings, metadata)).get  # noqa: S608  # an expression of ours
    return found


@given(
    value=SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2),
    ascii=st.booleans(),
)
def test_a_label_is_what_the_event_says(value: Any, *, ascii: bool) -> None:
    """Texts however they are escaped, numbers as they are written; or it is said that there can be no label."""
    metadata = json.dumps({"other": value, KEY: value}, ensure_ascii=ascii)
    present, label = value_of(raw_of(metadata))
    expected = read_of(metadata)
    assert present is (expected is not None)
    if label is not None:
        assert label == expected
    elif present:
        assert "\\u0000" in metadata or len(str(expected).encode()) > VALUE_BYTES_MAX


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ('"caf\\u00e9"', (True, "café")),
        ('"\\ud83d\\ude00"', (True, "😀")),
        ("1.50", (True, "1.50")),
        ("true", (True, "true")),
        ("null", (False, None)),
        ("[1]", (False, None)),
        ('{"a":1}', (False, None)),
        (None, (False, None)),
        ('"a\\u0000b"', (True, None)),
        ('"\\ud83d"', (True, None)),
        (json.dumps("é" * 128), (True, "é" * 128)),
        (json.dumps("é" * 129), (True, None)),
        ('"' + "x" * RAW_CHARACTERS_MAX, (True, None)),
        ("1" * 257, (True, None)),
    ],
)
def test_values_that_can_be_labels(raw: str | None, value: tuple[bool, str | None]) -> None:
    """At most 256 bytes, read as SQLite reads them; objects, lists and null are no values."""
    assert value_of(raw) == value


def test_a_value_without_an_event_is_none() -> None:
    """An event without metadata, and one without the key."""
    assert raw_of("{}") is None
    assert CONNECTION.execute("SELECT nullif('', '') -> '$.a'").get is None
