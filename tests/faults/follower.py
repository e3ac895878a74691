"""A subscriber that can be killed: `python -m tests.faults.follower HOST:PORT FILE`.

It writes a line an event, position and id, and begins behind the last line that is there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import trackd

QUICK = trackd.Backoff(first_s=0.02, max_s=0.2)


def lines(file: Path) -> list[tuple[int, str]]:
    """What was written: positions and ids."""
    if not file.exists():
        return []
    written = [line.split() for line in file.read_text("ascii").splitlines()]
    return [(int(position), identifier) for position, identifier in written]


def follow(target: str, file: Path) -> None:
    """Until it is killed."""
    known = lines(file)
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with trackd.Client(target) as client:
        for stored in client.subscribe(after_position=known[-1][0] if known else 0, backoff=QUICK):
            # One write a line: a kill leaves none in halves.
            os.write(descriptor, f"{stored.position} {stored.event.id.hex()}\n".encode())


if __name__ == "__main__":
    follow(sys.argv[1], Path(sys.argv[2]))
