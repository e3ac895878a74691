"""Where things lie under a target. Paths are relative to it, with slashes, whatever the target is."""

from __future__ import annotations

import re

from retention.canonical import digest
from retention.month import Month
from server.errors import Invalid
from server.rewriting import Selection

EVENTS = "archive/events"
MANIFESTS = "archive/manifests"
DRAFTS = "archive/drafts"

_NAME = re.compile(r"((?!0000)[0-9]{4}-(?:0[1-9]|1[0-2]))-[0-9a-f]{16}")
_PART = re.compile(EVENTS + r"/year=[0-9]{4}/month=[0-9]{2}/bucket=[0-9]{2}/part-[0-9a-f]{64}\.parquet")


def part(month: Month, bucket: int, sha256: str) -> str:
    """Of a part, in Hive's way of writing columns into folders."""
    return f"{EVENTS}/year={month.year:04d}/month={month.month:02d}/bucket={bucket:02d}/part-{sha256}.parquet"


def is_part(path: str) -> bool:
    """Whether a part could lie there: nothing else is ever removed because a document says so."""
    return _PART.fullmatch(path) is not None


def manifest(name: str) -> str:
    """Of the manifest of an archive. Invalid(ARCHIVE_NAME) for what is no name of one."""
    month_of(name)
    return f"{MANIFESTS}/{name}.json"


def month_of(name: str) -> Month:
    """The month of an archive. Invalid(ARCHIVE_NAME) for what is no name of one."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise Invalid("ARCHIVE_NAME", f"{name!r} is no name of an archive", hint="trackd archive list shows the names")
    return Month.parse(match[1])


def lineage(month: Month, rows: Selection, target: str) -> str:
    """What all attempts at an archive have in common, whatever the rows are by then. 16 hexadecimal digits."""
    return digest([str(month), sorted(rows.types), sorted(rows.forms), target])[:16]


def name(month: Month, lineage: str, content: str) -> str:
    """Of an archive: the same rows, asked for in the same way, have the same name."""
    return f"{month}-{digest([lineage, content])[:16]}"
