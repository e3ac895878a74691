"""What an archive says of itself: a JSON document. No names of people are in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from retention.canonical import digest
from retention.facts import RAW, Copy, CopyKind
from retention.month import Month
from server.archive import places
from server.archive.folders import Folder
from server.errors import Corrupt, NotFound, TrackdError
from server.model import Finding
from server.rewriting import Selection
from server.storage.digest import BUCKETS, root_of

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Part:
    """One file of rows."""

    path: str
    bucket: int
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Counted:
    """Rows of one type and form."""

    type: str
    form: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An archive. Fields are those of the document."""

    format: int = FORMAT
    name: str
    lineage: str
    """See places.lineage."""
    month: str
    generation: int
    month_digest: str
    """The content of the sealed month that the rows are from."""
    types: tuple[str, ...]
    forms: tuple[str, ...]
    """Which rows were asked for."""
    target: str
    """The name of the target in the policy."""
    counts: tuple[Counted, ...]
    """What is in it, by type and form."""
    first_ms: int
    last_ms: int
    columns: dict[str, str]
    """Name -> type, as Arrow calls it."""
    buckets: int
    """Into how many the users are hashed: a power of two, up to 64."""
    parts: tuple[Part, ...]
    bucket_digests: tuple[str, ...]
    """Of the rows, in the 64 buckets of server.storage.digest."""
    content_digest: str
    """Made of those. If all rows of a month are in the archive, it is that of the month."""
    anonymous: bool
    """The rows were labelled anonymous when they were archived."""
    whole: bool = True
    """It has all that it was made with; False once it was cut down to held rows."""
    plan_id: str
    created_ms: int
    versions: dict[str, str]

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(part.rows for part in self.parts)

    @property
    def stored_bytes(self) -> int:
        """Of all parts."""
        return sum(part.bytes for part in self.parts)

    @property
    def selection(self) -> Selection:
        """Which rows were asked for."""
        return Selection(self.types, self.forms)

    def json(self) -> bytes:
        """The document, with a digest over itself."""
        content = msgspec.to_builtins(self)
        return json.dumps(content | {"digest": digest(content)}, indent=1, ensure_ascii=False).encode() + b"\n"

    def copy(self) -> Copy:
        """What retention has to know of it. It was read back, or there would be no manifest."""
        return Copy(
            kind=CopyKind.ARCHIVE,
            name=self.name,
            types=tuple(sorted({one.type for one in self.counts})),
            rows=self.rows,
            bytes=self.stored_bytes,
            created_ms=self.created_ms,
            target=self.target,
            complete=all(one.form == RAW for one in self.counts),
            anonymous=self.anonymous,
            whole=self.whole,
            verified=True,
        )


def parse(content: bytes, where: str) -> Manifest:
    """The manifest of a document. Corrupt(MANIFEST_DAMAGED) if it is none, or was changed."""
    try:
        document = json.loads(content)
        written = document.pop("digest")
        if document["format"] != FORMAT:
            raise Corrupt(
                "FORMAT_TOO_NEW",
                f"{where} has format {document['format']}; this trackd knows {FORMAT}",
                hint="use the trackd that wrote it, or a newer one",
            )
        manifest = msgspec.convert(document, Manifest)
        sound = (
            digest(document) == written
            and places.manifest(manifest.name) == where
            and root_of(manifest.bucket_digests) == manifest.content_digest
            and len(manifest.bucket_digests) == BUCKETS
            and all(places.is_part(part.path) for part in manifest.parts)
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(where, f"is no manifest: {error}") from error
    if not sound:
        raise damaged(where, "was changed since it was written")
    return manifest


def damaged(where: str, problem: str) -> Corrupt:
    """A manifest that cannot be believed."""
    return Corrupt(
        "MANIFEST_DAMAGED", f"{where} {problem}", hint="bring it back from a copy of the target; nothing was changed"
    )


def find(folder: Folder, name: str) -> Manifest | None:
    """The manifest of an archive; None if there is none."""
    where = places.manifest(name)
    content = folder.read(where)
    return None if content is None else parse(content, where)


def load(folder: Folder, name: str) -> Manifest:
    """The manifest of an archive. NotFound(ARCHIVE_UNKNOWN), Corrupt(MANIFEST_DAMAGED)."""
    manifest = find(folder, name)
    if manifest is None:
        raise NotFound(
            "ARCHIVE_UNKNOWN", f"{folder} has no archive {name}", hint="trackd archive list shows what there is"
        )
    return manifest


def of_month(folder: Folder, month: Month) -> list[Manifest]:
    """The archives of a month, by name. Corrupt(MANIFEST_DAMAGED) if one of them cannot be read."""
    return [load(folder, name) for name in names(folder) if name.startswith(f"{month}-")]


def names(folder: Folder) -> list[str]:
    """The names of all archives there are, sorted."""
    found = (path.rpartition("/")[2].removesuffix(".json") for path in folder.names(places.MANIFESTS))
    return sorted(found)


def listed(folder: Folder) -> tuple[list[Manifest], list[Finding]]:
    """All archives, by name, and what is wrong with the manifests of others."""
    manifests: list[Manifest] = []
    findings: list[Finding] = []
    for name in names(folder):
        try:
            manifests.append(load(folder, name))
        except TrackdError as error:
            findings.append(Finding(name, error.message))
    return manifests, findings


def strays(folder: Folder, manifests: Sequence[Manifest]) -> list[str]:
    """Files below the target that belong to none of the archives: left over, or not trackd's."""
    known = {part.path for one in manifests for part in one.parts} | {places.manifest(one.name) for one in manifests}
    return [path for path in folder.names("archive") if path not in known]
