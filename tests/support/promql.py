"""Which series expressions of PromQL are about. No parser: enough for those of this repository."""

from __future__ import annotations

import re
from collections.abc import Iterator

_STRINGS = re.compile(r'"[^"]*"')
_NAME = re.compile(r"(?<![\w:.])(?:trackd[\w:]*|grpc_server_\w+|process_\w+|up|ALERTS)(?![\w:])")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")


def names(expression: str) -> set[str]:
    """The series that an expression reads."""
    return set(_NAME.findall(_STRINGS.sub('""', expression)))


def selected(expression: str) -> Iterator[tuple[str, str]]:
    """(series, label) for each label that a selector asks for."""
    for name, inside in _SELECTOR.findall(_STRINGS.sub('""', expression)):
        for label in _LABEL.findall(inside):
            yield name, label


def grouped(expression: str) -> set[str]:
    """The labels in `by (...)`."""
    return {label.strip() for inside in re.findall(r"\bby \(([^)]*)\)", expression) for label in inside.split(",")}
