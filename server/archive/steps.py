"""The boundaries between the steps of work on archives, by name. Tests end the process there."""

from __future__ import annotations

PUBLISHING = ("written", "noted", "part_published", "part_verified")
SUPERSEDING = ("superseding", "published", "swept")
MAKING = ("drafted", "exported", *PUBLISHING, "compared", *SUPERSEDING)
CUTTING = ("drafted", *PUBLISHING, *SUPERSEDING)
DESTROYING = ("condemned", "unpublished", "swept")
RESTORING = ("restore_drafted", "restore_filled", "restore_published")


def reached(_step: str) -> None:
    """Does nothing. Every step is announced here by whoever has just done it."""
