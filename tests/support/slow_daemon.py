"""A daemon on a disk that is slow while a file exists: `python -m tests.support.slow_daemon DIRECTORY`.

The file says how many seconds a commit takes longer; an empty one means DELAY_S.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from server.config import load
from server.daemon import Daemon
from server.errors import TrackdError
from server.model import Appended, Batch
from server.security.guards import Guards
from server.storage.sqlite.store import SqliteStore
from server.supervisor import Supervisor

DELAY_S = 0.4
"""More than the default objective allows for an acknowledgement."""
START_S = 30.0
CONFIG, READY, SLOW = "trackd.toml", "ready.json", "slow"


class SlowStore(SqliteStore):
    """Takes its time for each group of batches while it is told to."""

    slow: Path

    def append(self, batches: Sequence[Batch]) -> Sequence[Appended | TrackdError]:
        """As ever, later."""
        with suppress(FileNotFoundError):
            time.sleep(float(self.slow.read_text("ascii") or DELAY_S))
        return super().append(batches)


@contextmanager
def slow_daemon(directory: Path, settings: str = "") -> Iterator[tuple[dict[str, str], Path]]:
    """(addresses, the file that makes its disk slow). `settings` in TOML."""
    (directory / CONFIG).write_text(settings, "utf-8")
    ready = directory / READY
    command = [sys.executable, "-m", "tests.support.slow_daemon", str(directory)]
    with (directory / "daemon.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        end = time.monotonic() + START_S
        while not ready.exists():
            assert process.poll() is None, (directory / "daemon.log").read_text("utf-8")
            assert time.monotonic() < end
            time.sleep(0.02)
        yield json.loads(ready.read_text("utf-8")), directory / SLOW
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert process.returncode == 0, (directory / "daemon.log").read_text("utf-8")


def main(directory: Path) -> int:
    """Serves on free ports until it is told to stop."""
    data = directory / "data"
    free = {"data": str(data), "listen.grpc": "127.0.0.1:0", "listen.metrics": "127.0.0.1:0"}
    config = load(directory / CONFIG, free)
    store = SlowStore(data, config.storage, config.query, months_max=config.limits.months_max)
    store.slow = directory / SLOW

    def announce(daemon: Daemon) -> None:
        ready = directory / READY
        partial = ready.with_suffix(".partial")
        partial.write_text(json.dumps({"grpc": daemon.rpc.address, "metrics": daemon.exporter.address}), "utf-8")
        partial.replace(ready)

    async def run() -> int:
        supervisor = Supervisor(os.environ, pid=os.getpid())
        return await Daemon(config, store, Guards(config), lambda: config, supervisor=supervisor).run(announce)

    return asyncio.run(run())


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
