"""In which line of a TOML text each table and key is written: what the standard library's parser does not tell."""

from __future__ import annotations

import json
import re

Path = tuple[str | int, ...]
"""Keys from the top, with the index (from 0) behind the key of each array of tables."""

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_KEY = re.compile(r"""[ \t]*(?:([A-Za-z0-9_-]+)|"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)')[ \t]*""")
# What a value consists of, the longer quotes first.
_PIECE = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}' + r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"' + r"|'[^'\n]*'|#[^\n]*|[\[{]|[\]}]|\n|[^\"'#\[\]{}\n]+",
    re.DOTALL,
)


def lines_of(text: str) -> dict[Path, int]:
    """Path -> line, from 1, of all tables and keys of a valid TOML text. What is inside of a value has no line."""
    lines: dict[Path, int] = {}
    last_index: dict[Path, int] = {}
    table: Path = ()
    at = _skip(_BLANK, text, 0)
    while at < len(text):
        line = text.count("\n", 0, at) + 1
        if text[at] == "[":
            of_array = text.startswith("[[", at)
            keys, at = _keys(text, at + 1 + of_array)
            table = _resolve((), keys, last_index, opens_item=of_array)
            lines[table] = line
            at += 1 + of_array
        else:
            keys, at = _keys(text, at)
            for length in range(1, len(keys) + 1):
                lines.setdefault(_resolve(table, keys[:length], last_index, opens_item=False), line)
            at = _value_end(text, at + 1)
        at = _skip(_BLANK, text, at)
    return lines


def _skip(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _keys(text: str, at: int) -> tuple[list[str], int]:
    """A dotted key and where it ends."""
    keys = []
    while found := _KEY.match(text, at):
        bare, quoted, literal = found.groups()
        keys.append(bare if bare is not None else literal if literal is not None else _unquoted(quoted))
        at = found.end()
        if text[at : at + 1] != ".":
            break
        at += 1
    return keys, at


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:  # one of the few escapes that TOML has and JSON has not
        return text


def _resolve(base: Path, keys: list[str], last_index: dict[Path, int], *, opens_item: bool) -> Path:
    path = base
    for position, key in enumerate(keys):
        path = (*path, key)
        if opens_item and position == len(keys) - 1:
            last_index[path] = last_index.get(path, -1) + 1
        if path in last_index:
            path = (*path, last_index[path])
    return path


def _value_end(text: str, at: int) -> int:
    """Where the line ends that the value ends in."""
    depth = 0
    while found := _PIECE.match(text, at):
        piece = found[0]
        if piece == "\n" and depth == 0:
            return at
        depth += (piece in "[{") - (piece in "]}")
        at = found.end()
    return len(text)
