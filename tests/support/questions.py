"""Random aggregate questions of every shape, in the words of the events they are asked about."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.question import (
    EVERYTHING,
    AllOf,
    AnyOf,
    Bucket,
    BucketUnit,
    Field,
    GroupBy,
    Metric,
    MetricKind,
    Not,
    OneOf,
    Predicate,
    Present,
    Question,
    Ranking,
    StartsWith,
)

DEPTH_MAX = 3
_ROUNDED = (MetricKind.P95, MetricKind.P99)
"""Two ways to interpolate differ in the last digit, so rows cannot be ordered by them and be compared."""


@dataclass(frozen=True)
class Vocabulary:
    """What can be asked about."""

    values: Mapping[Field, Sequence[str]]
    """Each field with values that events have."""
    exact: Sequence[str]
    """Metadata keys whose numbers add up without rounding, in whatever order."""
    rounded: Sequence[str]
    """Metadata keys with other numbers, or none."""
    instants: Sequence[int]
    """Where time ranges begin and end."""
    zones: Sequence[str]


def random_question(chance: random.Random, words: Vocabulary) -> Question:
    """One question. The same state of `chance` gives the same one."""
    metrics = tuple(_metric(chance, words) for _ in range(chance.choice((1, 1, 2, 3, 6))))
    by = _dimensions(chance, words)
    start_ms, end_ms = _range(chance, words)
    return Question(
        metrics=metrics,
        by=by,
        where=EVERYTHING if chance.random() < 0.3 else _predicate(chance, words, DEPTH_MAX),
        start_ms=start_ms,
        end_ms=end_ms,
        time_zone=chance.choice(words.zones),
        order=_order(chance, words, by, metrics),
        limit=chance.choice((0, 0, 0, 1, 2, 5, 20, 1_000)),
    )


def _metric(chance: random.Random, words: Vocabulary) -> Metric:
    kind = chance.choice([*MetricKind, MetricKind.EVENTS, MetricKind.USERS])
    return Metric(kind, chance.choice([*words.exact, *words.rounded]) if kind.of_numbers else "")


def _dimensions(chance: random.Random, words: Vocabulary) -> tuple[GroupBy, ...]:
    by: list[GroupBy] = [*chance.sample(list(words.values), chance.choice((0, 0, 1, 1, 1, 2, 3)))]
    if chance.random() < 0.6:
        by.insert(chance.randint(0, len(by)), Bucket(chance.choice(list(BucketUnit))))
    return tuple(by)


def _range(chance: random.Random, words: Vocabulary) -> tuple[int | None, int | None]:
    start, end = sorted(chance.choices(words.instants, k=2))
    if chance.random() < 0.03:
        start, end = end, start
    return (
        None if chance.random() < 0.5 else start + chance.choice((0, 0, 1, -1, 450_000)),
        None if chance.random() < 0.5 else end + chance.choice((0, 0, 1, -1, 450_000)),
    )


def _predicate(chance: random.Random, words: Vocabulary, depth: int) -> Predicate:
    kind = chance.choice((OneOf, OneOf, OneOf, StartsWith, Present, AllOf, AnyOf, Not))
    if kind is Not and depth:
        return Not(_predicate(chance, words, depth - 1))
    if kind in (AllOf, AnyOf) and depth:
        parts = tuple(_predicate(chance, words, depth - 1) for _ in range(chance.choice((0, 1, 2, 2, 2, 3))))
        return AllOf(parts) if kind is AllOf else AnyOf(parts)
    field = chance.choice(list(words.values))
    values = [_value(chance, words.values[field]) for _ in range(chance.choice((1, 1, 2, 4)))]
    if kind is StartsWith:
        return StartsWith(field, tuple(value[: chance.randint(0, 3)] for value in values))
    return Present(field) if kind is Present else OneOf(field, tuple(values))


def _value(chance: random.Random, known: Sequence[str]) -> str:
    """Mostly one that events have; else one that looks like it, or nothing."""
    value = chance.choice(known)
    return chance.choice((value, value, value, value, value, value, value + " ", value.swapcase(), value[:1], ""))


def _order(
    chance: random.Random, words: Vocabulary, by: Sequence[GroupBy], metrics: Sequence[Metric]
) -> tuple[Ranking, ...]:
    columns = [*range(len(by)), *(len(by) + place for place, metric in enumerate(metrics) if _is_exact(metric, words))]
    chosen = chance.sample(columns, min(len(columns), chance.choice((0, 0, 1, 1, 2, 3))))
    return tuple(Ranking(column, descending=chance.random() < 0.5) for column in chosen)


def _is_exact(metric: Metric, words: Vocabulary) -> bool:
    """Whether every right way to compute it comes to the same double, so that rows can be ordered by it."""
    return not metric.kind.of_numbers or (metric.key in words.exact and metric.kind not in _ROUNDED)
