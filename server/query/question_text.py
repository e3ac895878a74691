"""The words of a question on the wire. `str` of a metric, a dimension or a field gives its word back."""

from __future__ import annotations

import re
from collections.abc import Sequence

from server.errors import Invalid
from server.question import Bucket, BucketUnit, Field, FieldKind, GroupBy, Metric, MetricKind, Ranking

METRICS_MAX = 16
DIMENSIONS_MAX = 8
KEY_CHARACTERS_MAX = 1_024
SHOWN_CHARACTERS_MAX = 60
"""Of a word in an error: its text travels in the trailers of the call, and those are small."""

_OF_NUMBERS = {kind.value: kind for kind in MetricKind if kind.of_numbers}
_PLAIN = {kind.value: Metric(kind) for kind in MetricKind if not kind.of_numbers}
_NUMERIC = re.compile(rf"({'|'.join(_OF_NUMBERS)})\((.+)\)", re.DOTALL)
_FIELDS = {kind.value: Field(kind) for kind in FieldKind if kind is not FieldKind.METADATA}
_METADATA = "metadata:"
_BUCKETS = {f"time:{unit.value}": Bucket(unit) for unit in BucketUnit}

METRIC_WORDS = ", ".join([*_PLAIN, *(f"{name}(KEY)" for name in _OF_NUMBERS)])
FIELD_WORDS = ", ".join([*_FIELDS, f"{_METADATA}KEY"])
DIMENSION_WORDS = ", ".join(["type, source, user, tag, metadata:KEY", *_BUCKETS])


def shown(word: str) -> str:
    """A word as errors quote it."""
    return repr(word if len(word) <= SHOWN_CHARACTERS_MAX else word[:SHOWN_CHARACTERS_MAX] + "...")


def metrics(words: Sequence[str]) -> tuple[Metric, ...]:
    """What "events", "p95(KEY)" and so on mean; Invalid(METRIC_INVALID)."""
    if not 1 <= len(words) <= METRICS_MAX:
        raise Invalid(
            "METRIC_INVALID",
            f"{len(words)} metrics; 1 to {METRICS_MAX} can be asked for at once",
            hint=f"metrics are {METRIC_WORDS}",
            field="metrics",
        )
    found: dict[Metric, None] = {}
    for place, word in enumerate(words):
        path = f"metrics[{place}]"
        metric = _metric(word, path)
        if metric in found:
            raise Invalid("METRIC_INVALID", f"{shown(word)} is asked for twice", field=path)
        found[metric] = None
    return tuple(found)


def _metric(word: str, path: str) -> Metric:
    if plain := _PLAIN.get(word):
        return plain
    numeric = _NUMERIC.fullmatch(word)
    if numeric is None:
        raise Invalid(
            "METRIC_INVALID", f"{shown(word)} is not a metric", hint=f"metrics are {METRIC_WORDS}", field=path
        )
    return Metric(_OF_NUMBERS[numeric[1]], _key(numeric[2], "METRIC_INVALID", path))


def dimensions(words: Sequence[str]) -> tuple[GroupBy, ...]:
    """What "type", "time:day" and so on mean; Invalid(DIMENSION_INVALID)."""
    if len(words) > DIMENSIONS_MAX:
        raise Invalid(
            "DIMENSION_INVALID", f"{len(words)} dimensions; at most {DIMENSIONS_MAX} are taken", field="dimensions"
        )
    found: list[GroupBy] = []
    for place, word in enumerate(words):
        path = f"dimensions[{place}]"
        dimension = _BUCKETS.get(word) or _field(word)
        if dimension is None or dimension == Field(FieldKind.SESSION):
            raise Invalid(
                "DIMENSION_INVALID",
                f"{shown(word)} is not a dimension",
                hint=f"dimensions are {DIMENSION_WORDS}",
                field=path,
            )
        if isinstance(dimension, Field):
            _key(dimension.key, "DIMENSION_INVALID", path)
        if dimension in found:
            raise Invalid("DIMENSION_INVALID", f"{shown(word)} is asked for twice", field=path)
        if isinstance(dimension, Bucket) and any(isinstance(other, Bucket) for other in found):
            raise Invalid("DIMENSION_INVALID", "only one dimension can be time", field=path)
        found.append(dimension)
    return tuple(found)


def filter_field(word: str, path: str) -> Field:
    """What a comparison looks at; Invalid(FILTER_INVALID)."""
    field = _field(word)
    if field is None:
        raise Invalid("FILTER_INVALID", f"{shown(word)} is not a field", hint=f"fields are {FIELD_WORDS}", field=path)
    _key(field.key, "FILTER_INVALID", path)
    return field


def order(
    sent: Sequence[tuple[str, bool]], by: Sequence[GroupBy], metrics: Sequence[Metric]
) -> tuple[tuple[str, bool], ...]:
    """The order asked for, as (column, descending), or the one that is taken without; Invalid(ORDER_INVALID)."""
    if not sent and any(isinstance(dimension, Bucket) for dimension in by):
        return tuple((str(dimension), False) for dimension in by)
    if not sent:
        return ((str(metrics[0]), True),) if by else ()
    columns = {str(column) for column in (*by, *metrics)}
    if len(sent) > len(columns):
        raise Invalid("ORDER_INVALID", f"{len(sent)} parts order {len(columns)} columns", field="order_by")
    for place, (word, _) in enumerate(sent):
        path = f"order_by[{place}].column"
        if word not in columns:
            raise Invalid(
                "ORDER_INVALID",
                f"{shown(word)} is no column of the answer",
                hint="order by metrics and dimensions of the question, written as there",
                field=path,
            )
        if any(word == before for before, _ in sent[:place]):
            raise Invalid("ORDER_INVALID", f"{shown(word)} orders already", field=path)
    return tuple(sent)


def rankings(
    order: Sequence[tuple[str, bool]], by: Sequence[GroupBy], metrics: Sequence[Metric]
) -> tuple[Ranking, ...]:
    """The same order by the numbers of columns; () for the order by keys, which rows have in any case."""
    places = {str(column): place for place, column in enumerate((*by, *metrics))}
    found = tuple(Ranking(places[word], descending) for word, descending in order)
    plain = tuple(Ranking(place) for place in range(len(by)))
    return () if found == plain[: len(found)] else found


def _field(word: str) -> Field | None:
    if word.startswith(_METADATA) and word != _METADATA:
        return Field(FieldKind.METADATA, word.removeprefix(_METADATA))
    return _FIELDS.get(word)


def _key(key: str, reason: str, path: str) -> str:
    """A metadata key, or "" of other fields. None can hold U+0000."""
    if len(key) > KEY_CHARACTERS_MAX or "\0" in key:
        raise Invalid(
            reason,
            f"{shown(key)} is no metadata key: at most {KEY_CHARACTERS_MAX:,} characters without U+0000",
            field=path,
        )
    return key
