"""A daemon on a disk that is slow while a file exists: `python -m tests.support.slow_daemon DATA READY SLOW`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from server.config import load
from server.daemon import Daemon
from server.errors import TrackdError
from server.model import Appended, Batch
from server.storage.sqlite.store import SqliteStore

DELAY_S = 0.4
"""More than the default objective allows for an acknowledgement."""


class SlowStore(SqliteStore):
    """Takes its time for each group of batches while it is told to."""

    slow: Path

    def append(self, batches: Sequence[Batch]) -> Sequence[Appended | TrackdError]:
        """As ever, later."""
        if self.slow.exists():
            time.sleep(DELAY_S)
        return super().append(batches)


def main(data: Path, ready: Path, slow: Path) -> int:
    """Serves on free ports until it is told to stop."""
    free = {"data": str(data), "listen.grpc": "127.0.0.1:0", "listen.metrics": "127.0.0.1:0"}
    config = load(None, free)
    store = SlowStore(data, config.storage, config.query, months_max=config.limits.months_max)
    store.slow = slow

    def announce(daemon: Daemon) -> None:
        partial = ready.with_suffix(".partial")
        partial.write_text(json.dumps({"grpc": daemon.rpc.address, "metrics": daemon.exporter.address}), "utf-8")
        partial.replace(ready)

    async def run() -> int:
        return await Daemon(config, store).run(announce)

    return asyncio.run(run())


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
