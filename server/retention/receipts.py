"""Receipts as files: one a run, beside the chain of evidence in the catalog, for whoever keeps them elsewhere."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from retention.applying import Receipt


def keep(folder: Path, receipt: Receipt) -> Path:
    """Writes the receipt under a name that sorts by time, durably; where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    moment = datetime.fromtimestamp(receipt.started_ms / 1000, UTC).strftime("%Y%m%dT%H%M%S")
    path = folder / f"{moment}-{receipt.head.sequence:08d}-{receipt.plan_id[:12]}.json"
    partial = path.with_suffix(".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, receipt.json() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(path)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return path
