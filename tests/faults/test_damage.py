"""Damaged, cut off and missing files: a month fails alone and by name, the rest serves, and no number is used twice."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from retention.month import Month
from server.errors import Corrupt, Precondition, TrackdError
from server.model import EventFilter, Order, Outcome
from server.storage.sqlite.store import SqliteStore
from tests.e2e.conftest import run
from tests.faults.history import SETTINGS
from tests.support.events import Sent, append, make_event, ms, outcomes, positions, read
from tests.support.homes import contents

MONTHS = ("2025-09", "2025-10", "2025-11")
HURT = "2025-10"
PER_MONTH = 60
PAGE_BYTES = 4_096


def events_of(month: str) -> list[Sent]:
    """A few pages of events."""
    first = MONTHS.index(month) * 1_000
    return [
        make_event(first + n, month, n, user_id=f"u{n}", type=f"t{n % 3}", description="d" * 300)
        for n in range(PER_MONTH)
    ]


def open_store(root: Path) -> SqliteStore:
    """As the daemon opens it."""
    return SqliteStore(root, SETTINGS, months_max=20)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A closed directory with three months."""
    root = tmp_path / "data"
    store = open_store(root)
    for month in MONTHS:
        append(store, *events_of(month), source=f"s{month}")
    store.close()
    return root


def file_of(root: Path, month: str = HURT) -> Path:
    """Where a month lives."""
    return root / "months" / month / "g0001" / "events.db"


def flip(offset: int) -> Callable[[Path], None]:
    """Turns one bit over."""

    def damage(file: Path) -> None:
        whole = bytearray(file.read_bytes())
        whole[offset] ^= 0x10
        file.write_bytes(whole)

    return damage


def overwrite(file: Path) -> None:
    """Another program wrote something else here."""
    file.write_bytes(b"not a database at all " * 1_000)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "magic": flip(3),
    "overwritten": overwrite,
    "emptied": lambda file: file.write_bytes(b""),
    "cut to a page": lambda file: file.write_bytes(file.read_bytes()[:PAGE_BYTES]),
    "cut in a page": lambda file: file.write_bytes(file.read_bytes()[: PAGE_BYTES * 3 // 2]),
    "missing": lambda file: file.unlink(),
    "directory missing": lambda file: shutil.rmtree(file.parents[1]),
}


def refusal(call: Callable[[], object]) -> TrackdError:
    """What a question is answered; only errors of ours pass."""
    with pytest.raises(TrackdError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_month_is_refused_by_name_and_the_rest_serves(root: Path, damage: str) -> None:
    """Questions that touch it are MONTH_DAMAGED, events of it are rejected, other months take part as always."""
    DAMAGES[damage](file_of(root))
    store = open_store(root)
    try:
        for call in (lambda: read(store), lambda: store.reader().count_events(EventFilter(), (), as_of=store.head)):
            error = refusal(call)
            assert isinstance(error, Corrupt)
            assert error.reason == "MONTH_DAMAGED"
            assert HURT in error.message
            assert error.hint
        for month in (month for month in MONTHS if month != HURT):
            whole = Month.parse(month)
            where = EventFilter(start_ms=whole.start_ms, end_ms=whole.end_ms)
            assert [event.id for event in read(store, where)] == [event.id for event in events_of(month)]
        fresh, late = make_event(9_001, "2025-11"), make_event(9_002, HURT)
        answer = append(store, fresh, late, make_event(9_003, "2025-12"))
        assert outcomes(answer) == [(1, Outcome.REJECTED, "MONTH_DAMAGED")]
        assert answer.accepted == 2
        assert answer.first_position is not None
        assert answer.first_position > 3 * PER_MONTH
        assert outcomes(append(store, late, late, atomic=True))[0][2] == "MONTH_DAMAGED"
        findings = store.check()
        assert findings
        assert all(HURT in finding.where for finding in findings), findings
    finally:
        store.close()
    checked = run("check", str(root))
    assert checked.returncode != 0
    assert HURT in checked.stdout + checked.stderr


@pytest.mark.parametrize("damage", [name for name in DAMAGES if "missing" not in name])
def test_a_restored_month_serves_again(root: Path, damage: str) -> None:
    """Nothing is removed or overwritten because it is damaged: with the file put back everything is as before."""
    before = file_of(root).read_bytes()
    store = open_store(root)
    known = contents(store)
    store.close()
    DAMAGES[damage](file_of(root))
    store = open_store(root)
    store.maintain(idle=True)
    store.close()
    assert file_of(root).exists()
    file_of(root).write_bytes(before)
    store = open_store(root)
    try:
        assert contents(store) == known
        assert list(store.check()) == []
    finally:
        store.close()


@pytest.mark.parametrize("offset", range(100, 16 * PAGE_BYTES, 1_733))
def test_no_flipped_bit_gives_an_error_of_the_driver(root: Path, offset: int) -> None:
    """Anywhere in the file: answers or a Corrupt, and `check` never raises. A bit within a text may stay unseen."""
    file = file_of(root)
    flip(offset % file.stat().st_size)(file)
    store = open_store(root)
    try:
        for order in Order:
            try:
                read(store, order=order)
            except Corrupt:
                continue
        answers = append(store, make_event(9_001, "2025-11"))
        assert answers.accepted == 1
        assert all(HURT in finding.where for finding in store.check())
    finally:
        store.close()


def test_a_lost_catalog_is_rebuilt_from_the_months(root: Path) -> None:
    """The same events, types, sources, months and users; positions and user keys go on above all that were used."""
    store = open_store(root)
    before = contents(store)
    store.close()
    for file in root.glob("catalog.db*"):
        file.unlink()
    store = open_store(root)
    try:
        after = contents(store)
        for part in ("head", "events", "sources", "months"):
            assert after[part] == before[part], part
        assert [entry.name for entry in after["types"]] == [entry.name for entry in before["types"]]
        assert list(store.check()) == []
        sent = [make_event(9_000 + n, month, user_id=f"new{n}", type="new") for n, month in enumerate(MONTHS)]
        answer = append(store, *sent, *events_of(HURT), source="new")
        assert (answer.accepted, answer.duplicate) == (3, PER_MONTH)
        assert answer.first_position is not None
        assert answer.first_position > before["head"]
        assert list(store.check()) == []
        found = read(store)
        assert len(set(positions(found))) == len(found) == 3 * PER_MONTH + 3
        assert {event.user_id for event in found} == {f"u{n}" for n in range(PER_MONTH)} | {f"new{n}" for n in range(3)}
    finally:
        store.close()


def test_a_damaged_catalog_is_refused_and_harms_nothing(root: Path) -> None:
    """Corrupt with what to do; done so, the next start rebuilds it."""
    overwrite(root / "catalog.db")
    error = refusal(lambda: open_store(root))
    assert (type(error), error.reason) == (Corrupt, "CATALOG_DAMAGED")
    assert "catalog.db" in error.hint
    for file in root.glob("catalog.db*"):
        file.unlink()
    store = open_store(root)
    try:
        assert len(read(store)) == 3 * PER_MONTH
        assert list(store.check()) == []
    finally:
        store.close()


def test_a_month_is_put_back_under_its_catalog_without_using_numbers_twice(root: Path) -> None:
    """A month that was missing for a while comes back: its positions were not given to others meanwhile."""
    aside = root.parent / "aside"
    shutil.move(root / "months" / HURT, aside)
    store = open_store(root)
    append(store, *(make_event(9_000 + n, "2025-11", user_id=f"new{n}") for n in range(200)))
    store.close()
    shutil.rmtree(root / "months" / HURT, ignore_errors=True)
    shutil.move(aside, root / "months" / HURT)
    store = open_store(root)
    try:
        found = read(store)
        assert len(set(positions(found))) == len(found) == 3 * PER_MONTH + 200
        assert list(store.check()) == []
    finally:
        store.close()


def test_one_directory_has_one_daemon(root: Path) -> None:
    """The second is refused with DATA_IN_USE, in this process and in another, and changes nothing; later it may."""
    store = open_store(root)
    try:
        before = contents(store)
        error = refusal(lambda: open_store(root))
        assert (type(error), error.reason) == (Precondition, "DATA_IN_USE")
        command = [sys.executable, "-m", "server.cli.main", "serve", "--data", str(root)]
        command += ["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
        second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert second.returncode == 2, second.stderr
        assert "DATA_IN_USE" in second.stderr
        assert "Traceback" not in second.stderr
        assert append(store, make_event(9_001, "2025-11", -1)).accepted == 1
        assert contents(store)["head"] > before["head"]
    finally:
        store.close()
    again = open_store(root)
    assert read(again, EventFilter(start_ms=ms("2025-11", -1)))[0].id == make_event(9_001).id
    again.close()
