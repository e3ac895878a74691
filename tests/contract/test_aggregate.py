"""What aggregate questions promise about metrics, groups and order. Filters and time have tests of their own."""

from __future__ import annotations

import pytest

from server.question import Metric, MetricKind, Question, Ranking
from server.storage.contract import Reader, Store
from tests.support.answers import (
    EVENTS,
    SESSION,
    SOURCE,
    TAG,
    TYPE,
    USER,
    USERS,
    Row,
    alike,
    ask,
    counted,
    metadata,
    rows,
)
from tests.support.events import append, append_group, make_batch, make_event, ms
from tests.support.population import populate

METRICS = tuple(Metric(kind, "n" if kind.of_numbers else "") for kind in MetricKind)
NOTHING: Row = (0, 0, None, None, None, None, None, None, None)


def _numbers(store: Store, *values: str, key: str = "n") -> None:
    """An event for each number: a JSON text, or "" for an event without metadata."""
    append(
        store,
        *(
            make_event(number, user_id=f"u{number}", metadata=value and f'{{"{key}": {value}}}')
            for number, value in enumerate(values)
        ),
    )


# Metrics


def test_an_empty_store_has_one_row_or_none(store: Store, reader: Reader) -> None:
    """Without dimensions a row with zeros and no numbers, with dimensions no row; also of a filter nothing matches."""
    for _ in range(2):
        for rest in ({"end_ms": ms("2001-01")}, {"start_ms": ms("2030-01")}):
            assert ask(reader, Question(METRICS, **rest)) == [NOTHING]  # type: ignore[arg-type]
            for by in (TYPE, SOURCE, USER, SESSION, TAG, metadata("a")):
                assert ask(reader, Question(METRICS, (by,), **rest)) == []  # type: ignore[arg-type]
        assert reader.aggregate([]).tables == ()
        populate(store)


def test_each_metric(store: Store, reader: Reader) -> None:
    """All metrics of five numbers, of which one is there twice."""
    _numbers(store, "4", "-1.5", "10", "4", "0.25")
    expected: list[Row] = [(5, 5, 16.75, -1.5, 10.0, 3.35, 4.0, 8.8, 9.76)]
    assert alike(ask(reader, Question(METRICS)), expected)


def test_numbers_are_doubles_and_counts_are_not(store: Store, reader: Reader) -> None:
    """Sums and extremes of integers are floats; events and users are ints."""
    _numbers(store, "1", "2")
    (row,) = ask(reader, Question(METRICS))
    assert [type(value) for value in row] == [int, int] + [float] * 7


@pytest.mark.parametrize(
    ("numbers", "p50", "p95", "p99"),
    [
        ([7], 7, 7, 7),
        ([1, 2], 1.5, 1.95, 1.99),
        ([3, 1, 2], 2, 2.9, 2.98),
        ([40, 10, 30, 20], 25, 38.5, 39.7),
        (range(101), 50, 95, 99),
        ([5] * 9 + [105], 5, 60, 96),
    ],
)
def test_percentiles_interpolate(
    store: Store, reader: Reader, numbers: list[int], p50: float, p95: float, p99: float
) -> None:
    """The place of a percentile among n numbers is its share of n - 1 steps; between two numbers it is a mixture."""
    _numbers(store, *map(str, numbers))
    question = Question(tuple(Metric(kind, "n") for kind in (MetricKind.P50, MetricKind.P95, MetricKind.P99)))
    assert alike(ask(reader, question), [(float(p50), float(p95), float(p99))])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0.0),
        ("-0", 0.0),
        ("-0.0", 0.0),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        ("1E+03", 1000.0),
        ("2.5e-3", 0.0025),
        ("12345678901234567890123", 12345678901234567890123.0),
        ("9007199254740993", 9007199254740992.0),
        ("0.1", 0.1),
        ("1e-400", 0.0),
        ("1.7976931348623157e308", 1.7976931348623157e308),
        ("5e-324", 5e-324),
    ],
)
def test_a_number_is_the_nearest_double(store: Store, reader: Reader, text: str, number: float) -> None:
    """However it is written, and however long."""
    _numbers(store, text)
    kinds = (MetricKind.SUM, MetricKind.MIN, MetricKind.MAX, MetricKind.AVG, MetricKind.P50, MetricKind.P99)
    assert ask(reader, Question(tuple(Metric(kind, "n") for kind in kinds))) == [(number,) * 6]


@pytest.mark.parametrize("text", ['"7"', "true", "null", "[7]", '{"n": 7}', "1e999", "-1e999", "9" * 400, ""])
def test_what_is_no_number_does_not_count(store: Store, reader: Reader, text: str) -> None:
    """Texts that look like numbers, booleans, null, what is nested, numbers beyond the doubles, no metadata at all."""
    question = Question((EVENTS, *METRICS[2:]))
    _numbers(store, text)
    assert ask(reader, question) == [(1, *NOTHING[2:])]
    append(store, make_event(100, metadata='{"n": 7, "more": 1e999, "n2": 8}'))
    assert ask(reader, question) == [(2, 7.0, 7.0, 7.0, 7.0, 7.0, 7.0, 7.0)]


def test_metrics_of_several_keys(store: Store, reader: Reader) -> None:
    """Each metric looks at its own key, and the same metric can be asked for twice."""
    append(
        store,
        make_event(1, metadata='{"a": 1, "b.c": 2}'),
        make_event(2, metadata='{"b.c": 5, "": 9, "\\"": 3}'),
        make_event(3, metadata='{"\\u0061": 10, "A": 100}'),
    )
    question = Question(tuple(Metric(MetricKind.SUM, key) for key in ("a", "b.c", "", '"', "a", "b", "c")))
    assert ask(reader, question) == [(11.0, 7.0, 9.0, 3.0, 11.0, None, None)]


def test_users_are_distinct_and_nobody_is_none(store: Store, reader: Reader) -> None:
    """Over months, batches and groups a user is one; events without a user count none."""
    users = ["ann", "bob", "", "ann", "Ann", "", "ann", "zoe"]
    for number, user in enumerate(users):
        append(store, make_event(number, f"2025-{number + 1:02d}", user_id=user, type="even" if number % 2 else "odd"))
    assert ask(reader, Question((USERS, EVENTS))) == [(4, 8)]
    assert ask(reader, Question((USERS,), (TYPE,))) == [("even", 3), ("odd", 2)]
    assert ask(reader, Question((USERS,), (USER,))) == [("", 0), ("Ann", 1), ("ann", 1), ("bob", 1), ("zoe", 1)]
    assert ask(reader, Question((USERS,), start_ms=ms("2025-03"), end_ms=ms("2025-05"))) == [(1,)]


# Groups


def test_each_dimension(store: Store, reader: Reader) -> None:
    """Nobody and no session are groups of their own; no tags and no value are None, which comes last."""
    append_group(
        store,
        make_batch(
            make_event(1, "2025-10", type="b", session_id="s", tags=("x", "y"), metadata='{"k": "v"}'),
            make_event(2, user_id="", metadata='{"k": ""}'),
            source="web",
        ),
        make_batch(make_event(3, type="a", tags=("y",)), make_event(4, user_id="李雷"), source="ci"),
    )
    assert counted(reader, TYPE) == [("a", 1), ("b", 1), ("pr_opened", 2)]
    assert counted(reader, SOURCE) == [("ci", 2), ("web", 2)]
    assert counted(reader, USER) == [("", 1), ("ann", 2), ("李雷", 1)]
    assert counted(reader, SESSION) == [("", 3), ("s", 1)]
    assert counted(reader, TAG) == [("x", 1), ("y", 2), (None, 2)]
    assert counted(reader, metadata("k")) == [("", 1), ("v", 1), (None, 2)]
    assert counted(reader, metadata("other")) == [(None, 4)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"k": "text"}', "text"),
        ('{"k": "a\\u00e9\\n\\"\\\\\\ud83d\\ude00"}', 'aé\n"\\😀'),
        ('{"k": ""}', ""),
        ('{"k": 1.50}', "1.50"),
        ('{"k": -0}', "-0"),
        ('{"k": 1E+05}', "1E+05"),
        ('{"k" : 12345678901234567890123 }', "12345678901234567890123"),
        ('{"k": 1e999}', "1e999"),
        ('{"k": true}', "true"),
        ('{"k": false, "l": 1e999}', "false"),
        ('{"k": null}', None),
        ('{"k": {"k": "inner"}}', None),
        ('{"k": ["k"]}', None),
        ('{"K": "other case"}', None),
        ('{"x": {"k": "inner"}}', None),
        ('{"\\u006b": "escaped key"}', "escaped key"),
        ('{"k": "first", "k": "second"}', "first"),
        ('{"k": null, "k": "second"}', None),
        ('{"x": {"k": 1}, "k": 2, "k": 3}', "2"),
        ("{}", None),
        ("", None),
    ],
)
def test_the_value_of_a_metadata_key(store: Store, reader: Reader, text: str, value: str | None) -> None:
    """Texts are what they mean, numbers and booleans what was written; the first of a key counts."""
    append(store, make_event(1, metadata=text))
    assert counted(reader, metadata("k")) == [(value, 1)]


@pytest.mark.parametrize("key", ["a.b", 'a"b', "a'b", "$.a", "a\\b", "", " ", "ключ", "😀", "a[0]", "a/b", "%"])
def test_any_text_is_a_metadata_key(store: Store, reader: Reader, key: str) -> None:
    """A key is taken letter by letter: nothing in it is a path, a quote or a pattern."""
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    append(store, make_event(1, metadata=f'{{"a": {{"b": 1}}, "{escaped}": "here"}}'), make_event(2))
    assert counted(reader, metadata(key)) == [("here", 1), (None, 1)]
    assert counted(reader, metadata(key + "x")) == [(None, 2)]


def test_what_reads_alike_is_one_value(store: Store, reader: Reader) -> None:
    """The number 1 and the text "1" share a group, as do true and "true"; 1.0 is another."""
    for number, text in enumerate(["1", '"1"', "true", '"true"', "1.0"]):
        append(store, make_event(number, metadata=f'{{"k": {text}}}'))
    assert counted(reader, metadata("k")) == [("1", 2), ("1.0", 1), ("true", 2)]


def test_an_event_is_in_the_group_of_each_tag(store: Store, reader: Reader) -> None:
    """Once each with everything it has, and only once where tags are no dimension."""
    append(
        store,
        make_event(1, user_id="ann", tags=("b", "a", "c"), metadata='{"n": 5}'),
        make_event(2, user_id="bob", tags=("a",), metadata='{"n": 1}'),
        make_event(3, user_id="bob", metadata='{"n": 2}'),
    )
    total = Metric(MetricKind.SUM, "n")
    question = Question((EVENTS, USERS, total), (TAG,))
    assert ask(reader, question) == [("a", 2, 2, 6.0), ("b", 1, 1, 5.0), ("c", 1, 1, 5.0), (None, 1, 1, 2.0)]
    assert ask(reader, Question((EVENTS, USERS, total))) == [(3, 2, 8.0)]
    assert counted(reader, USER, TAG) == [
        ("ann", "a", 1),
        ("ann", "b", 1),
        ("ann", "c", 1),
        ("bob", "a", 1),
        ("bob", None, 1),
    ]


def test_groups_go_over_months_and_dimensions(store: Store, reader: Reader) -> None:
    """Every combination that has events is one group, whatever months and batches they came in."""
    for number in range(24):
        append(
            store, make_event(number, f"2025-{number % 12 + 1:02d}", type="ab"[number % 2], user_id="xyz"[number % 3])
        )
    assert counted(reader, TYPE, USER) == [(one, other, 4) for one in "ab" for other in "xyz"]
    assert counted(reader, USER, TYPE, SOURCE) == [(one, other, "reviews", 4) for one in "xyz" for other in "ab"]


# Order


def up(column: int) -> Ranking:
    """Smallest first."""
    return Ranking(column)


def down(column: int) -> Ranking:
    """Largest first."""
    return Ranking(column, descending=True)


def _ranked(reader: Reader, *order: Ranking, limit: int = 0) -> list[Row]:
    """User, k, events and the largest n, ordered so."""
    metrics = (EVENTS, Metric(MetricKind.MAX, "n"))
    return ask(reader, Question(metrics, (USER, metadata("k")), order=order, limit=limit))


def test_rows_are_ordered(store: Store, reader: Reader) -> None:
    """By columns of either kind in either direction, what is equal by the keys; None comes last in both directions."""
    ann, bob_v, bob, zoe = ("ann", "v", 2, 1.0), ("bob", "v", 1, 10.0), ("bob", None, 1, 3.0), ("zoe", "w", 2, None)
    append(
        store,
        make_event(1, user_id="zoe", metadata='{"k": "w"}'),
        make_event(2, user_id="zoe", metadata='{"k": "w", "n": "text"}'),
        make_event(3, user_id="bob", metadata='{"n": 3}'),
        make_event(4, user_id="bob", metadata='{"k": "v", "n": 10}'),
        make_event(5, user_id="ann", metadata='{"k": "v", "n": 1}'),
        make_event(6, user_id="ann", metadata='{"k": "v"}'),
    )
    assert _ranked(reader) == [ann, bob_v, bob, zoe]
    assert _ranked(reader, up(0)) == [ann, bob_v, bob, zoe]
    assert _ranked(reader, down(0)) == [zoe, bob_v, bob, ann]
    assert _ranked(reader, up(1)) == [ann, bob_v, zoe, bob]
    assert _ranked(reader, down(1)) == [zoe, ann, bob_v, bob]
    assert _ranked(reader, up(2)) == [bob_v, bob, ann, zoe]
    assert _ranked(reader, down(2)) == [ann, zoe, bob_v, bob]
    assert _ranked(reader, up(3)) == [ann, bob, bob_v, zoe]
    assert _ranked(reader, down(3)) == [bob_v, bob, ann, zoe]
    assert _ranked(reader, down(2), down(0)) == [zoe, ann, bob_v, bob]
    assert _ranked(reader, up(2), down(3), up(1)) == [bob_v, bob, ann, zoe]
    assert _ranked(reader, down(3), limit=2) == [bob_v, bob]


def test_texts_are_ordered_by_code_point(store: Store, reader: Reader) -> None:
    """As numbers, not as a language or as UTF-16 would have it; nobody comes first."""
    users = ["b", "a", "", "B", "é", "z", "\uffee", "👩", "aa", "10", "9"]
    append(store, *(make_event(number, f"2025-{number + 1:02d}", user_id=user) for number, user in enumerate(users)))
    found = ["", "10", "9", "B", "a", "aa", "b", "z", "é", "\uffee", "👩"]
    assert counted(reader, USER) == [(user, 1) for user in found]
    assert counted(reader, USER, order=(down(0),)) == [(user, 1) for user in reversed(found)]


@pytest.mark.parametrize(
    ("limit", "shown", "more"), [(0, 5, False), (1, 1, True), (4, 4, True), (5, 5, False), (9, 5, False)]
)
def test_a_limit_says_if_it_left_out_rows(store: Store, reader: Reader, limit: int, shown: int, more: bool) -> None:
    """The first rows of the same order, among ties too."""
    append(store, *(make_event(number, user_id="edbca"[number]) for number in range(5)))
    (table,) = reader.aggregate([Question((EVENTS,), (USER,), order=(down(1),), limit=limit)]).tables
    assert (rows(table), table.more) == ([(user, 1) for user in "abcde"[:shown]], more)
    (total,) = reader.aggregate([Question((EVENTS,), limit=1)]).tables
    assert (rows(total), total.more) == ([(5,)], False)
