"""What a real daemon counts for its objectives, from senders who wait, give up, or are at fault themselves."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from prometheus_client.core import Sample
from prometheus_client.parser import text_string_to_metric_families

from tests.support import wire
from tests.support.slow_daemon import slow_daemon

WAIT_S = 10.0
OBJECTIVES = """
[[objective]]
name = "ingest-ack"
kind = "ingest_ack"
threshold_ms = 1000
target = 0.999
[[objective]]
name = "availability"
kind = "availability"
target = 0.999
"""
SLOW_S = "3"
PATIENCE_S = 1.5
"""More than the threshold, less than it takes while the disk is slow."""


class Served:
    """A daemon whose disk can be made slow: an acknowledgement then takes longer than promised."""

    def __init__(self, grpc_address: str, metrics: str, slow: Path) -> None:
        self.target = grpc_address
        self.slow = slow
        self._metrics = metrics

    def samples(self) -> list[Sample]:
        """Everything it exports."""
        with urllib.request.urlopen(f"http://{self._metrics}/metrics", timeout=10) as reply:
            families = text_string_to_metric_families(reply.read().decode())
        return [sample for family in families for sample in family.samples]

    def counted(self, objective: str) -> tuple[float, float]:
        """(good, requests) of an objective."""
        found = {one.name: one.value for one in self.samples() if one.labels.get("objective") == objective}
        return found["trackd_objective_good_total"], found["trackd_objective_requests_total"]

    def until_committed(self, groups: int) -> None:
        """Returns once so many groups are on disk, also those that nobody waits for."""
        end = time.monotonic() + WAIT_S
        while sum(one.value for one in self.samples() if one.name == "trackd_ingest_commit_seconds_count") < groups:
            assert time.monotonic() < end
            time.sleep(0.02)

    def until(self, objective: str, good: float, requests: float) -> None:
        """Returns once so many are counted: an abandoned call ends a moment after its client went away."""
        end = time.monotonic() + WAIT_S
        while (found := self.counted(objective)) != (good, requests):
            assert time.monotonic() < end, f"{objective}: {found}, not {(good, requests)}"
            time.sleep(0.02)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """One over an empty directory."""
    with slow_daemon(tmp_path, OBJECTIVES) as (addresses, slow):
        yield Served(addresses["grpc"], addresses["metrics"], slow)


def append(channel: grpc.Channel, *, timeout_s: float = 30.0, body: bytes | None = None) -> None:
    """One unary call."""
    call: Callable[..., bytes] = channel.unary_unary(wire.APPEND)
    call(wire.unary_frame("reviews", wire.event()) if body is None else body, timeout=timeout_s)


def test_calls_count_as_their_senders_saw_them(served: Served) -> None:
    """In time, too late, given up after the threshold and given up before it; and a client's own fault."""
    with grpc.insecure_channel(served.target) as channel:
        append(channel)
        served.until("ingest-ack", 1, 1)
        served.slow.write_text(SLOW_S, "ascii")
        append(channel)
        served.until("ingest-ack", 1, 2)
        with pytest.raises(grpc.RpcError):
            append(channel, timeout_s=PATIENCE_S)
        served.until("ingest-ack", 1, 3)
        with pytest.raises(grpc.RpcError):
            append(channel, timeout_s=0.05)
        served.slow.unlink()
        served.until_committed(4)
        append(channel)
        with pytest.raises(grpc.RpcError):
            append(channel, body=b"\xff\xff")
        append(channel)
        served.until("ingest-ack", 3, 5)
        # Availability is not about time: what was answered is good, what was given up does not count.
        served.until("availability", 4, 4)


class _Enough(Exception):
    """A sender gives up."""


def give_up(channel: grpc.Channel) -> None:
    """Sends a batch on a stream of its own and breaks off before it is answered."""
    with wire.Stream(channel) as stream:
        stream.send(wire.batch_frame(1, wire.event()))
        time.sleep(PATIENCE_S)  # what this sender is willing to wait
        raise _Enough


def test_a_stream_that_is_cut_counts_what_it_waited_for_too_long(served: Served) -> None:
    """Its batch was taken, and the answer was late already."""
    with grpc.insecure_channel(served.target) as channel:
        with wire.Stream(channel) as stream:
            served.slow.write_text(SLOW_S, "ascii")
            stream.takes(wire.event())
            served.until("ingest-ack", 0, 1)
        with pytest.raises(_Enough):
            give_up(channel)
        served.until("ingest-ack", 0, 2)
