"""The small language of --where: one comparison each, such as type=pr_opened,pr_merged or user!^=bot-."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

import trackd
import typer
from trackd import where

FORMS = (
    "'type=a,b' one of, 'type!=a' none of, 'user^=team-' starts with, 'user!^=bot-', 'tag?' has one, 'tag!?' has none"
)
"""What can be written."""

_QUOTED = r'"(?:[^"]|"")*"'
_COMPARISON = re.compile(
    rf"(?P<field>metadata:{_QUOTED}|[^=!^?]+)(?P<not>!?)(?P<operator>\^?=|\?)(?P<values>.*)", re.DOTALL
)


def parse_comparison(text: str) -> trackd.Predicate:
    """The filter that a text means; typer.BadParameter if it means none.

    Values are separated by commas; one that has a comma, a quote or a space in front stands in "quotes", where a quote
    is doubled, as in CSV. So does a metadata key with one of =!^? in it: metadata:"a=b"=c.
    """
    found = _COMPARISON.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no comparison; write {FORMS}")
    field = found["field"].strip()
    if field.startswith('metadata:"'):
        field = "metadata:" + field.removeprefix("metadata:")[1:-1].replace('""', '"')
    if found["operator"] == "?":
        if found["values"]:
            raise typer.BadParameter(f"{text!r}: nothing can follow the question mark")
        made = where.present(field)
    elif found["operator"] == "=":
        made = where.is_(field, *_values(found["values"]))
    else:
        made = where.starts_with(field, *_values(found["values"]))
    return where.not_(made) if found["not"] else made


def _values(text: str) -> Sequence[str]:
    try:
        lines = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise typer.BadParameter(f"the values {text!r} are not written as in CSV: {error}") from None
    # An empty text is one value: nobody, no session.
    return lines[0] if lines and lines[0] else [""]


def one_of(field: str, values: Sequence[str] | None) -> list[trackd.Predicate]:
    """That the field has one of the values of an option; nothing if the option was not given."""
    return [where.is_(field, *values)] if values else []


def together(parts: Sequence[trackd.Predicate]) -> trackd.Predicate | None:
    """That all parts hold, if there are any."""
    if len(parts) < 2:
        return parts[0] if parts else None
    return where.all_(*parts)
