"""The Prometheus side of what core code announces. The only module besides the exporter that knows prometheus_client.

Names and labels of gRPC are those of go-grpc-middleware, which dashboards know. No label value comes from a client. A
series that is known exists from the start, because a rate() needs the zero before the first one.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from server.model import Durability
from server.observe import (
    BatchAnswered,
    BatchRefused,
    CallHandled,
    CallStarted,
    GroupCommitted,
    Observer,
    QuestionAnswered,
)

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""From well below one fsync to what nobody waits for."""

GROUP_BUCKETS_EVENTS = (1, 10, 100, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000)
"""From one lone event to twice the usual bound of a group."""

QUESTION_KINDS = ("list_events", "count_events")

METHODS: Mapping[tuple[str, str], str] = {
    ("trackd.v1.IngestService", "Append"): "unary",
    ("trackd.v1.IngestService", "AppendStream"): "bidi_stream",
    ("trackd.v1.QueryService", "ListEvents"): "unary",
    ("trackd.v1.QueryService", "CountEvents"): "unary",
    ("trackd.v1.EventTypeService", "ListEventTypes"): "unary",
    ("trackd.v1.EventTypeService", "DescribeEventType"): "unary",
    ("trackd.v1.EventTypeService", "RegisterEventType"): "unary",
}
"""(service, method) -> type. Any other method counts as OTHER: what a client asks for must not become a series."""

OTHER = ("other", "other")

REJECTION_REASONS = (
    "ATOMIC_ABORTED",
    "CHANGE_INVALID",
    "CLIENT_IP_INVALID",
    "FIELD_TOO_LONG",
    "ID_CONFLICT",
    "ID_INVALID",
    "METADATA_NOT_JSON_OBJECT",
    "METADATA_TOO_DEEP",
    "METADATA_TOO_LARGE",
    "MONTH_LIMIT",
    "TAG_INVALID",
    "TEXT_HAS_NUL",
    "TIMESTAMP_IN_FUTURE",
    "TIMESTAMP_REQUIRED",
    "TIMESTAMP_TOO_OLD",
    "TYPE_INVALID",
    "TYPE_LIMIT",
    "TYPE_NOT_REGISTERED",
)
"""Reasons of single events that exist from the start; others appear when they first happen."""

REFUSAL_REASONS = ("BATCH_TOO_LARGE", "DISK_FULL", "DRAINING", "QUEUE_FULL")

# Status names of the gRPC specification -> the spelling of Go, which the dashboards use.
GO_CODES: Mapping[str, str] = {
    "OK": "OK",
    "CANCELLED": "Canceled",
    "UNKNOWN": "Unknown",
    "INVALID_ARGUMENT": "InvalidArgument",
    "DEADLINE_EXCEEDED": "DeadlineExceeded",
    "NOT_FOUND": "NotFound",
    "ALREADY_EXISTS": "AlreadyExists",
    "PERMISSION_DENIED": "PermissionDenied",
    "RESOURCE_EXHAUSTED": "ResourceExhausted",
    "FAILED_PRECONDITION": "FailedPrecondition",
    "ABORTED": "Aborted",
    "OUT_OF_RANGE": "OutOfRange",
    "UNIMPLEMENTED": "Unimplemented",
    "INTERNAL": "Internal",
    "UNAVAILABLE": "Unavailable",
    "DATA_LOSS": "DataLoss",
    "UNAUTHENTICATED": "Unauthenticated",
}


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is read at the moment of a scrape, on the scraper's thread: cheap, no SQL. One that raises shows as NaN."""

    queue_events: Callable[[], float]
    queue_bytes: Callable[[], float]
    head: Callable[[], float]
    months: Callable[[], float]
    wal_bytes: Callable[[], float]
    disk_free_bytes: Callable[[], float]
    event_loop_lag_seconds: Callable[[], float]


def build_info() -> dict[str, str]:
    """The versions that a bug report needs."""
    versions = {"version": "trackd", "grpc": "grpcio", "apsw": "apsw"}
    return {label: _version_of(name) for label, name in versions.items()} | {"python": platform.python_version()}


def _version_of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # run from a tree that was never installed
        return "unknown"


class PrometheusObserver(Observer):
    """Turns announcements into series of its own registry."""

    def __init__(
        self, gauges: Gauges, *, objectives_seconds: Iterable[float] = (), build: Mapping[str, str] | None = None
    ) -> None:
        """`objectives_seconds`: latencies promised to users. Each becomes a bucket: a share is exact only there."""
        # A second series beside each counter, for a time nobody asks for. The switch is global to the process.
        prometheus_client.disable_created_metrics()
        self.registry = CollectorRegistry()
        buckets = sorted({*LATENCY_BUCKETS_S, *objectives_seconds})
        self._calls = _CallSeries(self.registry, buckets)
        self._batches = _BatchSeries(self.registry, buckets)
        seconds = Histogram(
            "trackd_query_seconds", "From question to answer.", ["kind"], registry=self.registry, buckets=buckets
        )
        self._question_seconds = _Children(seconds.labels, QUESTION_KINDS)
        failures = Counter(
            "trackd_query_failures", "Questions that the daemon owes the answer to.", ["kind"], registry=self.registry
        )
        self._question_failures = _Children(failures.labels, QUESTION_KINDS)
        labels = dict(build_info() if build is None else build)
        Gauge("trackd_build", "Always 1; the labels say what runs.", labels, registry=self.registry, unit="info").labels(
            **labels
        ).set(1)
        self.registry.register(_GaugeCollector(gauges))
        # Memory, processor time and open files of the process, under their standard names.
        ProcessCollector(registry=self.registry)

    def batch_answered(self, batch: BatchAnswered) -> None:
        """Counts the events by result and reason, and observes the acknowledgement's latency once."""
        self._batches.answered(batch)

    def batch_refused(self, refusal: BatchRefused) -> None:
        """Counts the batch by reason and its events as refused."""
        self._batches.refused(refusal)

    def accepted_lost(self, events: int) -> None:
        """Counts them."""
        self._batches.lost.inc(events)

    def group_committed(self, group: GroupCommitted) -> None:
        """Observes the commit."""
        self._batches.committed(group)

    def question_answered(self, question: QuestionAnswered) -> None:
        """Observes its latency, and counts it if it failed."""
        self._question_seconds[question.kind].observe(question.seconds)
        if not question.ok:
            self._question_failures[question.kind].inc()

    def call_started(self, call: CallStarted) -> None:
        """Counts it."""
        self._calls.started[call.service, call.method].inc()

    def call_handled(self, call: CallHandled) -> None:
        """Counts it by code; only calls with one answer have a latency: a stream's lifetime says nothing."""
        key = (call.service, call.method)
        self._calls.handled[key][call.code].inc()
        if call.type == "unary":
            self._calls.seconds[key].observe(call.seconds)

    def message_received(self, service: str, method: str, type: str) -> None:
        """Counts it."""
        self._calls.received[service, method].inc()

    def message_sent(self, service: str, method: str, type: str) -> None:
        """Counts it."""
        self._calls.sent[service, method].inc()
