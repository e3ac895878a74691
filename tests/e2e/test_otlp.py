"""OpenTelemetry's own SDK, and exports that no SDK would send, against a real daemon."""

from __future__ import annotations

import gzip
import json
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry._logs import SeverityNumber
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from trackd.client import Client
from trackd.v1.event_pb2 import StoredEvent
from trackd.v1.query_pb2 import EventFilter

from tests.e2e.conftest import DaemonProcess
from tests.support.otlp import export, logs, nested, raw_export, record, sender
from tests.support.serving import peak_rss_bytes, serving
from tests.support.telemetry import gate, telemetry
from tests.support.wire import channels, field, now_ms, refused

MIB = 1024 * 1024
DAY_NANOS = 86_400 * 10**9
SERVICE = "opentelemetry.proto.collector.logs.v1.LogsService"

Send = Callable[..., ExportLogsServiceResponse]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon for this module."""
    with serving(tmp_path_factory.mktemp("otlp")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def channel(served: DaemonProcess) -> Iterator[grpc.Channel]:
    """One connection."""
    yield from channels(served.target)


@pytest.fixture(scope="module")
def send(channel: grpc.Channel) -> Send:
    """Exports by hand."""
    return sender(channel)


def stored(daemon: DaemonProcess, source: str) -> list[StoredEvent]:
    """What one service has sent, in the order of positions."""
    with Client(daemon.target) as client:
        return list(client.list_events(EventFilter(sources=[source]), order="position_asc"))


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_an_application_sends_events_with_the_sdk(served: DaemonProcess, compression: grpc.Compression | None) -> None:
    """Logger, batch processor, gRPC exporter, plain and with gzip: what is emitted is found, each once."""
    service = f"sdk-{compression}"
    before_ms = now_ms()
    with telemetry(served.target, service=service, compression=compression) as emit:
        for number in range(1_200):
            told = {
                "user.id": f"user-{number % 7}",
                "order": number,
                "big": 2**62 + number,
                "raw": b"\1",
                "deep": {"a": [1]},
            }
            emit("order.placed", body="an order", severity_number=SeverityNumber.INFO, attributes=told)
    found = stored(served, service)
    assert sorted(json.loads(one.event.metadata)["order"] for one in found) == list(range(1_200))
    event = found[0].event
    told = json.loads(event.metadata)
    assert (event.type, event.user_id, event.description) == ("order.placed", f"user-{told['order'] % 7}", "an order")
    assert before_ms <= event.timestamp_ms <= now_ms()
    assert told["big"] == 2**62 + told["order"]
    assert (told["raw"], told["deep"]) == ("AQ==", {"a": [1]})
    assert (told["otel.severity_number"], told["otel.scope.name"]) == (9, "tests")
    assert told["otel.resource.telemetry.sdk.language"] == "python"


def test_the_exporter_tries_again_and_nothing_is_stored_twice(served: DaemonProcess) -> None:
    """The daemon stored a batch, its answer was lost as UNAVAILABLE: the real exporter sends the batch again."""
    with gate(served.target, lost=2) as (target, between), telemetry(target, service="again") as emit:
        for number in range(700):
            emit("order.placed", attributes={"order": number})
    assert between.passed >= 3
    numbers = Counter(json.loads(one.event.metadata)["order"] for one in stored(served, "again"))
    assert numbers == Counter(range(700))


def test_an_export_that_is_sent_again_is_a_success_and_stores_nothing(served: DaemonProcess, send: Send) -> None:
    """By hand, byte by byte the same, also with records that are equal to the nanosecond."""
    same = record("order.paid", body="x")
    request = export(logs(same, same, record("order.paid"), service="resent"))
    for _turn in range(3):
        assert not send(request).HasField("partial_success")
    assert len(stored(served, "resent")) == 3


def test_a_partial_success_tells_how_many_and_why(served: DaemonProcess, send: Send) -> None:
    """Good records are stored; plain logs, bad names, bad sources and texts are counted with their reasons."""
    raw = export(
        logs(record("a"), record("", body="plain"), record("no spaces"), record("CAFE"), service="partly"),
        logs(record("b"), service="bad source"),
        logs(record("c"), service="partly2"),
    ).SerializeToString()
    told = send(raw.replace(b"CAFE", b"caf\xe9")).partial_success
    assert told.rejected_log_records == 4
    for reason in ("EVENT_NAME_MISSING", "TYPE_INVALID", "TEXT_NOT_UTF8", "SOURCE_INVALID"):
        assert reason in told.error_message
    assert [one.event.type for one in stored(served, "partly") + stored(served, "partly2")] == ["a", "c"]


def test_an_empty_export_is_a_success(send: Send) -> None:
    """As the specification asks for."""
    assert send(export()) == ExportLogsServiceResponse()
    assert send(export(logs())) == ExportLogsServiceResponse()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (lambda: record(time_unix_nano=0), "TIMESTAMP_REQUIRED"),
        (lambda: record(time_unix_nano=2**63), "TIMESTAMP_IN_FUTURE"),
        (lambda: record(time_unix_nano=2**64 - 1), "TIMESTAMP_IN_FUTURE"),
        (lambda: record(time_unix_nano=1), "TIMESTAMP_TOO_OLD"),
        (lambda: nested(35), "METADATA_TOO_DEEP"),
        (lambda: record(told={"a": "x" * 100_000}), "METADATA_TOO_LARGE"),
        (lambda: record(told={f"k{n}": n for n in range(20_000)}), "METADATA_TOO_LARGE"),
        (lambda: record(told={"a": "\0"}), "TEXT_HAS_NUL"),
        (lambda: record(body="\0"), "TEXT_HAS_NUL"),
        (lambda: record(told={"user.id": "u" * 300}), "FIELD_TOO_LONG"),
        (lambda: record("x" * 129), "TYPE_INVALID"),
        (lambda: record().SerializeToString() + b"\x62\x04caf\xe9", "TEXT_NOT_UTF8"),
    ],
)
def test_a_hostile_record_is_rejected_alone(send: Send, bad: Callable[[], LogRecord | bytes], reason: str) -> None:
    """Named, and its neighbours are stored."""
    told = send(raw_export(record(), bad(), record())).partial_success
    assert (told.rejected_log_records, reason in told.error_message) == (1, True), told


def test_time_before_1970_does_not_exist_in_otlp(send: Send) -> None:
    """Its times have no sign: -1 is the year 2554."""
    raw = record().SerializeToString() + b"\x09" + (-1).to_bytes(8, "little", signed=True)
    told = send(raw_export(record(), raw)).partial_success
    assert "TIMESTAMP_IN_FUTURE" in told.error_message


@pytest.mark.parametrize(
    ("raw", "reason", "field"),
    [
        (b"\xff\xff", "UNDECODABLE", ""),
        (raw_export(nested(1_000)), "UNDECODABLE", ""),
        (raw_export(*[b""] * 10_001), "BATCH_TOO_LARGE", "events"),
        (raw_export(*[b""] * 1_000_000), "BATCH_TOO_LARGE", "events"),
        (b"\x0a\x00" * 2_000_000, "BATCH_TOO_LARGE", "resource_logs"),
        (field(1, b"\x12\x00" * 2_000_000), "BATCH_TOO_LARGE", "resource_logs"),
        (raw_export(record(told={"a": b"x" * 5 * MIB})), "BATCH_TOO_LARGE", "events"),
        (gzip.compress(bytes(200 * MIB)), "MESSAGE_TOO_LARGE", ""),
        (raw_export(record("")), "ALL_REJECTED", "event_name"),
        (raw_export(record("no spaces"), record("nor here")), "ALL_REJECTED", "type"),
    ],
    ids=[
        "garbage", "too deep", "too many", "far too many", "empty resources", "empty scopes", "too large", "a bomb",
        "plain logs", "bad names",
    ],
)  # fmt: skip
def test_bad_data_is_refused_for_good(send: Send, raw: bytes, reason: str, field: str) -> None:
    """INVALID_ARGUMENT, which no sender tries again, without RetryInfo."""
    told = refused(lambda: send(raw))
    assert (told.code, told.reason, told.field) == (grpc.StatusCode.INVALID_ARGUMENT, reason, field)
    assert told.retry_after_ms is None


def test_hostile_exports_leave_the_daemon_small_and_well(tmp_path: Path) -> None:
    """Bombs, broken text everywhere, very many tiny attributes and more services than are taken: bounded, and quick."""
    bomb = gzip.compress(bytes(100 * MIB), 1)
    start = time.monotonic()
    with serving(tmp_path, settings="[limits]\nsources_max = 10") as daemon:
        before = peak_rss_bytes(daemon)
        for channel in channels(daemon.target):
            send = sender(channel)
            broken = raw_export(*[record(told={"a": "CAFE"}) for _ in range(9_000)], record()).replace(
                b"CAFE", b"caf\xe9"
            )
            assert send(broken).partial_success.rejected_log_records == 9_000
            tiny = record().SerializeToString() + b"\x32\x00" * 300_000
            assert send(raw_export(record(), tiny, tiny + b"\x62\x04caf\xe9")).partial_success.rejected_log_records == 1
            for _turn in range(5):
                assert refused(lambda: send(bomb)).reason == "MESSAGE_TOO_LARGE"  # noqa: B023  # called at once
            many = export(*[logs(record(), service=f"service-{number}") for number in range(20)])
            assert "SOURCE_LIMIT" in send(many).partial_success.error_message
        grown = peak_rss_bytes(daemon) - before
    print(f"{grown / MIB:.0f} MiB grown in {time.monotonic() - start:.1f} s")
    assert grown < 300 * MIB


def test_overload_is_unavailable_with_a_delay(tmp_path: Path) -> None:
    """A disk without room: UNAVAILABLE with RetryInfo, in both forms in which senders look for it."""
    with serving(tmp_path, settings=f"[storage]\ndisk_free_bytes_min = {2**62}") as daemon:
        for channel in channels(daemon.target):
            told = refused(lambda: sender(channel)(export(logs(record()))))  # noqa: B023  # called at once
            assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "DISK_FULL")
            assert told.retry_after_ms
            method: Any = channel.unary_unary(f"/{SERVICE}/Export")
            call = method.future(export(logs(record())).SerializeToString(), timeout=30)
            assert call.exception()
            info = error_details_pb2.RetryInfo.FromString(dict(call.trailing_metadata())["google.rpc.retryinfo-bin"])
            assert info.retry_delay.ToMilliseconds() == told.retry_after_ms


def test_plain_logs_have_a_type_where_the_operator_says_so(tmp_path: Path) -> None:
    """The standard library's logging, through the SDK, as events of one type."""
    with serving(tmp_path, settings='[doors]\notlp_plain_logs_type = "log"') as daemon:
        with telemetry(daemon.target, service="plain") as emit:
            emit("", body="a line")
            emit("named", body="an event")
        assert [(one.event.type, one.event.description) for one in stored(daemon, "plain")] == [
            ("log", "a line"), ("named", "an event"),
        ]  # fmt: skip


def test_the_door_can_be_shut(tmp_path: Path) -> None:
    """Then there is no such service, nor does health know it."""
    with serving(tmp_path, settings="[doors]\notlp = false\ncloud_events = false") as daemon:
        for channel in channels(daemon.target):
            assert refused(lambda: sender(channel)(export())).code is grpc.StatusCode.UNIMPLEMENTED  # noqa: B023  # at once
            health: Any = health_pb2_grpc.HealthStub(channel)
            for name in (SERVICE, "trackd.cloudevents.v1.CloudEventService"):
                asked = refused(lambda: health.Check(health_pb2.HealthCheckRequest(service=name)))  # noqa: B023  # at once
                assert asked.code is grpc.StatusCode.NOT_FOUND


def test_metrics_count_records_as_events(tmp_path: Path) -> None:
    """The same series as Append: results, reasons, the latency that is promised, and the method."""
    with serving(tmp_path) as daemon:
        for channel in channels(daemon.target):
            request = export(logs(record("a"), record("")), logs(record("b"), service="other"))
            for _turn in range(2):
                sender(channel)(request)
        with urllib.request.urlopen(f"http://{daemon.metrics}/metrics", timeout=10) as answer:
            shown = answer.read().decode().splitlines()
        for line in (
            'trackd_events_ingested_total{result="accepted"} 2.0',
            'trackd_events_ingested_total{result="duplicate"} 2.0',
            'trackd_events_ingested_total{result="rejected"} 2.0',
            'trackd_events_rejected_total{reason="EVENT_NAME_MISSING"} 2.0',
            'trackd_ingest_ack_seconds_count{durability="durable"} 2.0',
        ):
            assert line in shown
        assert any(f'grpc_service="{SERVICE}"' in line and line.endswith(" 2.0") for line in shown)
