"""Reading files in blocks, and finding the line of an event again."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.cli.importing import lines
from server.cli.importing.lines import LineReader, Unreadable
from server.cli.importing.loading import Account, Places, Problem


def read(path: Path) -> list[bytes | None]:
    """All lines of a file."""
    with LineReader(path) as reader:
        found = [line for block in reader.blocks() for line in block]
        assert reader.bytes_read == reader.size
    return found


@pytest.mark.parametrize("block_bytes", [1, 3, 7, 1_000])
def test_lines_come_whole_whatever_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    """The end of a block in the middle of a line does not show."""
    monkeypatch.setattr(lines, "BLOCK_BYTES", block_bytes)
    path = tmp_path / "f"
    path.write_bytes(b"one\n\ntwo\r\nlast")
    assert read(path) == [b"one", b"", b"two\r", b"last"]


def test_gzip_is_recognised_by_content(tmp_path: Path) -> None:
    """The name does not matter, and neither does a byte order mark."""
    path = tmp_path / "plain.jsonl"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfa\nb\n"))
    assert read(path) == [b"a", b"b"]


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    """Nothing is not an error."""
    path = tmp_path / "f"
    path.write_bytes(b"")
    assert read(path) == []


@pytest.mark.parametrize("block_bytes", [4, 64])
def test_a_line_without_end_is_skipped_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    """A line that is too long is reported as None: its bytes are not kept."""
    monkeypatch.setattr(lines, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(lines, "LINE_BYTES_MAX", 10)
    path = tmp_path / "f"
    path.write_bytes(b"a\n" + b"x" * 300 + b"\nb\n" + b"y" * 200)
    assert read(path) == [b"a", None, b"b", None]


def test_a_damaged_gzip_file_is_reported_after_the_lines_before(tmp_path: Path) -> None:
    """A download that broke off still gives what it has."""
    path = tmp_path / "f.gz"
    path.write_bytes(gzip.compress(b"line\n" * 100_000)[:-300])
    with LineReader(path) as reader, pytest.raises(Unreadable, match=r"f\.gz"):
        for _ in reader.blocks():
            pass


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    """With the operating system's reason."""
    with pytest.raises(Unreadable, match="No such file"):
        LineReader(tmp_path / "absent")


@given(bad=st.lists(st.booleans(), max_size=200))
def test_the_line_of_every_event_is_found_again(bad: list[bool]) -> None:
    """Bad lines shift the count; the place of an event in what was sent still leads to its line."""
    places = Places()
    sent: list[int] = []
    for line, is_bad in enumerate(bad, 1):
        if not is_bad:
            places.note(len(sent), line)
            sent.append(line)
    assert [places.line(sequence) for sequence in range(len(sent))] == sent


def test_only_the_first_problems_are_kept_and_all_are_counted() -> None:
    """A file of nothing but bad lines does not fill the memory."""
    account = Account("lines")
    for line in range(1_000):
        account.trouble(Problem(f"line {line}", "BAD_LINE", "no"))
    assert len(account.problems) == 10
    assert account.reasons == {"BAD_LINE": 1_000}
