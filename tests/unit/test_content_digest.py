"""Digests of a file: by definition, whatever is in it, and on two threads."""

from __future__ import annotations

import threading
from pathlib import Path

import apsw
import pytest

from retention.month import Month
from server.model import Action, Change, ChangeStatus
from server.storage.digest import digest_of
from server.storage.sqlite import content_digest as module
from server.storage.sqlite.content_digest import content_digest, digest_on_two_cores
from tests.support.archives import fill, stored_in
from tests.support.events import Sent, append, make_event
from tests.support.retaining import events_of, seal

MONTH = Month(2025, 10)
HOSTILE = (
    "", " ", '"', "\\", '\\"', "'", "null", "[]", '"quoted"', "\\u0000", "\0", "a\0b", "\0\0", "\x7f", "\x80", "\x85",
    "\u2028", "\u2029", "\ufeff", "\ufffd", "\uffff", "\ue000", "\U0001f600", "\U0010ffff", "e\u0301", "/", "<>&",
    '{"half":"\\ud800"}', "".join(map(chr, range(1, 32))), "".join(map(chr, range(32))) + "end", '"' * 500, "\\" * 501,
    "%s %d ?1", "\n" * 300, "\u674e" * 400, "x" * 5_000,
)  # fmt: skip
"""Texts that JSON, SQL or SQLite may take for something else."""
NUMBERS = (None, 0, 1, 2**31, 2**53 + 1, 2**63 - 1)


def hostile(*, changes: bool) -> list[Sent]:
    """Each text in each column, beside others."""
    texts = [(HOSTILE[n:] + HOSTILE[:n])[:9] for n in range(len(HOSTILE))]
    return [
        make_event(
            number,
            str(MONTH),
            number,
            type=a,
            user_id=b,
            session_id=c,
            client_ip=d,
            description=e,
            tags=(a, b) if number % 2 else (),
            metadata=f,
            change=Change(
                g, h, Action(number % 3 + 1), i, f, ChangeStatus(number % 2 + 1), NUMBERS[number % len(NUMBERS)]
            )
            if changes and number % 3
            else None,
        )
        for number, (a, b, c, d, e, f, g, h, i) in enumerate(texts)
    ]


@pytest.mark.parametrize("rows", [1, 7, 8_192])
@pytest.mark.parametrize("changes", [False, True], ids=["plain", "with changes"])
def test_any_text_is_digested_as_defined(
    changes: bool, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite makes the very bytes that the definition makes, wherever windows end, and also of names."""
    monkeypatch.setattr(module, "WINDOW_ROWS", rows)
    events = hostile(changes=changes)
    with stored_in(tmp_path) as store:
        for number, event in enumerate(events):
            append(store, event, source=HOSTILE[-number])
        seal(store, MONTH)
        stored = events_of(store, MONTH)
        (info,) = store.months()
    assert len(stored) == len(HOSTILE)
    assert {event.description for event in stored} == {event.user_id for event in stored} == set(HOSTILE)
    found = file_of(tmp_path, info.generation)
    expected = (len(stored), digest_of(stored))
    for digest in (content_digest(found, MONTH), digest_on_two_cores(found, MONTH)):
        assert (digest.rows, digest.hexdigest()) == expected


def test_changes_of_some_windows_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that has none is read by another statement, and the first and last rows of one are in it."""
    monkeypatch.setattr(module, "WINDOW_ROWS", 10)
    change = Change("rows", "1", Action.UPDATE, "", "{}")
    events = [make_event(n, str(MONTH), change=change if n in (20, 39, 50) else None) for n in range(100)]
    with stored_in(tmp_path) as store:
        fill(store, events)
        stored = events_of(store, MONTH)
        (info,) = store.months()
    assert sum(event.change is not None for event in stored) == 3
    assert content_digest(file_of(tmp_path, info.generation), MONTH).hexdigest() == digest_of(stored)


def test_lines_are_sorted_in_memory(tmp_path: Path) -> None:
    """Of the largest windows, too, in which every character is escaped; names never come to lie in a temporary file."""
    size = module.WINDOW_BYTES // module.WINDOW_ROWS
    events = [
        make_event(number, str(MONTH), number, user_id=f"user-{number}", description="\x01" * size)
        for number in range(module.WINDOW_ROWS)
    ]
    with stored_in(tmp_path, events) as store:
        (info,) = store.months()
    with module.scanned(file_of(tmp_path, info.generation)) as connection:
        windows = list(module.windows(connection, MONTH, module.WINDOW_ROWS, module.WINDOW_BYTES))
        lines = module.lines_of(connection, MONTH, windows[0], "1")
        spilled, _ = connection.status(apsw.SQLITE_DBSTATUS_TEMPBUF_SPILL)
    assert len(windows) == 1
    assert sum(len(text) for _, text, _ in lines) > 6 * module.WINDOW_BYTES
    assert spilled == 0


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sealed month of 300 events, which is read in windows of ten."""
    with stored_in(tmp_path, [make_event(n, str(MONTH), user_id=f"user-{n}") for n in range(300)]) as store:
        (info,) = store.months()
    monkeypatch.setattr(module, "WINDOW_ROWS", 10)
    return file_of(tmp_path, info.generation)


def file_of(directory: Path, generation: int) -> Path:
    """The file of the month."""
    (found,) = directory.glob(f"months/{MONTH}/g{generation:04d}*/events*.db")
    return found


def test_two_threads_find_what_one_finds(path: Path) -> None:
    """And say how far they are, to the end, on the thread that asked."""
    heard: list[int] = []
    threads: set[int] = set()

    def hear(rows: int) -> None:
        heard.append(rows)
        threads.add(threading.get_ident())

    assert digest_on_two_cores(path, MONTH, hear).hexdigest() == content_digest(path, MONTH).hexdigest()
    assert heard == list(range(10, 301, 10))
    assert threads == {threading.get_ident()}


def test_no_thread_runs_ahead(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is told may wait as long as there are good reasons; then nobody reads, and no row is read twice."""
    read: list[module.Window] = []
    lines = module.lines_of
    ahead: list[int] = []

    def noted(connection: object, month: Month, window: module.Window, chosen: str) -> list[module.Lines]:
        read.append(window)
        return lines(connection, month, window, chosen)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "lines_of", noted)
    digest_on_two_cores(path, MONTH, lambda rows: ahead.append(len(read) - rows // 10))
    assert max(ahead) <= module.CORES
    assert len(read) == len(set(read)) == 30


@pytest.mark.timeout(20)
def test_who_gives_up_waits_for_nobody_who_waits_for_him(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is cancelled while it reads back ends at once, and so does one that cannot read."""
    read: list[object] = []
    lines = module.lines_of

    def noted(*args: object) -> list[module.Lines]:
        read.append(args)
        if len(read) > 20:
            raise LookupError
        return lines(*args)  # type: ignore[arg-type]

    def give_up(_rows: int) -> None:
        raise KeyError

    monkeypatch.setattr(module, "lines_of", noted)
    with pytest.raises(KeyError):
        digest_on_two_cores(path, MONTH, give_up)
    assert len(read) <= 1 + module.CORES
    with pytest.raises(LookupError):
        digest_on_two_cores(path, MONTH)
    assert len(read) <= 21 + 2 * module.CORES
