"""What README.md says about pulling from Redis is true."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.conftest import free_port
from tests.redis.conftest import RedisProcess
from tests.support import readme
from tests.support.readme import Follower


def test_the_block_that_needs_a_redis_runs(server: RedisProcess, tmp_path: Path) -> None:
    """Against a daemon as the README starts it, and a Redis on another port than its own."""
    found = readme.blocks(readme.README.read_text("utf-8"))
    start = next(block for block in found if block.text.startswith("trackd serve"))
    (block,) = (block for block in found if block.text.startswith("redis-cli "))
    assert block.output is not None
    port = free_port()
    server.kill()
    server.start("--port", str(port), "--bind", "127.0.0.1")
    with readme.ports_taken(), Follower(tmp_path, {"127.0.0.1:6379": f"127.0.0.1:{port}"}) as reader:
        reader.follow(start)
        reader.follow(block)
