"""Stores with a sealed month, and archives of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from retention.facts import RAW
from retention.month import Month
from server.archive import manifest, steps
from server.archive.folders import Folder
from server.archive.making import Wanted, make
from server.archive.manifest import Manifest
from server.config import Storage
from server.model import Action, Change, ChangeStatus
from server.rewriting import Heard, Selection
from server.storage.contract import Store
from server.storage.memory.store import MemoryStore
from tests.support.events import Sent, append, make_event
from tests.support.retaining import seal, sealed_rows

OCTOBER = Month(2025, 10)
TYPES = ("merged", "opened", "reviewed")
STRANGE = 'a "quoted" \\ back\x00slash\x1f\x7f é \u2028 \U0001f600 </script>\r\n\t\b\f'
"""What a text can hold at worst."""
USERS = ("", "ann", "ben", "李雷", STRANGE)


def varied(count: int = 90) -> list[Sent]:
    """Events of October with something of everything."""
    return [
        make_event(
            number,
            "2025-10",
            number * 7 * 3_600_000 % (30 * 86_400_000),
            type=TYPES[number % 3],
            user_id=USERS[number % 5] if number % 2 else f"user-{number % 37}",
            session_id="s-1" if number % 4 else "",
            client_ip="192.168.7.9" if number % 3 else "",
            description=STRANGE if number % 11 == 0 else "",
            tags=("urgent", "ü", 'q"\\') if number % 4 == 0 else (),
            metadata=f'{{"k": "v\\u0000", "n": {number}}}' if number % 2 else "",
            change=Change(
                "rows", STRANGE if number % 12 == 0 else "", Action(number % 3 + 1), '{"a":1}' if number % 4 else "",
                '{"a":2}', ChangeStatus.FAILED, None if number % 12 else 2**60,
            )
            if number % 6 == 0
            else None,
        )
        for number in range(count)
    ]  # fmt: skip


def fill(store: Store, events: Sequence[Sent]) -> None:
    """Stores the events in two batches of different sources, and seals October."""
    append(store, *events[::2], source="reviews")
    if events[1:]:
        append(store, *events[1::2], source="deploys")
    seal(store, OCTOBER)


def remembering(events: Sequence[Sent]) -> MemoryStore:
    """The reference engine with these, sealed."""
    store = MemoryStore()
    fill(store, events)
    return store


@contextmanager
def stored_in(directory: Path, events: Sequence[Sent] = ()) -> Iterator[Store]:
    """The embedded engine; with these events, sealed, if there are any."""
    from server.storage.sqlite.store import SqliteStore

    store = SqliteStore(directory, Storage(disk_free_bytes_min=1), months_max=10)
    try:
        if events:
            fill(store, events)
        yield store
    finally:
        store.close()


def wanted(store: Store, types: Sequence[str] = TYPES, forms: Sequence[str] = (RAW,), target: str = "local") -> Wanted:
    """All rows of these types in October."""
    generation = next(info.generation for info in store.months() if info.month == OCTOBER)
    return Wanted(
        month=OCTOBER,
        generation=generation,
        month_digest="d" * 64,
        rows=Selection(tuple(types), tuple(forms)),
        target=target,
        plan_id="p" * 64,
        created_ms=1_800_000_000_000,
    )


def archived(folder: Folder, store: Store, types: Sequence[str] = TYPES, target: str = "local") -> Manifest:
    """An archive of October."""
    return made(folder, store, wanted(store, types, target=target))


def made(folder: Folder, store: Store, what: Wanted, *, heard: Heard | None = None) -> Manifest:
    """An archive of what is wanted."""
    with sealed_rows(store, what.month, what.generation) as stored:
        return make(folder, stored, what, heard=heard)


def files(folder: Folder) -> dict[str, bytes]:
    """Every file of a target."""
    found = {}
    for path in folder.names("archive"):
        with folder.fetch(path) as file:
            found[path] = file.read()
    return found


def assert_tidy(folder: Folder) -> list[Manifest]:
    """The archives there are; nothing is beside them, and each manifest can be read."""
    manifests, findings = manifest.listed(folder)
    assert findings == []
    assert manifest.strays(folder, manifests) == []
    return manifests


class Failing(Exception):
    """What a test raises at a step."""


@contextmanager
def failing_at(step: str, nth: int = 1) -> Iterator[list[str]]:
    """The n-th time that the step is reached, it fails. Gives the steps that were reached."""
    reached: list[str] = []
    original = steps.reached

    def fail(_step: str) -> None:
        reached.append(_step)
        if _step == step and reached.count(step) == nth:
            raise Failing(step)

    steps.reached = fail
    try:
        yield reached
    finally:
        steps.reached = original
