"""A filter on its way from the wire: counts what it is made of while it is read, so that none gets out of hand."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from server.errors import Invalid
from server.query import question_text
from server.question import OneOf, Predicate, Present, StartsWith

DEPTH_MAX = 16
PARTS_MAX = 200
COMPARISON_VALUES_MAX = 1_000
VALUES_MAX = 10_000
VALUE_BYTES_MAX = 1024 * 1024
"""All but the first over the whole filter, and each level of `all`, `any` and `not` is a part."""


class Operator(StrEnum):
    """How a field is compared, in the words of the wire."""

    IS = "is"
    STARTS_WITH = "starts_with"
    PRESENT = "present"


class FilterDraft:
    """One filter while it is read, by whoever knows the form it comes in. Every `path` is where in the request."""

    def __init__(self) -> None:
        self._parts = 0
        self._values = 0
        self._value_bytes = 0

    def part(self, path: str, depth: int) -> None:
        """Call it for each part before its own parts are looked at; Invalid(FILTER_TOO_LARGE)."""
        self._parts += 1
        if depth > DEPTH_MAX:
            raise Invalid("FILTER_TOO_LARGE", f"the filter is nested deeper than {DEPTH_MAX} levels", field=path)
        if self._parts > PARTS_MAX:
            raise Invalid("FILTER_TOO_LARGE", f"the filter has more than {PARTS_MAX} parts", field=path)

    def parts(self, count: int, path: str) -> None:
        """Call it with the number of parts of `all` and `any`; Invalid(FILTER_INVALID) if there are none."""
        if not count:
            raise Invalid("FILTER_INVALID", "without parts this says nothing", hint="leave it out", field=path)

    def comparison(self, word: str, operator: Operator, values: Sequence[str], path: str) -> Predicate:
        """What one comparison means; Invalid(FILTER_INVALID, FILTER_TOO_LARGE)."""
        field = question_text.filter_field(word, f"{path}.field")
        if operator is Operator.PRESENT:
            if values:
                raise Invalid("FILTER_INVALID", '"present" takes no values', field=f"{path}.values")
            return Present(field)
        self._count(values, f"{path}.values")
        return OneOf(field, tuple(values)) if operator is Operator.IS else StartsWith(field, tuple(values))

    def _count(self, values: Sequence[str], path: str) -> None:
        if not values:
            raise Invalid("FILTER_INVALID", "there is nothing to compare with", hint="give at least one", field=path)
        self._values += len(values)
        if len(values) > COMPARISON_VALUES_MAX or self._values > VALUES_MAX:
            raise Invalid(
                "FILTER_TOO_LARGE",
                f"at most {COMPARISON_VALUES_MAX:,} values in a comparison and {VALUES_MAX:,} over all are taken",
                field=path,
            )
        self._value_bytes += sum(len(value.encode()) for value in values)
        if self._value_bytes > VALUE_BYTES_MAX:
            raise Invalid(
                "FILTER_TOO_LARGE", f"the values of the filter have more than {VALUE_BYTES_MAX:,} bytes", field=path
            )
