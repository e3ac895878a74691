"""What was archived is what was stored, whatever it is; the same rows make the same archive; archives share nothing."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retention.facts import RAW, CopyKind
from server.archive import lines, manifest, parts, reading, verifying
from server.archive.columns import bucket_count, exported_of, folded
from server.archive.folders import Folder, LocalFolder, open_folder
from server.archive.lines import lines_of, odd_lines_of
from server.archive.making import make
from server.errors import Corrupt, Precondition
from server.model import Action, Change, ChangeStatus, Event
from server.storage.contract import SealedRows
from server.storage.digest import BUCKETS, digest_of, line_of
from tests.contract.test_export import told
from tests.support.archives import (
    OCTOBER,
    TYPES,
    archived,
    assert_tidy,
    files,
    made,
    remembering,
    stored_in,
    varied,
    wanted,
)
from tests.support.events import Sent, make_event, make_id
from tests.support.retaining import KEEP, events_of, profile, rewrite, sealed_rows


def read_back(folder: Folder, found: manifest.Manifest) -> list[Any]:
    """All rows of an archive, in the order of positions."""
    rows = [row for batch in reading.batches(folder, found) for row in told([exported_of(batch)])]
    return sorted(rows, key=lambda row: row[0])


def expected(events: list[Event], form: str = RAW) -> list[Any]:
    """The same of events."""
    from server.storage.exported import exported_of as columns_of

    return list(told([columns_of(events, [form] * len(events))]))


def sents(text: st.SearchStrategy[str], most: int) -> st.SearchStrategy[list[Sent]]:
    """Events whose texts are such."""
    change = st.builds(
        Change, text, text, st.sampled_from(Action), VALUES, VALUES, st.sampled_from(ChangeStatus),
        st.none() | st.integers(0, 2**62),
    )  # fmt: skip
    sent = st.builds(
        Sent,
        id=st.binary(min_size=16, max_size=16),
        timestamp_ms=st.integers(OCTOBER.start_ms, OCTOBER.end_ms - 1),
        type=st.sampled_from(TYPES),
        user_id=text,
        session_id=text,
        client_ip=text,
        description=text,
        tags=st.lists(text, max_size=3).map(tuple),
        metadata=VALUES,
        change=st.none() | change,
    )
    return st.lists(sent, min_size=1, max_size=most, unique_by=lambda one: one.id)


VALUES = st.sampled_from(["", "{}", '{"a":"\\u0000é"}', '{"n": 1.50, "deep": {"x": ["\\"", "\\\\"]}}'])
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
PLAIN = st.text(st.sampled_from('ab"\\é\x7f\u2028\U0001f600'), max_size=6)
"""Without control characters: such lines are written another way."""


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sents(ANY, 25))
def test_any_events_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, sent: list[Sent]) -> None:
    """Control characters, quotes and texts beyond the first plane in every field; nobody's events too."""
    folder = LocalFolder(tmp_path_factory.mktemp("target"))
    store = remembering(sent)
    found = archived(folder, store)
    events = events_of(store, OCTOBER)
    assert read_back(folder, found) == expected(events)
    assert found.content_digest == digest_of(events)
    assert verifying.verify(folder, found) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sents(ANY, 12) | sents(PLAIN, 12))
def test_lines_are_those_of_the_digest(tmp_path_factory: pytest.TempPathFactory, sent: list[Sent]) -> None:
    """The quick way and the one for odd texts write, to the byte, what the definition says."""
    folder = LocalFolder(tmp_path_factory.mktemp("target"))
    store = remembering(sent)
    found = archived(folder, store)
    by_position = {event.position: line_of(event) for event in events_of(store, OCTOBER)}
    for part in found.parts:
        with folder.fetch(part.path) as file:
            rows = reading.rows_of(file, part.path)
        lines = [by_position[position] for position in rows["position"].to_pylist()]
        assert odd_lines_of(rows) == lines
        assert bytes(lines_of(rows)) == b"\n".join(lines)


@pytest.mark.parametrize("left_out", ["tags", "metadata", "description", "change"])
def test_only_control_characters_take_the_slow_way(
    left_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which holds the interpreter lock for each row. That no event has a field at all is nothing odd."""
    folder = LocalFolder(tmp_path)
    plain: dict[str, Any] = {"tags": ("a",), "metadata": '{"n":1}', "description": "d", "change": None} | {
        left_out: EMPTY[left_out]
    }
    found = archived(
        folder, remembering([make_event(number, str(OCTOBER), type=TYPES[0], **plain) for number in range(3)])
    )

    def slow(_rows: object) -> list[bytes]:
        raise AssertionError("there is nothing odd")

    monkeypatch.setattr(lines, "odd_lines_of", slow)
    for part in found.parts:
        with folder.fetch(part.path) as file:
            assert lines_of(reading.rows_of(file, part.path))


EMPTY: dict[str, object] = {"tags": (), "metadata": "", "description": "", "change": None}


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """A local target, and one that only fsspec knows."""
    return open_folder(str(tmp_path / "target") if request.param == "local" else f"memory://{tmp_path.name}/target")


def test_an_archive_of_the_embedded_engine(folder: Folder, tmp_path: Path) -> None:
    """Of all rows: its digest is that of the month, its counts are those of the store, and nothing else lies there."""
    with stored_in(tmp_path / "data", varied(400)) as store:
        heard: list[int] = []
        found = made(folder, store, wanted(store), heard=heard.append)
        events = events_of(store, OCTOBER)
        with_digest = store.reader()
        assert found.content_digest == with_digest.stocks(OCTOBER).digest
        with_digest.close()
    assert read_back(folder, found) == expected(events)
    assert {one.type: one.rows for one in found.counts} == Counter(event.type for event in events)
    assert (found.first_ms, found.last_ms) == (
        min(event.timestamp_ms for event in events),
        max(event.timestamp_ms for event in events),
    )
    assert heard[-1] == len(events)
    assert heard == sorted(heard)
    assert assert_tidy(folder) == [found]
    assert manifest.load(folder, found.name) == found


def test_a_manifest_speaks_of_no_person(tmp_path: Path) -> None:
    """What it says beside counts are digests and codes."""
    folder = LocalFolder(tmp_path)
    found = archived(folder, remembering(varied()))
    text = found.json().decode()
    assert not [name for name in ("ann", "ben", "李雷", "user-1") if f'"{name}' in text]
    copy = found.copy()
    assert (copy.kind, copy.types, copy.rows, copy.target) == (CopyKind.ARCHIVE, TYPES, 90, "local")
    assert (copy.verified, copy.whole, copy.complete, copy.anonymous) == (True, True, True, False)


def test_the_same_rows_make_the_same_archive(tmp_path: Path) -> None:
    """Also by another engine, and beside one that is there: names and bytes of all parts."""
    one, other = LocalFolder(tmp_path / "one"), LocalFolder(tmp_path / "other")
    first = archived(one, remembering(varied()))
    parts = files(one)
    assert archived(one, remembering(varied())).parts == first.parts
    assert files(one) == parts
    with stored_in(tmp_path / "data", varied()) as store:
        second = archived(other, store)
    assert (second.name, second.parts) == (first.name, first.parts)


def test_archives_of_a_month_share_nothing(tmp_path: Path) -> None:
    """Other types, another target of the same place, a type more that has no rows: each has parts of its own."""
    folder = LocalFolder(tmp_path)
    store = remembering(varied())
    found = [
        archived(folder, store),
        archived(folder, store, TYPES[:1]),
        archived(folder, store, target="other"),
        archived(folder, store, (*TYPES, "unheard-of")),
    ]
    paths = [part.path for one in found for part in one.parts]
    assert len(set(paths)) == len(paths)
    assert len({one.name for one in found}) == len(found)
    assert len(assert_tidy(folder)) == len(found)
    assert found[1].counts == (manifest.Counted(TYPES[0], RAW, 30),)


def test_rows_keep_their_form(tmp_path: Path) -> None:
    """What went through a profile is archived as such, and is no complete copy."""
    folder = LocalFolder(tmp_path / "target")
    with stored_in(tmp_path / "data", varied()) as store:
        how = profile(user_id=KEEP)
        rewrite(store, OCTOBER, how, TYPES)
        found = made(folder, store, wanted(store, forms=(how.digest,)))
        events = events_of(store, OCTOBER)
    assert read_back(folder, found) == expected(events, how.digest)
    assert not found.copy().complete


@pytest.mark.parametrize(("rows", "size", "buckets"), [(1, 1, 1), (131_072, 1, 1), (131_073, 1, 2), (10**9, 1, 64)])
def test_a_month_has_as_many_buckets_as_it_deserves(rows: int, size: int, buckets: int) -> None:
    """A power of two, one for a small month; each holds neighbours among the buckets of digests."""
    assert bucket_count(rows, size) == buckets
    assert bucket_count(1, buckets * 64 * 1024 * 1024) == buckets
    folds = [folded(bucket, buckets) for bucket in range(BUCKETS)]
    assert folds == sorted(folds)
    assert set(folds) == set(range(buckets))


def test_many_buckets_and_row_groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A month that is cut into all 64 buckets, and parts that have several row groups."""
    monkeypatch.setattr("server.archive.columns.BUCKET_ROWS", 4)
    monkeypatch.setattr("server.archive.parts.GROUP_ROWS", 7)
    monkeypatch.setattr("server.archive.parts.PARTITION_ROWS", 100)
    monkeypatch.setattr("server.archive.reading.LINES_ROWS", 5)
    monkeypatch.setattr("server.storage.sqlite.export.WINDOW_ROWS", 60)
    folder = LocalFolder(tmp_path / "target")
    events = [make_event(number, "2025-10", number, user_id=f"u{number % 83}", type="opened") for number in range(700)]
    with stored_in(tmp_path / "data", events) as store:
        found = archived(folder, store)
        stored = events_of(store, OCTOBER)
    assert found.buckets == BUCKETS
    assert len(found.parts) > 40
    assert read_back(folder, found) == expected(stored)
    assert verifying.verify(folder, found) == []


def test_nothing_to_archive_is_no_archive(tmp_path: Path) -> None:
    """It is refused, and nothing lies there."""
    folder = LocalFolder(tmp_path)
    with pytest.raises(Precondition) as refused:
        archived(folder, remembering(varied()), ["unheard-of"])
    assert refused.value.reason == "ARCHIVE_EMPTY"
    assert files(folder) == {}


def test_rows_that_change_on_their_way_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Reading back compares with what is stored, not with what was written."""
    folder = LocalFolder(tmp_path)
    store = remembering([make_event(1, "2025-10", type="opened", user_id="ann", description="as it was")])
    written = parts.write

    def distorted(file: Any, groups: Any, lineage: str) -> None:
        import pyarrow as pa

        changed = [
            rows.set_column(
                rows.schema.get_field_index("description"),
                rows.schema.field("description"),
                pa.array(["as it is"], pa.large_string()),
            )
            for rows in groups
        ]
        written(file, changed, lineage)

    monkeypatch.setattr("server.archive.parts.write", distorted)
    with pytest.raises(Corrupt) as refused:
        archived(folder, store)
    assert refused.value.reason == "ARCHIVE_DIFFERS"
    assert files(folder) == {}


def test_what_hears_of_progress_can_end_it(tmp_path: Path) -> None:
    """Then there is no archive and nothing else; begun again, there is."""
    folder = LocalFolder(tmp_path)
    store = remembering(varied())

    def enough(rows: int) -> None:
        raise ZeroDivisionError(rows)

    with pytest.raises(ZeroDivisionError):
        made(folder, store, wanted(store), heard=enough)
    assert files(folder) == {}
    assert archived(folder, store).rows == 90


def test_ids_are_sixteen_bytes(tmp_path: Path) -> None:
    """And times are there for people, too."""
    import pyarrow.parquet as pq

    folder = LocalFolder(tmp_path)
    found = archived(folder, remembering([make_event(7, "2025-10", 86_400_000, type="opened")]))
    with folder.fetch(found.parts[0].path) as file:
        (row,) = pq.read_table(file).to_pylist()
    assert row["id"] == make_id(7)
    assert row["time"].isoformat() == "2025-10-02T00:00:00+00:00"
    assert (row["metadata"], row["table_name"], row["session_id"], row["tags"]) == (None, None, "", [])


def test_it_goes_no_faster_than_who_hears_of_it_likes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """While that one waits, the digest of what is stored is not computed far ahead."""
    monkeypatch.setattr("server.in_step.AHEAD_ROWS", 20)
    monkeypatch.setattr("server.storage.sqlite.export.WINDOW_ROWS", 10)
    monkeypatch.setattr("server.storage.sqlite.content_digest.WINDOW_ROWS", 10)
    ahead: list[int] = []
    digested = 0

    class Watched(SealedRows):
        """Says how far its digest is."""

        def __init__(self, stored: SealedRows) -> None:
            self._stored = stored

        def export(self, rows: Any) -> Any:
            return self._stored.export(rows)

        def content_digest(self, rows: Any, heard: Any = None) -> Any:
            def told(rows_done: int) -> None:
                nonlocal digested
                digested = rows_done
                heard(rows_done)

            return self._stored.content_digest(rows, told)

    def slow(rows: int) -> None:
        time.sleep(0.02)
        ahead.append(digested - 2 * rows)

    with stored_in(tmp_path / "data", varied(200)) as store, sealed_rows(store, OCTOBER) as stored:
        make(LocalFolder(tmp_path / "target"), Watched(stored), wanted(store), heard=slow)
    assert digested == 200
    assert max(ahead) <= 30
