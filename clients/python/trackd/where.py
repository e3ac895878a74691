"""Filters of aggregate questions, put together from parts.

    where.all_(where.is_("type", "pr_opened", "pr_merged"), where.not_(where.starts_with("user", "bot-")))

A field is "type", "source", "user", "session", "tag" or "metadata:KEY" with a top-level key of the metadata. An event
has several tags; one that matches is enough. A part says nothing about events without a value: `is_` and `starts_with`
are false there, so their `not_` is true.
"""

from __future__ import annotations

from trackd.v1.query_pb2 import Comparison, Predicate, PredicateList


def is_(field: str, *values: str) -> Predicate:
    """The field has one of these values. Users and sessions that are not there have the value ""."""
    return _compare(field, "OPERATOR_IS", values)


def starts_with(field: str, *prefixes: str) -> Predicate:
    """The field starts with one of these texts, letter by letter."""
    return _compare(field, "OPERATOR_STARTS_WITH", prefixes)


def present(field: str) -> Predicate:
    """The field has a value; that of users and sessions is not ""."""
    return _compare(field, "OPERATOR_PRESENT", ())


def all_(*parts: Predicate) -> Predicate:
    """Every part holds; at least one is needed."""
    return Predicate(all=PredicateList(parts=parts))


def any_(*parts: Predicate) -> Predicate:
    """At least one part holds; at least one is needed."""
    return Predicate(any=PredicateList(parts=parts))


def not_(part: Predicate) -> Predicate:
    """The part does not hold."""
    negated = Predicate()
    # The field is called like a word of the language.
    getattr(negated, "not").CopyFrom(part)
    return negated


def _compare(field: str, operator: str, values: tuple[str, ...]) -> Predicate:
    return Predicate(compare=Comparison(field=field, operator=operator, values=values))
