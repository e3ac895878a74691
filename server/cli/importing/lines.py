"""Lines of a file, plain or gzip, in blocks: bounded memory whatever the file holds."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

LINE_BYTES_MAX = 4 * 1024 * 1024
"""As large as a batch may be by default; a longer line is reported and skipped."""
BLOCK_BYTES = 256 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Unreadable(Exception):
    """The file cannot be read on: not there, not allowed, or damaged."""


class LineReader:
    """Reads a file block by block. Whether it is gzip is seen from its first bytes, not from its name."""

    def __init__(self, path: Path) -> None:
        try:
            self._raw: BinaryIO = path.open("rb")
            self.size = path.stat().st_size
            magic = self._raw.read(2)
            self._raw.seek(0)
        except OSError as error:
            raise Unreadable(f"{path}: {error.strerror or error}") from error
        self._path = path
        self._text = cast(BinaryIO, gzip.GzipFile(fileobj=self._raw)) if magic == _GZIP_MAGIC else self._raw

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._text.close()
        self._raw.close()

    @property
    def bytes_read(self) -> int:
        """Bytes of the file itself (compressed ones of a gzip file) taken so far; `size` is all of them."""
        return self._raw.tell()

    def blocks(self) -> Iterator[list[bytes | None]]:
        """The lines in order, without their ends; None stands for a line longer than LINE_BYTES_MAX.

        Raises Unreadable where a gzip file is damaged or cut off, after the lines before that.
        """
        tail = b""
        skipping = False
        first = True
        while block := self._read():
            if first:
                block, first = block.removeprefix(_BYTE_ORDER_MARK), False
            lines: list[bytes | None] = list((tail + block).split(b"\n"))
            tail = cast(bytes, lines.pop())
            if lines and skipping:
                lines[0], skipping = None, False
            if len(tail) > LINE_BYTES_MAX or skipping:
                tail, skipping = b"", True
            if lines:
                yield lines
        if tail or skipping:
            yield [None if skipping else tail]

    def _read(self) -> bytes:
        try:
            return self._text.read(BLOCK_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise Unreadable(f"{self._path}: {error}") from error
