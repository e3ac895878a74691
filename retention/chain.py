"""Evidence of what was done: records that each carry the digest of the one before, so that none can be changed quietly.

Records name classes, months and holds by code. There is no room in them for a person or for free text: every text must
look like a code. Where they are stored is the engine's business; here they are lines.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from retention.canonical import canonical
from retention.faults import Misworded
from retention.month import Month

FORMAT = 1
GENESIS = "0" * 64
"""What the first record names as the one before."""

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/+-]{0,127}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CODES = ("actor", "action", "method")
_COUNTS = ("generation", "rows_before", "rows_after", "bytes_before", "bytes_after", "time_ms")


@dataclass(frozen=True, slots=True)
class Deed:
    """What was done to one class of one month. Misworded if a text is not a code or a number is negative."""

    time_ms: int
    plan_id: str
    policy_digest: str
    actor: str
    """"scheduler", or what the operating system says of who asked, such as "uid:1000"."""
    action: str
    class_name: str
    """"" where the month as a whole is meant."""
    month: str
    """YYYY-MM; "" where no month is meant."""
    generation: int
    rows_before: int
    rows_after: int
    bytes_before: int
    bytes_after: int
    method: str
    """How, such as "rewrite" or "unlink"."""
    versions: tuple[tuple[str, str], ...] = ()
    """(software, version), by name."""
    checks: tuple[tuple[str, str], ...] = ()
    """(check, outcome), by name."""
    withheld: tuple[tuple[str, int], ...] = ()
    """(code of the hold, rows), by code."""

    def __post_init__(self) -> None:
        for name in _CODES:
            _require_code(name, getattr(self, name))
        if self.class_name:
            _require_code("class_name", self.class_name)
        for name in ("plan_id", "policy_digest"):
            if not _DIGEST.fullmatch(getattr(self, name)):
                raise Misworded(f"{name} {getattr(self, name)!r} is no digest", "give 64 hexadecimal digits")
        for name in _COUNTS:
            _require_count(name, getattr(self, name))
        if self.month and str(Month.parse(self.month)) != self.month:
            raise Misworded(f"month {self.month!r} is none", "write YYYY-MM")
        for pairs in (self.versions, self.checks, self.withheld):
            if list(pairs) != sorted(set(pairs)):
                raise Misworded(f"{pairs} is not in order", "sort it, each name once")
            for code, value in pairs:
                _require_code("name", code)
                _require_count("rows", value) if isinstance(value, int) else _require_code(code, value)


@dataclass(frozen=True, slots=True)
class Head:
    """The last record that somebody knows of: kept in a second place, it shows whether the end was cut off."""

    sequence: int
    """Of that record, from 1; 0 for an empty chain."""
    digest: str


EMPTY = Head(0, GENESIS)


@dataclass(frozen=True, slots=True)
class Record:
    """A deed and its place in the chain."""

    sequence: int
    previous: str
    deed: Deed

    def __post_init__(self) -> None:
        _require_count("sequence", self.sequence)
        if not self.sequence or not isinstance(self.previous, str) or not _DIGEST.fullmatch(self.previous):
            raise Misworded("the place in the chain is none", "count from 1, and name the digest of the record before")

    @property
    def digest(self) -> str:
        """SHA-256 over everything in the record, what it names as the one before included."""
        return hashlib.sha256(canonical(self._content())).hexdigest()

    @property
    def head(self) -> Head:
        """What the chain's head is once this record is its last."""
        return Head(self.sequence, self.digest)

    def line(self) -> bytes:
        """The record as it is stored: one line of canonical JSON without its end."""
        return canonical(self._content() | {"digest": self.digest})

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """The record of a line. ValueError if the line is not, to the byte, what `line` would write."""
        try:
            content = json.loads(line)
            values = dict(content["deed"])
            for name in ("versions", "checks", "withheld"):
                values[name] = tuple((code, value) for code, value in values[name])
            record = cls(content["sequence"], content["previous"], Deed(**values))
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"the line is no record of evidence: {error}") from error
        if record.line() != line:
            raise ValueError("the record is not what its digest was made of")
        return record

    def _content(self) -> dict[str, Any]:
        return {"deed": asdict(self.deed), "format": FORMAT, "previous": self.previous, "sequence": self.sequence}


def append(head: Head, deed: Deed) -> Record:
    """The record of a deed, to be stored behind the head. Its own `head` is the next one."""
    return Record(head.sequence + 1, head.digest, deed)


class Damage(StrEnum):
    """What can have happened to a chain."""

    CHANGED = "changed"
    MISSING = "missing"
    REORDERED = "reordered"
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where the chain is not what was written. `sequence` is that of the record at fault."""

    damage: Damage
    sequence: int
    problem: str


def verify(lines: Iterable[bytes], known: Head = EMPTY) -> list[Finding]:
    """What is wrong with the lines of a whole chain, from its first record; empty if nothing is.

    `known` is the newest head that was kept elsewhere: without it nobody can tell a chain that was cut off, or written
    anew from some record on, from one that ends there.
    """
    findings: list[Finding] = []
    found: list[Record | None] = []
    for place, line in enumerate(lines, 1):
        try:
            found.append(Record.parse(line))
        except ValueError as error:
            found.append(None)
            findings.append(Finding(Damage.CHANGED, place, f"line {place}: {error}"))
    findings += _order(found)
    records = [record for record in found if record is not None]
    last = max((record.sequence for record in records), default=0)
    if last < known.sequence and len(found) < known.sequence:
        problem = f"ends at {last}, and record {known.sequence} is known to have been written"
        findings.append(Finding(Damage.TRUNCATED, last + 1, problem))
    for record in records:
        if record.sequence == known.sequence and record.digest != known.digest:
            problem = f"record {record.sequence} is not the one whose digest is known: the chain was written anew"
            findings.append(Finding(Damage.CHANGED, record.sequence, problem))
    return findings


def _order(found: list[Record | None]) -> Iterator[Finding]:
    """Records that are not where their number says, are not there, or do not fit the one before."""
    by_number = {record.sequence: record for record in found if record}
    present = set(by_number)
    last = 0
    for record in found:  # an unreadable line stands for the record after the one before it; it was reported as changed
        last = record.sequence if record else last + 1
        present.add(last)
    for number in range(1, max(by_number, default=0)):
        if number not in present:
            yield Finding(Damage.MISSING, number, f"record {number} is missing")
    before = 0
    for place, record in enumerate(found, 1):
        if record is None:
            before += 1
            continue
        if record.sequence <= before:
            yield Finding(Damage.REORDERED, record.sequence, f"record {record.sequence} stands in line {place}")
        before = max(before, record.sequence)
        previous = by_number.get(record.sequence - 1)
        expected = GENESIS if record.sequence == 1 else previous.digest if previous else record.previous
        if record.previous != expected:
            problem = f"record {record.sequence} does not follow the one before it"
            yield Finding(Damage.CHANGED, record.sequence, problem)


def _require_code(name: str, value: str) -> None:
    if not isinstance(value, str) or not _CODE.fullmatch(value):
        raise Misworded(f"{name} {value!r} is no code", 'use letters, digits and "_.:/+-"; evidence has no free text')


def _require_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Misworded(f"{name} {value!r} is no count", "give a whole number from 0 on")
