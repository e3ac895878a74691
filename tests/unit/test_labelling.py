"""Values of dimensions: what the index makes of a value as it is written is what questions read from the events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.config import Storage
from server.question import Field, FieldKind, Metric, MetricKind, Question
from server.storage.sqlite import questions
from server.storage.sqlite.answers import indexed
from server.storage.sqlite.answers.indexed import several_of
from server.storage.sqlite.index.labelling import VALUE_BYTES_MAX, value_of
from server.storage.sqlite.index.truth import RAW_CHARACTERS_MAX, Truth
from server.storage.sqlite.layout import Layout
from server.storage.sqlite.store import SqliteStore
from tests.support.events import append, make_event

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


def test_a_run_without_a_type_takes_nothing_from_its_dimensions(tmp_path: Path) -> None:
    """Late events are of few types. What they are merged with is still answered from labels, not from all events."""
    store = SqliteStore(tmp_path, Storage(disk_free_bytes_min=1), months_max=10)
    for name in ("a", "b"):
        store.register_type(name, "", 1, dimensions=("k",))
    for number in range(4):
        kinds = ("a", "b") if number == 0 else ("a",)
        append(
            store,
            *(
                make_event(number * 100 + place, "2025-10", place, type=kind, metadata=f'{{"k":"{place % 3}"}}')
                for place in range(10)
                for kind in [kinds[place % len(kinds)]]
            ),
        )
        assert store.settle()
    reader = store.reader()
    answer = reader.aggregate([Question((Metric(MetricKind.EVENTS),), (Field(FieldKind.METADATA, "k"),))])
    reader.close()
    store.close()
    assert (sum(answer.tables[0].values[0]), answer.read.rows) == (40, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("dense", [0, 16, 10_000])
def test_labels_find_their_rows(monkeypatch: pytest.MonkeyPatch, dense: int) -> None:
    """Through a table of positions or by sorting; those of other rows are left out."""
    monkeypatch.setattr(indexed, "DENSE_TIMES", dense)
    positions = np.array([70, 5, 900, 6, 8], np.int64)
    owners = np.array([8, 4, 5, 5, 7, 901, 900, 70], np.int64)
    found = several_of(positions, owners, np.arange(8), ["a", "b"])
    assert list(zip(found.row.tolist(), found.codes.tolist(), strict=True)) == [(4, 0), (1, 2), (1, 3), (2, 6), (0, 7)]


@pytest.mark.parametrize("wanted", [[0, 1, 2, 3], [0, 3]])
def test_values_come_with_the_positions_that_they_are_of(wanted: list[int], tmp_path: Path) -> None:
    """Also where there are others between those that were asked for, or where some were erased meanwhile."""
    store = SqliteStore(tmp_path, Storage(disk_free_bytes_min=1), months_max=10)
    sent = [make_event(n, "2025-11", metadata=json.dumps({KEY: n})) for n in range(4)]
    first = append(store, *sent).first_position
    assert first is not None
    (info,) = store.months()
    truth = Truth(Layout(tmp_path), lambda _month: info, open_max=1)
    try:
        values = truth.values(info.month, None, [KEY], np.array([first + row for row in wanted], np.int64))
    finally:
        truth.close()
        store.close()
    assert values.position.tolist() == [first + row for row in range(4)]
    assert values.raw == [["0", "1", "2", "3"]]
