"""Work on an archive that is under way: what it puts somewhere is noted first, so that the next run can remove it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO

from retention.month import Month
from server.archive import places, steps
from server.archive.folders import Folder
from server.archive.manifest import Manifest, damaged, of_month


class Draft:
    """The work of one lineage. Begun again, it first removes what the last attempt left."""

    def __init__(self, folder: Folder, month: Month, lineage: str) -> None:
        self._folder = folder
        self._month = month
        self._lineage = lineage
        self._name = ""
        self._noted: list[str] = []
        self._lock = threading.Lock()

    def begin(self, name: str = "", condemned: Iterable[str] = ()) -> None:
        """From here on a crash leaves a note. `name`: of the archive that is taken apart, `condemned`: its parts."""
        sweep(self._folder, self._lineage)
        self._name = name
        self.note(*condemned)

    def create(self, bucket: int) -> IO[bytes]:
        """A file to write a part into."""
        return self._folder.create(f"{self._lineage}-{bucket:02d}.parquet")

    def note(self, *parts: str) -> None:
        """These parts are about to be, and belong to nothing unless a manifest names them."""
        with self._lock:
            self._noted += parts
            document = {"month": str(self._month), "name": self._name, "parts": self._noted}
            self._folder.write(_note(self._lineage), json.dumps(document).encode(), f"{self._lineage}.note")

    def supersede(self, manifest: Manifest) -> None:
        """Publishes a manifest; parts of an earlier one of that name that it does not name go."""
        earlier = next((one for one in of_month(self._folder, self._month) if one.name == manifest.name), None)
        if earlier is not None:
            self.note(*({part.path for part in earlier.parts} - set(self._noted)))
        steps.reached("superseding")
        self._folder.write(places.manifest(manifest.name), manifest.json(), f"{self._lineage}.manifest")
        steps.reached("published")
        self.end()

    def end(self) -> None:
        """Removes whatever no archive names in the end."""
        sweep(self._folder, self._lineage)
        steps.reached("swept")


def left_over(folder: Folder) -> list[str]:
    """The lineages of work that is under way or was never ended."""
    found = (path.rpartition("/")[2] for path in folder.names(places.DRAFTS))
    return sorted({name[:16] for name in found})


def sweep(folder: Folder, lineage: str) -> None:
    """Removes what an attempt left, unless an archive names it. Nothing may be under way there.

    Raises Corrupt(MANIFEST_DAMAGED), and removes nothing, if it cannot be told what archives of the month name.
    """
    note = _read(folder, lineage)
    if note is not None and note.parts:
        kept = {part.path for one in of_month(folder, note.month) for part in one.parts}
        for path in sorted(set(note.parts) - kept):
            folder.remove(path)
    # The note goes last.
    for path in sorted(folder.names(places.DRAFTS), key=lambda path: path == _note(lineage)):
        if path.startswith(f"{places.DRAFTS}/{lineage}"):
            folder.remove(path)


def sweep_named(folder: Folder, name: str) -> bool:
    """Goes on with taking an archive apart whose manifest is gone; whether there was anything left."""
    for lineage in left_over(folder):
        note = _read(folder, lineage)
        if note is not None and note.name == name:
            sweep(folder, lineage)
            return True
    return False


def sweep_all(folder: Folder) -> list[str]:
    """Removes what any attempt left; the lineages of those. Nothing may be under way at the target."""
    found = left_over(folder)
    for lineage in found:
        sweep(folder, lineage)
    return found


@dataclass(frozen=True, slots=True)
class _Note:
    month: Month
    name: str
    parts: tuple[str, ...]


def _read(folder: Folder, lineage: str) -> _Note | None:
    where = _note(lineage)
    content = folder.read(where)
    if content is None:
        return None
    try:
        document = json.loads(content)
        note = _Note(Month.parse(document["month"]), document["name"], tuple(map(str, document["parts"])))
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(where, f"is no note of a draft: {error}") from error
    if not all(map(places.is_part, note.parts)):
        raise damaged(where, "names what is no part")
    return note


def _note(lineage: str) -> str:
    return f"{places.DRAFTS}/{lineage}.json"
