"""A real Redis, in a directory of its own and on a socket in it, that can be killed and started again."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.e2e.conftest import DaemonProcess
from tests.support.serving import serving

START_S = 20.0
REQUIRED = "TRACKD_REDIS_REQUIRED"
SERVER = "redis-server"


class RedisProcess:
    """A server that loses nothing it has acknowledged: its log is on disk before it answers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Starts it and returns once it answers."""
        command = [SERVER, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.directory), "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "always", *options]
        with (self.directory / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until_s = time.monotonic() + START_S
        while True:
            with contextlib.suppress(redis.exceptions.RedisError), self.client() as client:
                client.ping()
                return
            told = (self.directory / "redis.log").read_text()[-2_000:]
            assert self.process.poll() is None, told
            assert time.monotonic() < until_s, told
            time.sleep(0.01)

    def client(self) -> Any:
        """A connection of one's own. Its answers have more types than a test wants to tell apart."""
        return redis.Redis(
            unix_socket_path=str(self.socket), protocol=2, retry=Retry(NoBackoff(), 0), decode_responses=True
        )

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session", autouse=True)
def there_is_a_redis() -> None:
    """Skipping says so; where it would hide that nothing was tested it is a failure."""
    if shutil.which(SERVER) is None:
        if os.environ.get(REQUIRED):
            pytest.fail(f"{SERVER} is not on the PATH, and {REQUIRED} is set")
        pytest.skip(f"{SERVER} is not on the PATH: install Debian's package redis-server")


@pytest.fixture
def server() -> Iterator[RedisProcess]:
    """An empty one."""
    # Not below the directory of the test: the path of a socket has at most some hundred characters.
    with tempfile.TemporaryDirectory(prefix="trackd-redis-") as directory:
        process = RedisProcess(Path(directory))
        try:
            process.start()
            yield process
        finally:
            process.kill()


@pytest.fixture
def client(server: RedisProcess) -> Iterator[Any]:
    """A connection to it."""
    with server.client() as connected:
        yield connected


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon that serves an empty directory. At the end of the test it is stopped and its data is sound."""
    with serving(tmp_path) as served:
        yield served
