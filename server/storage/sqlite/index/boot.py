"""Which start of the machine this is: what was written and not synced is there until the next one."""

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
