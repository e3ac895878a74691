"""Late events under a retention policy: a sealed month is opened again for them, or they are rejected by name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import trackd
from trackd import Client
from trackd.v1 import retention_pb2 as pb
from trackd.v1 import retention_pb2_grpc

from retention.month import Month
from tests.e2e.conftest import DaemonProcess
from tests.support.serving import serving
from tests.support.wire import event

POLICY = """
[rotation]
seal_after = "1 day"
[clock]
max_gap = "4000 days"
[[class]]
name = "reviews"
types = ["review_*"]
purpose = "Testing"
legal_basis = "none"
keep_at_most = "50 years"
late = "reopen"
[[class.step]]
after = "40 years"
do = "drop"
[[class]]
name = "merges"
types = ["pr_*"]
purpose = "Testing"
legal_basis = "none"
keep_at_most = "50 years"
[[class.step]]
after = "40 years"
do = "drop"
"""
NOW = datetime.now(UTC)
OLD = Month(NOW.year - 1, 3)


@contextmanager
def retaining(directory: Path) -> Iterator[DaemonProcess]:
    """A daemon with the policy."""
    policy = directory / "retention.toml"
    policy.write_text(POLICY, "utf-8")
    settings = f'[retention]\npolicy = "{policy}"\n[rotation]\nquiet_minutes = 0\n'
    with serving(directory, settings=settings) as daemon:
        yield daemon


def apply_all(daemon: DaemonProcess) -> list[str]:
    """Everything that is due; what was done."""
    with grpc.insecure_channel(f"unix:{daemon.data / 'control.sock'}") as channel:
        stub: Any = retention_pb2_grpc.RetentionServiceStub(channel)  # type: ignore[no-untyped-call]
        planned = stub.Plan(pb.PlanRequest(), timeout=30).plan
        job = stub.Apply(pb.ApplyRequest(plan=planned), timeout=30).job
        for reply in stub.WatchJob(pb.WatchJobRequest(number=job.number), timeout=60):
            job = reply.job
        assert job.state == pb.RETENTION_JOB_STATE_DONE, job
        return [line.split('"')[3] for line in job.receipt.split("{") if line.startswith('"action"')]


def sent_until_taken(client: Client, events: list[trackd.Event]) -> trackd.AppendResult:
    """What any client does with a refusal that may be tried again."""
    until_s = time.monotonic() + 30
    while True:
        try:
            return client.append(events, source="t")
        except trackd.TrackdError as error:
            if not error.retryable or time.monotonic() > until_s:
                raise
            time.sleep(0.1)


def test_a_sealed_month_is_opened_again_for_late_events(tmp_path: Path) -> None:
    """The batch is to be sent again, and then it is stored, once; later the month is sealed again, with it."""
    with retaining(tmp_path) as daemon, Client(daemon.target) as client:
        client.append([event(type="review_submitted", timestamp_ms=OLD.start_ms + n) for n in range(20)], source="t")
        assert apply_all(daemon) == ["seal"]
        late = [event(type="review_submitted", timestamp_ms=OLD.start_ms), event(type="review_submitted")]
        with pytest.raises(trackd.TrackdError) as caught:
            client.append(late, source="t")
        assert (caught.value.reason, caught.value.retryable) == ("MONTH_REOPENING", True)
        assert caught.value.retry_after_ms
        answer = sent_until_taken(client, late)
        assert answer.accepted + answer.duplicate == 2
        assert client.count_events().events == 22
        assert apply_all(daemon) == ["seal"]
        assert client.append(late, source="t").duplicate == 2


def test_an_appender_loses_nothing_of_it(tmp_path: Path) -> None:
    """It comes again by itself, as for anything that is unavailable for a while."""
    with retaining(tmp_path) as daemon, Client(daemon.target) as client:
        client.append([event(type="review_submitted", timestamp_ms=OLD.start_ms)], source="t")
        assert apply_all(daemon) == ["seal"]
        with trackd.Appender(daemon.target, source="t") as appender:
            appender.send(event(type="review_submitted", timestamp_ms=OLD.start_ms + n) for n in range(1, 50))
        assert appender.totals.accepted == 49
        assert client.count_events().events == 50


def test_classes_that_do_not_say_so_reject_late_events(tmp_path: Path) -> None:
    """By name, also beside events of a class that does; and types of no class are not taken at all."""
    with retaining(tmp_path) as daemon, Client(daemon.target) as client:
        client.append([event(type="pr_merged", timestamp_ms=OLD.start_ms)], source="t")
        assert apply_all(daemon) == ["seal"]
        (item,) = client.append([event(type="pr_merged", timestamp_ms=OLD.start_ms)], source="t").items
        assert item.reason == "MONTH_SEALED"
        (item,) = client.append([event(type="unheard_of")], source="t").items
        assert item.reason == "TYPE_WITHOUT_POLICY"


def test_a_policy_that_breaks_stops_retention_and_nothing_else(tmp_path: Path) -> None:
    """It is refused by name until it is mended; events go on."""
    with retaining(tmp_path) as daemon, Client(daemon.target) as client:
        policy = tmp_path / "retention.toml"
        policy.write_text("nonsense", "utf-8")
        with grpc.insecure_channel(f"unix:{daemon.data / 'control.sock'}") as channel:
            stub: Any = retention_pb2_grpc.RetentionServiceStub(channel)  # type: ignore[no-untyped-call]
            with pytest.raises(grpc.RpcError) as caught:
                stub.Plan(pb.PlanRequest(), timeout=30)
            refused: Any = caught.value
            assert refused.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert "retention lint" in refused.details()
            assert client.append([event(type="anything")], source="t").accepted == 1
            policy.write_text(POLICY, "utf-8")
            stub.Plan(pb.PlanRequest(), timeout=30)
