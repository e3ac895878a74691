"""From the text of a policy file to the policy, or to everything that is wrong with it, all at once."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from retention import policy_rules
from retention.cron import parse_cron
from retention.faults import Fault, Misworded
from retention.period import Period, parse_span_ms
from retention.policy import Policy
from retention.policy_build import build
from retention.policy_keys import COUNT_MAX, ITEM_PATTERNS, PATTERNS, POLICY, Key, Kind
from retention.policy_lines import Path, lines_of

FILE_BYTES_MAX = 1_048_576
"""A policy is written by hand."""
NAME_ADVICE = 'use lower-case letters, digits, "_" and "-", at most 64'


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, what, and what to do about it."""

    place: str
    """`class "reviews", step 2, after`; "" is the file as a whole."""
    line: int | None
    problem: str
    advice: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.place + ': ' if self.place else ''}{self.problem}; {self.advice}"


class PolicyProblems(ValueError):
    """The file is no policy. `problems` has every reason, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def parse(text: str) -> Policy:
    """The policy that a TOML text says; PolicyProblems, with all of them, if it says none."""
    if len(text.encode()) > FILE_BYTES_MAX:
        raise PolicyProblems([Problem("", None, f"has more than {FILE_BYTES_MAX} bytes", "name the policy file")])
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        at_end = text.count("\n") + 1
        problem = Problem("", int(line[1]) if line else at_end, f"is not TOML: {error}", "mend the syntax first")
        raise PolicyProblems([problem]) from error
    return read(document, lines_of(text))


def read(document: Mapping[str, Any], lines: Mapping[Path, int] | None = None) -> Policy:
    """The policy that a document says, as tomllib gives it. `lines` tell where its keys stand, for the problems."""
    faults: list[Fault] = []
    values = _read_table(document, POLICY, (), faults)
    faults += policy_rules.faults(values, [fault.path for fault in faults])
    if faults:
        located = [_located(fault, document, lines or {}) for fault in faults]
        raise PolicyProblems(sorted(located, key=lambda one: one.line or 0))
    return build(values)


# What is written, key by key


def _read_table(table: Mapping[str, Any], keys: tuple[Key, ...], path: Path, faults: list[Fault]) -> dict[str, Any]:
    """The values of the keys that are well written, and defaults; the rest becomes faults."""
    known = {key.name: key for key in keys}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            faults.append(Fault((*path, name), "no such key", _nearest(name, list(known))))
            continue
        try:
            values[name] = _read_value(known[name], value, (*path, name), faults)
        except Misworded as error:
            faults.append(Fault((*path, name), error.problem, error.advice))
    for key in keys:
        if key.name not in table:
            if key.required and key.only_with in ("", table.get("do")):
                faults.append(Fault(path, f"{key.name} is missing", f"{key.name}: {key.says}"))
            elif key.default is not None:
                values[key.name] = _read_value(key, key.default, (*path, key.name), faults)
    return values


def _read_value(key: Key, value: Any, path: Path, faults: list[Fault]) -> Any:
    """The value as the program uses it. Misworded if it is none; faults of tables are added."""
    if key.kind in (Kind.TABLE, Kind.TABLES, Kind.NAMED_TABLES):
        return _read_tables(key, value, path, faults)
    return _READERS.get(key.kind, _read_text)(key, value)


def _read_tables(key: Key, value: Any, path: Path, faults: list[Fault]) -> Any:
    if key.kind is Kind.TABLE:
        return _read_table(_table(value), key.keys, path, faults)
    if key.kind is Kind.TABLES:
        if not isinstance(value, list) or not value:
            raise Misworded("must be one or more tables", f"write [[{_header(path)}]]")
        return [_read_table(_table(one), key.keys, (*path, index), faults) for index, one in enumerate(value)]
    tables = _table(value).items()
    for name, _ in tables:
        if not re.fullmatch(PATTERNS[Kind.NAME], name):
            faults.append(Fault((*path, name), f"{name!r} is no name", NAME_ADVICE))
    return {name: _read_table(_table(one), key.keys, (*path, name), faults) for name, one in tables}


def _table(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Misworded(f"must be a table, not {value!r}", "write it in [brackets]")
    return value


def _read_count(key: Key, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not key.least <= value <= COUNT_MAX:
        raise Misworded(f"{value!r} is no count", f"write a whole number from {key.least} to {COUNT_MAX}")
    return value


def _read_share(_key: Key, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise Misworded(f"{value!r} is no share", "write a number above 0 and up to 1")
    return float(value)


def _read_text(key: Key, value: Any) -> Any:
    if not isinstance(value, str):
        raise Misworded(f"must be a text, not {value!r}", 'put it in "quotes"')
    if not value and key.required:
        raise Misworded("must not be empty", f"{key.says}")
    match key.kind:
        case Kind.PERIOD:
            return Period.parse(value)
        case Kind.SPAN:
            return parse_span_ms(value)
        case Kind.CRON:
            return parse_cron(value)
        case Kind.CHOICE if value not in key.choices:
            raise Misworded(f"{value!r} is not known here", f"{_nearest(value, list(key.choices))}")
        case Kind.NAME if not re.fullmatch(PATTERNS[Kind.NAME], value):
            raise Misworded(f"{value!r} is no name", NAME_ADVICE)
        case _:
            return value


def _read_list(key: Key, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) and one for one in value):
        raise Misworded("must be a list of texts", 'write ["one", "two"]')
    if key.required and not value:
        raise Misworded("must not be empty", f"{key.says}")
    for one in value:
        if key.kind is Kind.CHOICES and one not in key.choices:
            raise Misworded(f"{one!r} is not known here", f"{_nearest(one, list(key.choices))}")
        if key.kind is Kind.GLOBS and not re.fullmatch(ITEM_PATTERNS[key.kind], one):
            raise Misworded(f"{one!r} is no type", 'letters, digits and "_.:/-", with * for any run of them')
        if key.kind is Kind.SUBJECT_FIELDS and not re.fullmatch(ITEM_PATTERNS[key.kind], one):
            raise Misworded(f"{one!r} is no field of an event", 'write "metadata.KEY", "change.new_values.KEY", ...')
    if len(set(value)) < len(value):
        raise Misworded("says something twice", "say it once")
    return tuple(value)


def _read_rule(key: Key, value: Any) -> str | tuple[str, ...]:
    if key.allow_list and isinstance(value, list):
        return _read_list(key, value)
    if value not in key.choices:
        or_list = ", or a list of what to keep" if key.allow_list else ""
        raise Misworded(f"{value!r} is no rule for {key.name}", f"known are {', '.join(key.choices)}{or_list}")
    return str(value)


_READERS: dict[Kind, Callable[[Key, Any], Any]] = {
    Kind.COUNT: _read_count,
    Kind.SHARE: _read_share,
    Kind.RULE: _read_rule,
    **dict.fromkeys((Kind.TEXTS, Kind.GLOBS, Kind.SUBJECT_FIELDS, Kind.CHOICES), _read_list),
}


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f'did you mean "{near[0]}"?' if near else f"known are {', '.join(known)}"


# Where it is written


def _header(path: Path) -> str:
    return ".".join(str(part) for part in path if isinstance(part, str))


def _located(fault: Fault, document: Mapping[str, Any], lines: Mapping[Path, int]) -> Problem:
    line = None
    for length in range(len(fault.path), 0, -1):
        line = line or lines.get(fault.path[:length])
    return Problem(_place(fault.path, document), line, fault.problem, fault.advice)


def _place(path: Path, document: Any) -> str:
    """`class "reviews", step 2, after`: names where there are some, numbers from 1 where there are none."""
    words: list[str] = []
    for part in path:
        if isinstance(part, int):
            document = document[part] if isinstance(document, list) else None
            name = document.get("name") if isinstance(document, Mapping) else None
            words[-1] += f' "{name}"' if isinstance(name, str) else f" {part + 1}"
        else:
            document = document.get(part) if isinstance(document, Mapping) else None
            words.append(part)
    return ", ".join(words)
