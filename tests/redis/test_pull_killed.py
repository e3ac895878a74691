"""SIGKILL of the puller, the daemon or Redis at random moments while entries come in: each is stored once."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.e2e.conftest import DaemonProcess
from tests.redis.conftest import RedisProcess
from tests.redis.pulling import GROUP, PATIENCE_S, STREAM, Running, assert_all_stored, told, until

KILLS = int(os.environ.get("TRACKD_PULL_KILLS", "3"))
"""For a long run set it to 30."""
SEED = int(os.environ.get("TRACKD_SEED", "31"))
QUICKLY = ("--batch", "20", "--claim-idle", "0.5")
"""Small batches, so that many are under way when somebody dies."""

pytestmark = pytest.mark.timeout(120 + 15 * KILLS)


class Producer(threading.Thread):
    """Adds entries until it is told to stop, and remembers those that Redis has taken. Waits while it is away."""

    def __init__(self, server: RedisProcess) -> None:
        super().__init__(name="producer", daemon=True)
        self._server = server
        self.stopping = threading.Event()
        self.added: list[str] = []

    def run(self) -> None:
        """Some entries at once, of both forms."""
        first = 0
        while not self.stopping.is_set():
            try:
                with self._server.client() as client, client.pipeline(transaction=False) as pipeline:
                    for number in range(first, first + 20):
                        line = f'{{"type": "t", "user": "user-{number % 7}", "data": {{"n": {number}}}}}'
                        fields = {"type": "u", "user_id": str(number % 7), "metadata": f'{{"n": {number}}}'}
                        pipeline.xadd(STREAM, {"event": line} if number % 2 else fields)
                    self.added += pipeline.execute()
                first += 20
            except redis.exceptions.ConnectionError:
                pass
            self.stopping.wait(0.005)


@contextmanager
def producing(server: RedisProcess) -> Iterator[Producer]:
    """Meanwhile entries are added."""
    producer = Producer(server)
    producer.start()
    try:
        yield producer
    finally:
        producer.stopping.set()
        producer.join(PATIENCE_S)


def given(server: RedisProcess) -> str:
    """The last entry that the group has given to anybody."""
    try:
        with server.client() as client:
            last: str = client.xinfo_groups(STREAM)[0]["last-delivered-id"]
            return last
    except (redis.exceptions.RedisError, IndexError):
        return ""


def until_more_is_given(server: RedisProcess) -> None:
    """Waits until something is under way."""
    before = given(server)
    until(lambda: given(server) not in (before, ""), f"nothing behind {before}")


def settled(server: RedisProcess, client: Any, daemon: DaemonProcess, producer: Producer) -> int:
    """Brings the rest to its end, and counts what there is: at least all that Redis had taken."""
    assert told(server, daemon, *QUICKLY, "--until-idle", "1.5")["refused"] == 0
    count = assert_all_stored(client, daemon)
    assert set(producer.added) <= {identifier for identifier, _ in client.xrange(STREAM)}
    assert count >= len(producer.added) > 20
    return count


def test_a_puller_that_is_killed_again_and_again(
    server: RedisProcess, client: Any, daemon: DaemonProcess, tmp_path: Path
) -> None:
    """Under changing names, so that others have to take over what it left behind."""
    print(f"seed {SEED}, {KILLS} kills")
    chance = random.Random(SEED)
    with producing(server) as producer:
        for _ in range(KILLS):
            running = Running(server, daemon, tmp_path / "log", *QUICKLY, "--consumer", chance.choice("ab"))
            try:
                until_more_is_given(server)
                time.sleep(chance.uniform(0, 0.3))
            finally:
                running.kill()
    print(settled(server, client, daemon, producer), "entries")


def test_a_daemon_that_is_killed_again_and_again(
    server: RedisProcess, client: Any, daemon: DaemonProcess, tmp_path: Path
) -> None:
    """Under a puller that goes on by itself, and ends well."""
    print(f"seed {SEED}, {KILLS} kills")
    chance = random.Random(SEED)
    with producing(server) as producer:
        running = Running(server, daemon, tmp_path / "log", *QUICKLY)
        try:
            for _ in range(KILLS):
                until_more_is_given(server)
                time.sleep(chance.uniform(0, 0.3))
                daemon.kill()
                daemon.start()
            until_more_is_given(server)
        except BaseException:
            running.kill()
            raise
        code, _ = running.stop()
        assert code == 0, (tmp_path / "log").read_text()[-2_000:]
    assert client.xpending(STREAM, GROUP)["pending"] == 0
    print(settled(server, client, daemon, producer), "entries")


def test_a_redis_that_is_killed_again_and_again(
    server: RedisProcess, client: Any, daemon: DaemonProcess, tmp_path: Path
) -> None:
    """Under a puller that goes on by itself, and ends well."""
    print(f"seed {SEED}, {KILLS} kills")
    chance = random.Random(SEED)
    with producing(server) as producer:
        running = Running(server, daemon, tmp_path / "log", *QUICKLY)
        try:
            for _ in range(KILLS):
                until_more_is_given(server)
                time.sleep(chance.uniform(0, 0.3))
                server.kill()
                server.start()
            until_more_is_given(server)
        except BaseException:
            running.kill()
            raise
        code, summary = running.stop()
        assert code == 0, (tmp_path / "log").read_text()[-2_000:]
        assert (tmp_path / "log").read_text().count("redis_away") >= 1
    print(settled(server, client, daemon, producer), "entries;", summary["read"], "read")
