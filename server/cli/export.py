"""Answers as JSON, CSV or Parquet, to standard output or to a file that appears whole or not at all."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, tzinfo
from enum import Enum, StrEnum, auto
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Annotated, Any, TypeAlias

import typer

from server.cli.moments import moment_of


class Format(StrEnum):
    """What an answer can be printed as."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


ChosenFormat = Annotated[
    Format | None, typer.Option("--format", help="How to print; by default as --output is called, or a table.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there: .json, .jsonl, .csv or .parquet.")
]

_BY_SUFFIX = {".json": Format.JSON, ".jsonl": Format.JSON, ".csv": Format.CSV, ".parquet": Format.PARQUET}


class Kind(Enum):
    """What a column holds. Any value may be absent (None)."""

    TEXT = auto()
    TEXTS = auto()
    INTEGER = auto()
    REAL = auto()
    INSTANT = auto()
    """Milliseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class ExportColumn:
    """One column of a table that leaves trackd."""

    name: str
    kind: Kind


Rows: TypeAlias = Sequence[Sequence[Any]]


def chosen(given: Format | None, output: Path | None, *, as_json: bool) -> Format:
    """The format that the options mean; BadParameter if they contradict each other or cannot be had here."""
    if as_json and given not in (None, Format.JSON):
        raise typer.BadParameter(f"--json and --format {given} exclude each other")
    by_name = None if output is None else _BY_SUFFIX.get(output.suffix.lower())
    form = Format.JSON if as_json else given or by_name or Format.TABLE
    if form is Format.TABLE and output is not None:
        raise typer.BadParameter(f"{output}: say --format json, csv or parquet; a table is for the terminal")
    if form is Format.PARQUET:
        if find_spec("pyarrow") is None:
            raise typer.BadParameter("Parquet needs pyarrow, which is not installed: pip install 'trackd[parquet]'")
        if output is None and sys.stdout.isatty():
            raise typer.BadParameter("Parquet is not for the terminal: give --output FILE")
    return form


def write(
    form: Format,
    output: Path | None,
    columns: Sequence[ExportColumn],
    batches: Iterable[Rows],
    *,
    zone: tzinfo = UTC,
    zone_name: str = "UTC",
) -> None:
    """Writes CSV or Parquet. Instants are those of a zone: ISO 8601 in CSV, timestamps with zone in Parquet."""
    with _opened(output) as file:
        if form is Format.CSV:
            _write_csv(file, columns, batches, zone)
        else:
            _write_parquet(file, columns, batches, zone_name)


def write_lines(output: Path | None, lines: Iterable[str]) -> None:
    """Writes texts, each with a line end; for JSON."""
    with _opened(output) as file:
        for line in lines:
            file.write(line.encode() + b"\n")


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[bytes]]:
    """A file that replaces `output` when all went well, or standard output."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = output.with_name(output.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(output)
    except OSError as error:
        raise typer.BadParameter(f"{output}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def _write_csv(file: IO[bytes], columns: Sequence[ExportColumn], batches: Iterable[Rows], zone: tzinfo) -> None:
    line = _Line()
    lines = csv.writer(line, lineterminator="\n")
    instants = [place for place, column in enumerate(columns) if column.kind is Kind.INSTANT]
    lists = [place for place, column in enumerate(columns) if column.kind is Kind.TEXTS]
    lines.writerow([column.name for column in columns])
    file.write(line.taken())
    for batch in batches:
        for row in batch:
            cells = list(row)
            for place in instants:
                cells[place] = _iso(cells[place], zone)
            for place in lists:
                cells[place] = json.dumps(cells[place], ensure_ascii=False) if cells[place] else None
            lines.writerow(cells)
        file.write(line.taken())


class _Line:
    """Where the csv module writes texts to, for a file of bytes."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def write(self, text: str) -> None:
        """Keeps a text."""
        self._texts.append(text)

    def taken(self) -> bytes:
        """What was written since the last time."""
        written = "".join(self._texts).encode()
        self._texts.clear()
        return written


def _iso(timestamp_ms: int | None, zone: tzinfo) -> str | None:
    if timestamp_ms is None:
        return None
    try:
        return moment_of(timestamp_ms, zone).isoformat(timespec="milliseconds")
    except OverflowError:
        return str(timestamp_ms)


def _write_parquet(file: IO[bytes], columns: Sequence[ExportColumn], batches: Iterable[Rows], zone_name: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        Kind.TEXT: pa.string(),
        Kind.TEXTS: pa.list_(pa.string()),
        Kind.INTEGER: pa.int64(),
        Kind.REAL: pa.float64(),
        Kind.INSTANT: pa.timestamp("ms", tz=zone_name),
    }
    schema = pa.schema([(column.name, kinds[column.kind]) for column in columns])
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in batches:
            values = zip(*batch, strict=True) if batch else ([] for _ in columns)
            arrays = [pa.array(column, type=field.type) for column, field in zip(values, schema, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
