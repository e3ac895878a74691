"""The power fails at any moment: unsynced writes are dropped, reordered and torn; what was acknowledged is there."""

from __future__ import annotations

import os
import random
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from retention.month import Month
from server.question import Field, FieldKind, Metric, MetricKind, Question
from server.storage.sqlite.index import boot, folder
from server.storage.sqlite.layout import Layout
from server.storage.sqlite.store import SqliteStore
from tests.faults.history import SETTINGS, assert_kept, batches, groups
from tests.support.answers import rows
from tests.support.events import Sent, read
from tests.support.faulty_disk import faulty_disk
from tests.support.recorded_disk import RecordedDisk, Step, after_power_loss, recorded_disk

CRASHES = int(os.environ.get("TRACKD_CRASHES", "60"))
SEED = int(os.environ.get("TRACKD_SEED", "23"))


def live(root: Path, monkeypatch: pytest.MonkeyPatch, *, indexed: bool = False) -> list[Step]:
    """A life of a store, closed in between, as its disk saw it; each group is promised when it is acknowledged.

    `indexed`: each group is indexed, and all indexes are put on disk now and then.
    """
    with recorded_disk(root) as disk, monkeypatch.context() as patch:
        patch.setattr(Layout, "publish", _recorded_publish(disk))
        patch.setattr(boot, "boot_id", lambda: "before the power failed")
        patch.setattr(Path, "rename", _recorded_rename(disk))
        patch.setattr(folder, "SYNC_AFTER_S", 0.0 if indexed else 60.0)
        store = SqliteStore(root, SETTINGS, months_max=10)
        for number, group in enumerate(groups()):
            store.append(batches(group))
            disk.promised(number)
            if indexed:
                assert store.settle()
            store.maintain(idle=True)
            if number == 2:
                store.close()
                store = SqliteStore(root, SETTINGS, months_max=10)
        store.close()
        return disk.steps


def _recorded_publish(disk: RecordedDisk) -> object:
    real = Layout.publish

    def publish(layout: Layout, month: Month, generation: int) -> None:
        directory = layout.generation(month, generation)
        real(layout, month, generation)
        disk.published(directory.with_suffix(".draft"), directory)

    return publish


def _recorded_rename(disk: RecordedDisk) -> object:
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.is_file():
            disk.renamed(path, target)
        return real(path, target)

    return rename


def lay_out(root: Path, files: dict[str, bytes], steps: list[Step]) -> None:
    """Makes the directory that is found."""
    (root / "months").mkdir(parents=True)
    for step in steps:
        if step.kind == "publish":
            (root / step.data.decode()).mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def promised(steps: list[Step]) -> list[Sent]:
    """All events of groups that were acknowledged."""
    numbers = {step.offset for step in steps if step.kind == "promise"}
    return [event for number in numbers for _source, events, _atomic in groups()[number] for event in events]


def test_nothing_acknowledged_is_lost_when_the_power_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At moments spread over a whole life, each with another part of the unsynced writes: opened, complete, sound."""
    steps = live(tmp_path / "life", monkeypatch)
    rng = random.Random(SEED)
    moments = sorted(rng.sample(range(1, len(steps) + 1), min(CRASHES, len(steps))))
    print(f"seed {SEED}: {len(steps)} steps, {len(moments)} moments")
    assert {step.kind for step in steps} >= {"write", "truncate", "sync", "delete", "publish", "promise"}
    with faulty_disk():
        for moment in moments:
            seed = rng.randrange(1 << 30)
            print(f"power loss behind step {moment}, seed {seed}")
            root = tmp_path / f"{moment}"
            lay_out(root, after_power_loss(steps[:moment], seed), steps[:moment])
            assert_kept(root, promised(steps[:moment]))


def test_an_index_that_was_not_on_disk_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not synced while events come in: what is left of it may look whole, and be wrong."""
    steps = live(tmp_path / "life", monkeypatch, indexed=True)
    rng = random.Random(SEED)
    written = [number for number, step in enumerate(steps, 1) if "index" in step.path]
    kept = 0
    for moment in sorted(rng.sample(written, min(CRASHES // 2, len(written)))):
        seed = rng.randrange(1 << 30)
        print(f"power loss behind step {moment}, seed {seed}")
        root = tmp_path / f"{moment}"
        lay_out(root, after_power_loss(steps[:moment], seed), steps[:moment])
        found = {path.name for path in root.glob("months/*/*/index-*.db")}
        assert_answers_are_those_of_the_events(root)
        kept += "index-0001.db" in found and not list(root.glob("months/*/*/index-0002.db"))
        assert_kept(root, promised(steps[:moment]))
    assert kept, "none of them was ever on disk"


def assert_answers_are_those_of_the_events(root: Path) -> None:
    """By type and by user, from the first question on, and when all indexes are there again."""
    store = SqliteStore(root, SETTINGS, months_max=10)
    try:
        events = read(store)
        with closing(store.reader()) as reader:
            for settled in (False, True):
                assert not settled or store.settle()
                for kind, field in ((FieldKind.TYPE, "type"), (FieldKind.USER, "user_id")):
                    question = Question((Metric(MetricKind.EVENTS),), (Field(kind),))
                    table = reader.aggregate([question]).tables[0]
                    expected = Counter(getattr(event, field) for event in events)
                    assert {row[0]: row[-1] for row in rows(table)} == expected
        assert list(store.check()) == []
    finally:
        store.close()


def test_the_imagined_disk_keeps_what_is_synced_and_nothing_else_for_sure() -> None:
    """The model itself: synced bytes always, others sometimes, torn at sectors."""
    steps = [Step("write", "f", 0, b"a" * 1_024), Step("sync", "f"), Step("write", "f", 0, b"b" * 1_024)]
    found = [after_power_loss(steps, seed)["f"] for seed in range(200)]
    sectors = {(whole[:512], whole[512:]) for whole in found}
    assert sectors == {(one * 512, other * 512) for one in (b"a", b"b") for other in (b"a", b"b")}
    created = [after_power_loss(steps[:1], seed).get("f") for seed in range(200)]
    assert None in created
    assert b"a" * 1_024 in created
    gone = [Step("delete", "f"), Step("delete", "f", durable=True)]
    assert {"f" in after_power_loss([*steps[:2], gone[0]], seed) for seed in range(50)} == {False, True}
    assert {"f" in after_power_loss([*steps[:2], gone[1]], seed) for seed in range(50)} == {False}
