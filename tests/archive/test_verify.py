"""Whatever became of an archive's files is found, by its manifest alone; what is sound is called so."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retention.canonical import digest
from server.archive import manifest, places, reading, verifying
from server.archive.folders import LocalFolder
from server.archive.manifest import Manifest
from server.errors import Corrupt, NotFound, TrackdError, Unavailable
from tests.support.archives import TYPES, archived, remembering, varied


@pytest.fixture
def folder(tmp_path: Path) -> LocalFolder:
    """A target."""
    return LocalFolder(tmp_path)


@pytest.fixture
def found(folder: LocalFolder, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """An archive in it, of several parts."""
    monkeypatch.setattr("server.archive.columns.BUCKET_ROWS", 30)
    made = archived(folder, remembering(varied()))
    assert len(made.parts) == 4
    return made


def flip(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """The end is gone."""
    path.write_bytes(path.read_bytes()[:-100])


def rewrite(path: Path) -> None:
    """The same rows by another program: sound, and not what was written."""
    table = pq.read_table(path)
    pq.write_table(table, path, compression="gzip")


def _written(content: bytes, path: Path) -> None:
    path.write_bytes(content)


DAMAGES: list[Callable[[Path], None]] = [flip, cut, rewrite, Path.unlink, partial(_written, b"")]


@pytest.mark.parametrize("damage", DAMAGES, ids=["flipped", "cut", "rewritten", "missing", "empty"])
@pytest.mark.parametrize("place", [0, -1])
def test_a_damaged_part_is_found(
    tmp_path: Path, folder: LocalFolder, found: Manifest, damage: Callable[[Path], None], place: int
) -> None:
    """And named; nothing else is."""
    path = found.parts[place].path
    assert verifying.verify(folder, found) == []
    damage(tmp_path / path)
    assert [one.where for one in verifying.verify(folder, found)] == [path]


def test_exchanged_parts_are_found(tmp_path: Path, folder: LocalFolder, found: Manifest) -> None:
    """Two whole files under each other's names."""
    one, other = (tmp_path / part.path for part in found.parts[:2])
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert [problem.where for problem in verifying.verify(folder, found)] == [part.path for part in found.parts[:2]]


def forge(folder: LocalFolder, found: Manifest, **changes: object) -> Manifest:
    """The manifest with other contents and a digest that fits them, as somebody who knows how it is made writes it."""
    document = json.loads(found.json()) | changes
    del document["digest"]
    where = places.manifest(found.name)
    folder.write(where, json.dumps(document | {"digest": digest(document)}).encode(), "forged")
    return manifest.load(folder, found.name)


def test_rows_are_held_against_the_content_digest(folder: LocalFolder, found: Manifest) -> None:
    """A manifest that leaves out a part, or counts or times otherwise, is found although all its parts are sound."""
    document = json.loads(found.json())
    fewer = forge(folder, found, parts=document["parts"][:-1])
    assert "content digest" in verifying.verify(folder, fewer)[0].problem
    counts = [one | {"rows": one["rows"] + 1} for one in document["counts"]]
    assert [one.problem for one in verifying.verify(folder, forge(folder, found, counts=counts))] == [
        "has other counts by type than its parts"
    ]
    assert "times" in verifying.verify(folder, forge(folder, found, first_ms=0))[0].problem
    assert verifying.verify(folder, forge(folder, found, parts=[]))[0].problem == "names no parts"
    lied = [document["parts"][0] | {"rows": 1}, *document["parts"][1:]]
    assert "rows" in verifying.verify(folder, forge(folder, found, parts=lied))[0].problem


@pytest.mark.parametrize("damage", [flip, cut, *(partial(_written, text) for text in (b"{}", b"[]", b""))])
def test_a_damaged_manifest_is_none(
    tmp_path: Path, folder: LocalFolder, found: Manifest, damage: Callable[[Path], None]
) -> None:
    """It is named, the other archives are listed."""
    other = archived(folder, remembering(varied()), TYPES[:1])
    damage(tmp_path / places.manifest(found.name))
    with pytest.raises(Corrupt) as refused:
        manifest.load(folder, found.name)
    assert refused.value.reason == "MANIFEST_DAMAGED"
    manifests, findings = manifest.listed(folder)
    assert manifests == [other]
    assert [one.where for one in findings] == [found.name]


def test_a_manifest_under_another_name_is_none(tmp_path: Path, folder: LocalFolder, found: Manifest) -> None:
    """A copy of a file is no second archive."""
    name = f"{found.name[:-1]}{'0' if found.name[-1] != '0' else '1'}"
    (tmp_path / places.manifest(name)).write_bytes((tmp_path / places.manifest(found.name)).read_bytes())
    with pytest.raises(Corrupt):
        manifest.load(folder, name)


def test_a_manifest_of_a_later_format_is_not_guessed_at(folder: LocalFolder, found: Manifest) -> None:
    """It is refused by name."""
    with pytest.raises(Corrupt) as refused:
        forge(folder, found, format=2)
    assert refused.value.reason == "FORMAT_TOO_NEW"


def test_a_manifest_names_parts_and_nothing_else(folder: LocalFolder, found: Manifest) -> None:
    """So no document makes trackd read, or remove, any other file."""
    part = json.loads(found.json())["parts"][0] | {"path": "archive/events/../../precious.parquet"}
    with pytest.raises(Corrupt):
        forge(folder, found, parts=[part])


def test_what_is_not_there_is_said_so(folder: LocalFolder) -> None:
    """Names of no archive, and texts that are no name."""
    with pytest.raises(NotFound):
        manifest.load(folder, "2025-10-0123456789abcdef")
    for name in (
        "",
        "2025-13-0123456789abcdef",
        "0000-01-0123456789abcdef",
        "../../etc/passwd",
        "2025-10-0123456789ABCDEF",
    ):
        with pytest.raises(TrackdError) as refused:
            manifest.load(folder, name)
        assert refused.value.reason == "ARCHIVE_NAME"


def test_a_target_that_fails_is_no_damage(tmp_path: Path) -> None:
    """It may be there again later; what it said is in the message."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable) as refused:
        archived(LocalFolder(tmp_path / "file"), remembering(varied()))
    assert refused.value.reason == "ARCHIVE_TARGET"
    assert "NotADirectory" in refused.value.message or "FileExists" in refused.value.message


def test_a_manifest_that_was_changed_by_hand_is_none(tmp_path: Path, folder: LocalFolder, found: Manifest) -> None:
    """Whatever it says is covered by its own digest."""
    path = tmp_path / places.manifest(found.name)
    text = path.read_text("utf-8")
    assert text.count('"whole": true') == 1
    path.write_text(text.replace('"whole": true', '"whole": false'), "utf-8")
    with pytest.raises(Corrupt) as refused:
        manifest.load(folder, found.name)
    assert "changed" in refused.value.message


def test_a_part_must_be_as_others_rely_on(folder: LocalFolder, found: Manifest) -> None:
    """Sorted, in its own bucket, with the same time in both columns, with the columns that archives have."""
    part = found.parts[0]
    with folder.fetch(part.path) as file:
        rows = reading.rows_of(file, part.path)
    assert reading.content_of(rows, "x", part.bucket, found.buckets).rows == part.rows
    exchanged = rows.take([1, 0, *range(2, part.rows)])
    timeless = rows.set_column(
        rows.schema.get_field_index("time"), "time", pa.array([0] * part.rows, pa.timestamp("ms", "UTC"))
    )
    wrongs = ((exchanged, part.bucket, "sorted"), (rows, part.bucket + 1, "bucket"), (timeless, part.bucket, "times"))
    for wrong, bucket, word in wrongs:
        with pytest.raises(Corrupt, match=word):
            reading.content_of(wrong, "x", bucket, found.buckets)
    with folder.create("other") as file:
        pq.write_table(rows.drop_columns(["tags"]), file)
        with pytest.raises(Corrupt, match="columns"):
            reading.open_part(file, "x")
