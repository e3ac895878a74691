"""What Prometheus sees of what core code announces."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from trackd.cloudevents.v1 import publish_pb2
from trackd.v1 import event_type_pb2, ingest_pb2, query_pb2, retention_pb2, subscribe_pb2

from server.metrics.build import build_info
from server.metrics.gauges import Gauges
from server.metrics.observer import METHODS, REJECTION_REASONS, PrometheusObserver
from server.objectives import INGEST_ACK, QUERY, Objective
from server.observe import (
    BatchAnswered,
    BatchRefused,
    CallHandled,
    CallStarted,
    Ending,
    GroupCommitted,
    Observer,
    PageRead,
    QuestionAnswered,
    RetentionActed,
)
from tests.support.gauges import make_gauges

SERVER = Path(__file__).parents[2] / "server"
APPEND = ("trackd.v1.IngestService", "Append", "unary")
STREAM = ("trackd.v1.IngestService", "AppendStream", "bidi_stream")
APPEND_LABELS = {"grpc_service": APPEND[0], "grpc_method": APPEND[1], "grpc_type": APPEND[2]}
STREAM_LABELS = {"grpc_service": STREAM[0], "grpc_method": STREAM[1], "grpc_type": STREAM[2]}
OTHER_LABELS = {"grpc_service": "other", "grpc_method": "other", "grpc_type": "unary"}

KINDS = {(False, False): "unary", (False, True): "server_stream", (True, True): "bidi_stream"}

# Names that dashboards and rules are written for: one that goes away breaks them.
PROMISED = {
    "grpc_server_started_total",
    "grpc_server_handled_total",
    "grpc_server_handling_seconds_bucket",
    "grpc_server_msg_received_total",
    "grpc_server_msg_sent_total",
    "process_resident_memory_bytes",
    "trackd_batches_refused_total",
    "trackd_build_info",
    "trackd_disk_free_bytes",
    "trackd_event_loop_lag_seconds",
    "trackd_events_accepted_lost_total",
    "trackd_events_ingested_total",
    "trackd_events_rejected_total",
    "trackd_head_position",
    "trackd_ingest_ack_seconds_bucket",
    "trackd_ingest_commit_batches_total",
    "trackd_ingest_commit_events_bucket",
    "trackd_ingest_commit_seconds_bucket",
    "trackd_ingest_linger_seconds_total",
    "trackd_ingest_received_bytes_total",
    "trackd_months",
    "trackd_query_failures_total",
    "trackd_query_seconds_bucket",
    "trackd_fold_lag_events",
    "trackd_month_bytes",
    "trackd_month_rows",
    "trackd_months_unindexed",
    "trackd_months_unmerged",
    "trackd_sqlite_wal_bytes",
    "trackd_subscribe_bytes_total",
    "trackd_subscribe_events_total",
    "trackd_subscriber_lag_events",
    "trackd_subscribe_page_seconds_bucket",
    "trackd_subscribers",
    "trackd_write_queue_bytes",
    "trackd_write_queue_events",
}


@pytest.fixture
def observer() -> PrometheusObserver:
    """One that was told nothing yet."""
    return PrometheusObserver(make_gauges())


def value(observer: PrometheusObserver, name: str, **labels: str) -> float | None:
    """One series, None if it does not exist."""
    return observer.registry.get_sample_value(name, labels)


def answered(**changes: object) -> BatchAnswered:
    """A durable batch of three events that took 4 ms."""
    given: dict[str, object] = {
        "durability": "durable",
        "seconds": 0.004,
        "accepted": 3,
        "duplicate": 0,
        "rejected": 0,
        "queued": 0,
        "reasons": {},
        "bytes": 300,
    }
    return BatchAnswered(**(given | changes))  # type: ignore[arg-type]


def series(observer: PrometheusObserver) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Everything a scrape shows."""
    families = text_string_to_metric_families(generate_latest(observer.registry).decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_every_promised_name_is_there_from_the_start(observer: PrometheusObserver) -> None:
    """Also before anything happened: a rate over a series that appears with its first event misses that event."""
    assert PROMISED - {name for name, _labels in series(observer)} == set()


def test_nothing_that_is_known_adds_a_series_when_it_happens(observer: PrometheusObserver) -> None:
    """Known methods, codes, results, reasons, kinds and levels have theirs already."""
    before = series(observer).keys()
    for durability in ("durable", "accepted"):
        observer.batch_answered(answered(durability=durability, rejected=1, reasons={"ID_CONFLICT": 1}))
    observer.batch_refused(BatchRefused("DISK_FULL", 7))
    observer.group_committed(GroupCommitted(1, 3, 0.002, 0.001))
    for kind in ("list_events", "count_events"):
        observer.question_answered(QuestionAnswered(kind, 0.1, Ending.OWED))
    for service, method in METHODS:
        observer.call_started(CallStarted(service, method, METHODS[service, method]))
        observer.call_handled(CallHandled(service, method, METHODS[service, method], "UNAVAILABLE", 0.1))
    assert series(observer).keys() == before


def test_no_client_can_add_a_series(observer: PrometheusObserver) -> None:
    """Methods that do not exist share one series, and so do statuses that do not."""
    before = series(observer).keys()
    for number in range(3):
        observer.call_started(CallStarted("evil", f"M{number}", "unary"))
        observer.call_handled(CallHandled("evil", f"M{number}", "unary", f"C{number}", 0.1))
        observer.message_received("evil", f"M{number}", "unary")
        observer.message_sent("evil", f"M{number}", "unary")
    assert series(observer).keys() == before
    assert value(observer, "grpc_server_started_total", **OTHER_LABELS) == 3
    assert value(observer, "grpc_server_handled_total", **OTHER_LABELS, grpc_code="Unknown") == 3
    assert value(observer, "grpc_server_msg_received_total", **OTHER_LABELS) == 3
    assert value(observer, "grpc_server_msg_sent_total", **OTHER_LABELS) == 3


def test_every_event_is_counted_by_what_became_of_it(observer: PrometheusObserver) -> None:
    """Once by result; those that were not stored also by reason."""
    reasons = {"ID_CONFLICT": 3, "TYPE_INVALID": 1}
    observer.batch_answered(answered(accepted=1, duplicate=2, rejected=4, reasons=reasons))
    observer.batch_answered(answered(durability="accepted", accepted=0, queued=5))
    observer.batch_refused(BatchRefused("QUEUE_FULL", 6))
    results = ("accepted", "duplicate", "rejected", "queued", "refused")
    counts = [value(observer, "trackd_events_ingested_total", result=result) for result in results]
    assert counts == [1, 2, 4, 5, 6]
    assert value(observer, "trackd_events_rejected_total", reason="ID_CONFLICT") == 3
    assert value(observer, "trackd_events_rejected_total", reason="TYPE_INVALID") == 1
    assert value(observer, "trackd_batches_refused_total", reason="QUEUE_FULL") == 1
    assert value(observer, "trackd_ingest_received_bytes_total") == 600


def test_a_reason_that_is_new_gets_its_series(observer: PrometheusObserver) -> None:
    """Reasons are ours, so that none is lost because this module does not know it yet."""
    for _ in range(2):
        observer.batch_answered(answered(rejected=1, reasons={"BRAND_NEW": 1}))
        observer.batch_refused(BatchRefused("NEWER_STILL", 0))
    assert value(observer, "trackd_events_rejected_total", reason="BRAND_NEW") == 2
    assert value(observer, "trackd_batches_refused_total", reason="NEWER_STILL") == 2


def test_an_acknowledgement_is_observed_once_a_batch(observer: PrometheusObserver) -> None:
    """By its durability, in the bucket of its seconds, whatever number of events it has."""
    observer.batch_answered(answered(seconds=0.004, accepted=900))
    observer.batch_answered(answered(seconds=0.3))
    name = "trackd_ingest_ack_seconds"
    bounds = ("0.0025", "0.005", "0.25", "0.5")
    counts = [value(observer, f"{name}_bucket", durability="durable", le=bound) for bound in bounds]
    assert counts == [0, 1, 1, 2]
    assert value(observer, f"{name}_count", durability="durable") == 2
    assert value(observer, f"{name}_sum", durability="durable") == pytest.approx(0.304)
    assert value(observer, f"{name}_count", durability="accepted") == 0


def test_an_objective_is_a_bucket() -> None:
    """The share of answers within a promised latency is exact on a boundary only; one that is there is not doubled."""
    objectives = [Objective(kind, kind, threshold_ms, 0.9) for kind in (INGEST_ACK, QUERY) for threshold_ms in (20, 50)]
    observer = PrometheusObserver(make_gauges(), objectives=objectives)
    observer.batch_answered(answered(seconds=0.015))
    observer.question_answered(QuestionAnswered("list_events", 0.015))
    for name, labels in (("ingest_ack", {"durability": "durable"}), ("query", {"kind": "list_events"})):
        buckets = [
            (bound, value(observer, f"trackd_{name}_seconds_bucket", le=bound, **labels))
            for bound in ("0.01", "0.02", "0.05")
        ]
        assert buckets == [("0.01", 0), ("0.02", 1), ("0.05", 1)]


def test_a_commit_shows_its_time_and_its_size(observer: PrometheusObserver) -> None:
    """Groups by seconds and by events; batches and waiting as totals, for means."""
    observer.group_committed(GroupCommitted(batches=2, events=1_500, seconds=0.02, linger_seconds=0.003))
    observer.group_committed(GroupCommitted(batches=1, events=1, seconds=0.001, linger_seconds=0.0))
    assert value(observer, "trackd_ingest_commit_seconds_count") == 2
    assert value(observer, "trackd_ingest_commit_seconds_sum") == pytest.approx(0.021)
    assert value(observer, "trackd_ingest_commit_events_bucket", le="1.0") == 1
    assert value(observer, "trackd_ingest_commit_events_sum") == 1_501
    assert value(observer, "trackd_ingest_commit_batches_total") == 3
    assert value(observer, "trackd_ingest_linger_seconds_total") == pytest.approx(0.003)


def test_what_was_queued_and_then_lost_is_counted(observer: PrometheusObserver) -> None:
    """Nobody else is told."""
    observer.accepted_lost(4)
    assert value(observer, "trackd_events_accepted_lost_total") == 4


def test_a_question_is_observed_and_its_failure_counted(observer: PrometheusObserver) -> None:
    """Every question has a latency; those whose answer is owed are failures as well."""
    observer.question_answered(QuestionAnswered("count_events", 0.02))
    observer.question_answered(QuestionAnswered("count_events", 60.0, Ending.OWED))
    assert value(observer, "trackd_query_seconds_count", kind="count_events") == 2
    assert value(observer, "trackd_query_failures_total", kind="count_events") == 1
    assert value(observer, "trackd_query_failures_total", kind="list_events") == 0


def test_what_subscribers_get_is_counted(observer: PrometheusObserver) -> None:
    """Pages by their time; events and bytes once for each subscriber that they were sent to."""
    observer.page_read(PageRead(0.004, 100))
    for _ in range(3):
        observer.events_delivered(100, 9_000)
    assert value(observer, "trackd_subscribe_page_seconds_count") == 1
    assert value(observer, "trackd_subscribe_page_seconds_bucket", le="0.005") == 1
    assert value(observer, "trackd_subscribe_events_total") == 300
    assert value(observer, "trackd_subscribe_bytes_total") == 27_000


def test_calls_have_the_names_of_go(observer: PrometheusObserver) -> None:
    """Started, handled by code in Go's spelling, and messages both ways."""
    observer.call_started(CallStarted(*APPEND))
    observer.call_handled(CallHandled(*APPEND, "RESOURCE_EXHAUSTED", 0.01))
    observer.message_received(*APPEND)
    observer.message_received(*APPEND)
    observer.message_sent(*APPEND)
    assert value(observer, "grpc_server_started_total", **APPEND_LABELS) == 1
    assert value(observer, "grpc_server_handled_total", **APPEND_LABELS, grpc_code="ResourceExhausted") == 1
    assert value(observer, "grpc_server_handling_seconds_count", **APPEND_LABELS) == 1
    assert value(observer, "grpc_server_msg_received_total", **APPEND_LABELS) == 2
    assert value(observer, "grpc_server_msg_sent_total", **APPEND_LABELS) == 1


def test_the_lifetime_of_a_stream_is_no_latency(observer: PrometheusObserver) -> None:
    """A stream that was open for an hour is handled, and in no histogram."""
    observer.call_started(CallStarted(*STREAM))
    observer.call_handled(CallHandled(*STREAM, "CANCELLED", 3_600.0))
    assert value(observer, "grpc_server_handled_total", **STREAM_LABELS, grpc_code="Canceled") == 1
    assert value(observer, "grpc_server_handling_seconds_count", **STREAM_LABELS) == 0


def test_known_methods_are_those_of_the_protocol() -> None:
    """A method that is added to protos/ has series of its own."""
    files = (ingest_pb2, query_pb2, event_type_pb2, subscribe_pb2, retention_pb2, publish_pb2, logs_service_pb2)
    protocol = {
        (service.full_name, method.name): KINDS[method.client_streaming, method.server_streaming]
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert protocol == METHODS


def test_known_reasons_are_those_that_the_code_gives() -> None:
    """Every literal reason of a rejected event has its series from the start."""
    assert set(reasons_in_code()) - set(REJECTION_REASONS) == set()


def reasons_in_code() -> Iterator[str]:
    """The reasons in calls Fault("REASON", ...) and Item(index, Outcome.REJECTED, "REASON", ...)."""
    for path in SERVER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Fault", "Item"):
                place = 0 if node.func.id == "Fault" else 2
                given = [*node.args[place : place + 1], *(word.value for word in node.keywords if word.arg == "reason")]
                yield from (str(reason.value) for reason in given if isinstance(reason, ast.Constant) and reason.value)


def test_gauges_are_read_when_scraped() -> None:
    """Each shows what its callable says at that moment, and none is called before."""
    now = {"queue": 1.0}
    gauges = make_gauges(wal_bytes=4096.0, disk_free_bytes=1e9, months=262, head=77)
    read = PrometheusObserver(replace(gauges, queue_events=lambda: now["queue"]))
    names = ("trackd_sqlite_wal_bytes", "trackd_disk_free_bytes", "trackd_months", "trackd_head_position")
    assert [value(read, name) for name in names] == [4096.0, 1e9, 262, 77]
    assert value(read, "trackd_write_queue_events") == 1
    now["queue"] = 2.0
    assert value(read, "trackd_write_queue_events") == 2


def test_a_broken_gauge_hides_no_other_series() -> None:
    """It shows as NaN."""

    def broken() -> float:
        raise OSError

    broken_all: Any = dict.fromkeys((field.name for field in fields(Gauges)), broken)
    observer = PrometheusObserver(Gauges(**broken_all))
    shown = series(observer)
    assert str(shown["trackd_disk_free_bytes", ()]) == "nan"
    assert ("trackd_events_accepted_lost_total", ()) in shown


def test_what_retention_did_is_counted(observer: PrometheusObserver) -> None:
    """By action and ending; rows only of what was done. Every series is there before."""
    observer.retention_acted(RetentionActed("seal", "done", 1_000))
    observer.retention_acted(RetentionActed("seal", "done", 500))
    observer.retention_acted(RetentionActed("drop", "failed", 70))
    assert value(observer, "trackd_retention_actions_total", action="seal", status="done") == 2
    assert value(observer, "trackd_retention_actions_total", action="drop", status="failed") == 1
    assert value(observer, "trackd_retention_actions_total", action="expire", status="stopped") == 0
    assert value(observer, "trackd_retention_rows_total", action="seal") == 1_500
    assert value(observer, "trackd_retention_rows_total", action="drop") == 0


def test_build_info_says_what_runs() -> None:
    """Versions of trackd, Python, gRPC and the SQLite driver, or what was given instead."""
    assert build_info().keys() == {"version", "python", "grpc", "apsw"}
    assert "unknown" not in build_info().values()
    observer = PrometheusObserver(make_gauges(), build={"version": "9.9"})
    assert value(observer, "trackd_build_info", version="9.9") == 1


def test_two_observers_do_not_share_series() -> None:
    """Each has a registry of its own, so that one process can hold two daemons."""
    first, second = PrometheusObserver(make_gauges()), PrometheusObserver(make_gauges())
    first.accepted_lost(1)
    assert value(second, "trackd_events_accepted_lost_total") == 0


def test_an_observer_that_wants_to_know_nothing_is_fine_with_everything() -> None:
    """The default does nothing, for each announcement."""
    observer = Observer()
    observer.batch_answered(answered())
    observer.batch_refused(BatchRefused("DRAINING", 1))
    observer.accepted_lost(1)
    observer.group_committed(GroupCommitted(1, 1, 0.1, 0.0))
    observer.question_answered(QuestionAnswered("list_events", 0.1))
    observer.page_read(PageRead(0.1, 5))
    observer.events_delivered(5, 500)
    observer.call_started(CallStarted(*APPEND))
    observer.call_handled(CallHandled(*APPEND, "OK", 0.1))
    observer.message_received(*APPEND)
    observer.message_sent(*APPEND)
