"""Filters and questions narrowed to events of some types: what is left to ask."""

from __future__ import annotations

from collections.abc import Iterable

from server.question import (
    AllOf,
    AnyOf,
    Field,
    FieldKind,
    MetricKind,
    Not,
    OneOf,
    Predicate,
    Present,
    Question,
    StartsWith,
)

_TYPE = Field(FieldKind.TYPE)


def restricted(where: Predicate, event_type: str) -> Predicate | bool:
    """What is left of a filter for events of one type: True or False where nothing else of them matters."""
    match where:
        case AllOf(parts):
            left = [restricted(part, event_type) for part in parts]
            open_parts = tuple(one for one in left if not isinstance(one, bool))
            return False if False in left else AllOf(open_parts) if open_parts else True
        case AnyOf(parts):
            left = [restricted(part, event_type) for part in parts]
            open_parts = tuple(one for one in left if not isinstance(one, bool))
            return True if True in left else AnyOf(open_parts) if open_parts else False
        case Not(part):
            one = restricted(part, event_type)
            return not one if isinstance(one, bool) else Not(one)
        case OneOf(entry, values):
            return event_type in values if entry == _TYPE else where
        case StartsWith(entry, prefixes):
            return event_type.startswith(prefixes) if entry == _TYPE else where
        case Present(entry):
            return True if entry == _TYPE else where


def fields_of(where: Predicate) -> set[Field]:
    """All fields that a predicate looks at."""
    if isinstance(where, AllOf | AnyOf):
        return set().union(*(fields_of(part) for part in where.parts))
    return fields_of(where.part) if isinstance(where, Not) else {where.field}


def without_users(question: Question) -> Question:
    """The same without the metric `users`; for engines that put an answer together from several places."""
    metrics = tuple(metric for metric in question.metrics if metric.kind is not MetricKind.USERS)
    return Question(metrics, question.by, question.where, question.start_ms, question.end_ms, question.time_zone)


def of_types(question: Question, types: Iterable[str], *, among: bool) -> Question:
    """The same about events of these types alone, or of all others."""
    named = tuple(sorted(types))
    if not named and not among:
        return question
    test = OneOf(_TYPE, named)
    where = AllOf((question.where, test if among else Not(test)))
    return Question(question.metrics, question.by, where, question.start_ms, question.end_ms, question.time_zone)
