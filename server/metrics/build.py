"""What runs here."""

from __future__ import annotations

import platform
from importlib import metadata


def build_info() -> dict[str, str]:
    """The versions that a report of a defect needs."""
    return {
        "version": _version_of("trackd"),
        "python": platform.python_version(),
        "grpc": _version_of("grpcio"),
        "apsw": _version_of("apsw"),
    }


def _version_of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # run from a tree that was never installed
        return "unknown"
