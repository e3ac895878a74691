"""The end of an archive: its manifest goes first, so that nothing counts as one that is not whole."""

from __future__ import annotations

from server.archive import drafts, manifest, places, steps
from server.archive.drafts import Draft
from server.archive.folders import Folder


def destroy(folder: Folder, name: str) -> bool:
    """Removes the manifest and the parts of an archive, and nothing of any other; whether there was one.

    Done again after a crash it goes on where it was. What a target keeps of removed files (versions, snapshots) is the
    target's business. Raises Corrupt(MANIFEST_DAMAGED): then nobody knows which parts are its.
    """
    found = manifest.find(folder, name)
    if found is None:
        return drafts.sweep_named(folder, name)
    draft = Draft(folder, places.month_of(name), found.lineage)
    draft.begin(name, [part.path for part in found.parts])
    steps.reached("condemned")
    folder.remove(places.manifest(name))
    steps.reached("unpublished")
    draft.end()
    return True
