"""A retention run that is killed at one step after the other, under ingest. Run as a process of its own.

    python -m tests.faults.retaining DIRECTORY

Each run is a fork of this process, which has everything imported and never opens the store itself. One JSON line a kill
goes to standard output; the last one says how it ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from retention.applying import Progress, Receipt, Run, Stale
from retention.chain import verify
from retention.guards import GUARDS
from retention.planning import plan
from retention.policy import Policy
from retention.policy_file import read as read_policy
from server.archive import steps as archive_steps
from server.config import Storage
from server.model import MonthState
from server.question import Bucket, BucketUnit, Field, FieldKind, Metric, MetricKind, Question
from server.retention.archives import ParquetArchives
from server.retention.stocktaking import Stocktaking
from server.retention.store_port import StorePort
from server.storage.sqlite import steps as storage_steps
from server.storage.sqlite.store import SqliteStore
from tests.support.answers import rows
from tests.support.events import append, make_event, read
from tests.support.policies import document, drop, event_class
from tests.support.retaining import here

NOW_MS = int(datetime(2025, 12, 20, tzinfo=UTC).timestamp()) * 1000
TYPES = ("review_submitted", "pr_merged", "bug_reported")
COUNTS = Question(
    (Metric(MetricKind.EVENTS),), (Bucket(BucketUnit.MONTH), Field(FieldKind.TYPE)), end_ms=NOW_MS - 20 * 86_400_000
)
"""Of the months that the run is about; events come in for the one after them."""
PROFILE = {
    "claim": "pseudonymous",
    "fields": {"user_id": "drop", "timestamp": "round to hour", "source": "keep", "metadata": ["n"]},
}
"""Without anything random, so that every run ends with the same content."""


def policy_of(directory: Path) -> Policy:
    """September goes whole; in October one class is anonymized, one archived and dropped, one stays."""
    doc = document(
        event_class(
            "reviews", ["review_*"], "3 years",
            {"after": "1 month", "do": "anonymize", "profile": "plain"}, drop("2 months"),
        ),
        event_class(
            "merged", ["pr_merged"], "3 years",
            {"after": "1 month", "do": "archive", "target": "local", "keep": "2 years"}, drop("6 weeks"),
        ),
        event_class("other", ["*"], "3 months", drop("2 months")),
    )  # fmt: skip
    doc["profile"] = {"plain": PROFILE}
    doc["archive"] = {"local": {"url": str(directory.parent / (directory.name + "-archive"))}}
    return read_policy(doc)


def populate(directory: Path) -> None:
    """The same events every time."""
    store = open_store(directory)
    for number, month in enumerate(("2025-09", "2025-10")):
        append(
            store,
            *(
                make_event(
                    number * 1_000 + place, month, place * 3_000_017, type=TYPES[place % 3],
                    user_id=f"user-{place % 17}", metadata=f'{{"n":{place},"mail":"a@b"}}', tags=("t",) * (place % 2),
                )
                for place in range(300)
            ),
        )  # fmt: skip
    store.close()


def open_store(directory: Path) -> SqliteStore:
    """As the daemon opens it."""
    return SqliteStore(directory, Storage(disk_free_bytes_min=1), months_max=10)


def retain(store: SqliteStore, directory: Path) -> Receipt:
    """One run, as an operator who accepts all guards makes it."""
    policy = policy_of(directory)
    archives = ParquetArchives(store, directory, lambda: NOW_MS)
    stocktaking = Stocktaking(
        store, here, held_copy=archives.held, is_importing=lambda: False, is_ingesting=lambda: False
    )
    port = StorePort(store, here, stocktaking, archives)
    planned = plan(policy, port.facts(policy, NOW_MS), NOW_MS, GUARDS)
    try:
        return Run(planned, policy, port, "test", lambda: NOW_MS).apply()
    except Stale as stale:  # nothing has changed between the two lines above
        raise AssertionError(stale.changes) from stale


def told(store: SqliteStore) -> dict[str, Any]:
    """What must be the same however often a run was killed on the way."""
    reader = store.reader()
    with closing(reader):
        counts = rows(reader.aggregate([COUNTS]).tables[0])
        digests = {
            str(info.month): reader.stocks(info.month).digest
            for info in store.months()
            if info.state is MonthState.SEALED
        }
    records = store.records
    return {
        "counts": counts,
        "months": [(str(info.month), info.state.value) for info in store.months()],
        "digests": digests,
        "frozen": sorted((str(month), sorted(types)) for month, types in records.frozen_types.items()),
        "lost": sorted((str(month), sorted(lost)) for month, lost in records.losses.items()),
        "copies": sorted((str(month), [copy.name for copy in copies]) for month, copies in records.copies().items()),
        "users": sorted({event.user_id for event in read(store) if event.timestamp_ms < NOW_MS - 20 * 86_400_000}),
    }


# Killing


class Ingest(threading.Thread):
    """Appends events of December for as long as the run goes on, and writes down what was acknowledged."""

    def __init__(self, store: SqliteStore, journal: Path, lock: threading.Lock) -> None:
        super().__init__(daemon=True)
        self._store = store
        self._journal = journal
        self._lock = lock
        self.over = False

    def run(self) -> None:
        """Until it is over or the process is killed."""
        done = self._journal.read_bytes().count(b"\n") if self._journal.exists() else 0
        with self._journal.open("ab", buffering=0) as journal:
            while not self.over:
                number = 100_000 + done
                with self._lock:
                    append(self._store, make_event(number, "2025-12", number % 1_000, user_id=f"fresh-{done}"))
                journal.write(b"%d\n" % number)
                done += 1


def killed_at(directory: Path, kind: str, wanted: str) -> None:
    """A run that is killed the first time an action of this kind comes to this step."""
    doing = [""]

    def reached(_step: str) -> None:
        if _step == wanted and kind in (doing[0], ""):
            os.kill(os.getpid(), signal.SIGKILL)

    storage_steps.reached = reached
    archive_steps.reached = reached
    store = open_store(directory)
    lock = threading.Lock()
    ingest = Ingest(store, directory.parent / (directory.name + ".journal"), lock)
    ingest.start()
    try:
        retain_beside(store, directory, lock, doing)
        while store.retired:
            with lock:
                store.maintain(idle=True)
    finally:
        ingest.over = True
        ingest.join()
    store.close()


def retain_beside(store: SqliteStore, directory: Path, lock: threading.Lock, doing: list[str]) -> Receipt:
    """A run whose commits take turns with the appends, as on the writer's thread; `doing` tells what it does."""
    policy = policy_of(directory)

    def on_writer(action: Callable[[], Any]) -> Any:
        with lock:
            return action()

    archives = ParquetArchives(store, directory, lambda: NOW_MS)
    stocktaking = Stocktaking(
        store, on_writer, held_copy=archives.held, is_importing=lambda: False, is_ingesting=lambda: False
    )
    port = StorePort(store, on_writer, stocktaking, archives)
    planned = plan(policy, port.facts(policy, NOW_MS), NOW_MS, GUARDS)

    def heard(progress: Progress) -> None:
        doing[0] = str(progress.what.kind)

    return Run(planned, policy, port, "test", lambda: NOW_MS, heard=heard).apply()


def forked(work: Callable[[], object]) -> int:
    """Runs it in a fork; how that ended (os.waitstatus_to_exitcode)."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            work()
            code = 0
        except BaseException as error:  # noqa: BLE001  # the parent has to hear of it
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def sound(directory: Path, expected: dict[str, Any]) -> None:
    """After a kill: nothing acknowledged is missing, nothing half done is seen, the chain is whole."""
    store = open_store(directory)
    try:
        now = told(store)
        assert now["counts"] == expected["counts"], "counts by month and type"
        stored = Counter(event.id for event in read(store) if event.timestamp_ms >= NOW_MS - 20 * 86_400_000)
        journal = directory.parent / (directory.name + ".journal")
        for line in journal.read_bytes().splitlines() if journal.exists() else ():
            assert stored[int(line).to_bytes(16, "big")] == 1, f"acknowledged event {line!r}"
        assert list(store.check()) == []
        assert verify(list(store.records.evidence(limit=100_000)), store.records.head) == []
        for event in read(store):
            if event.type == "review_submitted" and event.timestamp_ms < NOW_MS - 20 * 86_400_000:
                half = (event.user_id == "") != ("mail" not in event.metadata)
                assert not half, "an event that is anonymized in part"
    finally:
        store.close()


TARGETS = (
    *(("seal", step) for step in storage_steps.SEALING[:-1]),
    *(("anonymize", step) for step in storage_steps.REWRITING[:-1]),
    *(("archive", step) for step in archive_steps.MAKING),
    *(("drop", step) for step in (*storage_steps.REWRITING[:-1], *storage_steps.DROPPING[:-1])),
    ("", "retired"),
)
"""(kind of action, step); "" is any."""


def main(directory: Path) -> None:
    """Kills at every step, again and again in one store, then lets a run end."""
    control = directory / "control"
    control.mkdir()
    out = directory / "told.json"

    def undisturbed() -> None:
        populate(control)
        store = open_store(control)
        receipt = retain(store, control)
        assert receipt.complete, [(one.action.key, one.reason, one.problem) for one in receipt.results]
        while store.retired:
            store.maintain(idle=True)
        out.write_text(json.dumps(told(store)))
        store.close()

    assert forked(undisturbed) == 0, "the control run"
    expected = json.loads(out.read_text())
    expected["counts"] = [tuple(row) for row in expected["counts"]]
    hurt = directory / "hurt"
    hurt.mkdir()
    assert forked(lambda: populate(hurt)) == 0
    for number, (kind, step) in enumerate(TARGETS):
        code = forked(lambda kind=kind, step=step: killed_at(hurt, kind, step))  # type: ignore[misc]
        if code == 0:  # done already by a run that was killed later on: once more from the beginning
            for path in (hurt, directory / "hurt-archive", directory / "hurt.journal"):
                if path.exists():
                    path.rename(directory / f"{path.name}-{number}")
            hurt.mkdir()
            assert forked(lambda: populate(hurt)) == 0
            code = forked(lambda kind=kind, step=step: killed_at(hurt, kind, step))  # type: ignore[misc]
        assert code == -signal.SIGKILL, f"{kind} was never at {step}"
        assert forked(lambda: sound(hurt, expected)) == 0, (kind, step)
        print(json.dumps({"kind": kind, "step": step}), flush=True)
    end = directory / "end.json"

    def to_the_end() -> None:
        store = open_store(hurt)
        assert retain(store, hurt).complete
        assert retain(store, hurt).results == ()
        while store.retired:
            store.maintain(idle=True)
        end.write_text(json.dumps(told(store)))
        store.close()

    assert forked(to_the_end) == 0, "a run that nobody kills"
    ended = json.loads(end.read_text())
    ended["months"] = [entry for entry in ended["months"] if entry[0] != "2025-12"]
    expected["counts"] = [list(row) for row in expected["counts"]]
    assert ended == expected, (ended, expected)
    assert forked(lambda: sound(hurt, {"counts": [tuple(row) for row in expected["counts"]]})) == 0
    print(json.dumps({"kind": "", "step": "end"}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
