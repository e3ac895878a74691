"""Whether an archive is still what was written: looked at part by part, with nothing but its manifest."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from server.archive import parts, reading
from server.archive.folders import Folder
from server.archive.manifest import Manifest, Part
from server.archive.reading import Content
from server.archive.storing import summed
from server.errors import Corrupt
from server.model import Finding
from server.rewriting import Heard

WORKERS = 2


@dataclass(frozen=True, slots=True)
class _Looked:
    """One part: what it holds, or what is wrong with it."""

    part: Part
    content: Content | None
    problem: str = ""


def verify(folder: Folder, manifest: Manifest, heard: Heard | None = None) -> list[Finding]:
    """Reads every part and compares it with the manifest; empty means sound. Memory: two parts.

    Finds parts that are missing, cut off, changed or exchanged; rows that are not those of the content digest, whatever
    file they are in. `heard` is told how many rows are done. Raises Unavailable(ARCHIVE_TARGET).
    """
    findings: list[Finding] = []
    contents: list[tuple[int, Content]] = []
    done = 0
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="trackd-verify") as pool:
        for looked in pool.map(lambda part: _look(folder, manifest, part), manifest.parts):
            if looked.content is None:
                findings.append(Finding(looked.part.path, looked.problem))
            else:
                contents.append((looked.part.bucket, looked.content))
            done += looked.part.rows
            if heard is not None:
                heard(done)
    return findings or list(_differences(manifest, contents))


def _look(folder: Folder, manifest: Manifest, part: Part) -> _Looked:
    try:
        with folder.fetch(part.path) as file:
            sha256 = parts.sha256_of(file)
            size = file.tell()
            if (sha256, size) != (part.sha256, part.bytes):
                return _Looked(part, None, f"is not what was written: {size} of {part.bytes} bytes, or other ones")
            content = reading.content_of(reading.rows_of(file, part.path), part.path, part.bucket, manifest.buckets)
    except Corrupt as error:
        return _Looked(part, None, error.message)
    if content.rows != part.rows:
        return _Looked(part, None, f"has {content.rows} rows, and {part.rows} were written")
    return _Looked(part, content)


def _differences(manifest: Manifest, contents: list[tuple[int, Content]]) -> Iterator[Finding]:
    """What all parts together say otherwise than the manifest."""
    if not contents:
        yield Finding(manifest.name, "names no parts")
        return
    found = summed(contents, manifest.buckets)
    if found.bucket_digests != manifest.bucket_digests:
        yield Finding(manifest.name, "the rows of its parts are not those of its content digest")
    if found.counts != manifest.counts:
        yield Finding(manifest.name, "has other counts by type than its parts")
    if (found.first_ms, found.last_ms) != (manifest.first_ms, manifest.last_ms):
        yield Finding(manifest.name, "has other times of its first and last event than its parts")
