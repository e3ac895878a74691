"""What a file is as long as the machine runs: what was written to it and not synced is there, for exactly as long."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def boot_id() -> str:
    """A word for this start of the machine, however often the daemon starts; "" where the system has none (proc(5))."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def this_file(path: Path) -> str:
    """A word for a file in this start of the machine, "" where there is none. A copy of it, of whatever, is another."""
    if not boot_id():
        return ""
    status = path.stat()
    return f"{boot_id()} {status.st_dev}:{status.st_ino}"
