"""The Prometheus side of what core code announces. Besides the exporter only this package knows prometheus_client.

Names and labels of gRPC are those of go-grpc-middleware, which dashboards know. No label value comes from a client. A
series that is known exists from the start, because a rate() needs the zero before the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector

from server.metrics.build import build_info
from server.metrics.gauges import GaugeCollector, Gauges
from server.metrics.promises import Tally, TallyCollector
from server.metrics.retention import RetentionSeries
from server.metrics.security import SecuritySeries
from server.model import Durability
from server.objectives import AVAILABILITY, INGEST_ACK, QUERY, Objective
from server.observe import (
    BatchAbandoned,
    BatchAnswered,
    BatchRefused,
    CallDenied,
    CallHandled,
    CallStarted,
    Ending,
    GroupCommitted,
    Observer,
    PageRead,
    QuestionAnswered,
    Reloaded,
    RetentionActed,
)

_Child = TypeVar("_Child")

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""From well below one fsync to what nobody waits for."""

COMMIT_BUCKETS_EVENTS = (1, 10, 100, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000)
"""From one lone event to twice the usual bound of a group."""

EVENT_RESULTS = ("accepted", "duplicate", "rejected", "queued", "refused")
"""Every event that is sent ends in one; `refused` are those of batches that were refused as a whole."""

REJECTION_REASONS = (
    "ATOMIC_ABORTED",
    "CHANGE_INVALID",
    "CLIENT_IP_INVALID",
    "CLOUD_EVENT_INVALID",
    "EVENT_NAME_MISSING",
    "FIELD_TOO_LONG",
    "ID_CONFLICT",
    "ID_INVALID",
    "METADATA_NOT_JSON_OBJECT",
    "METADATA_TOO_DEEP",
    "METADATA_TOO_LARGE",
    "MONTH_DAMAGED",
    "MONTH_DROPPED",
    "MONTH_LIMIT",
    "MONTH_SEALED",
    "SOURCE_INVALID",
    "SOURCE_LIMIT",
    "TAG_INVALID",
    "TEXT_HAS_NUL",
    "TEXT_NOT_UTF8",
    "TIMESTAMP_IN_FUTURE",
    "TIMESTAMP_REQUIRED",
    "TIMESTAMP_TOO_OLD",
    "TYPE_INVALID",
    "TYPE_LIMIT",
    "TYPE_UNKNOWN",
    "TYPE_WITHOUT_POLICY",
)
"""Why single events are rejected. Any other reason of ours gets its series when it first happens."""

REFUSAL_REASONS = ("BATCH_TOO_LARGE", "DISK_FULL", "DRAINING", "MONTH_REOPENING", "QUEUE_FULL")
"""The same for batches as a whole."""

QUESTION_KINDS = ("list_events", "count_events", "aggregate")
"""What can be asked."""

METHODS: Mapping[tuple[str, str], str] = {
    ("trackd.v1.IngestService", "Append"): "unary",
    ("trackd.v1.IngestService", "AppendStream"): "bidi_stream",
    ("trackd.v1.QueryService", "ListEvents"): "unary",
    ("trackd.v1.QueryService", "CountEvents"): "unary",
    ("trackd.v1.QueryService", "Aggregate"): "unary",
    ("trackd.v1.EventTypeService", "ListEventTypes"): "unary",
    ("trackd.v1.EventTypeService", "DescribeEventType"): "unary",
    ("trackd.v1.EventTypeService", "RegisterEventType"): "unary",
    ("trackd.v1.SubscribeService", "Subscribe"): "server_stream",
    ("trackd.v1.RetentionService", "Plan"): "unary",
    ("trackd.v1.RetentionService", "Apply"): "unary",
    ("trackd.v1.RetentionService", "WatchJob"): "server_stream",
    ("trackd.v1.RetentionService", "ListJobs"): "unary",
    ("trackd.v1.RetentionService", "CancelJob"): "unary",
    ("trackd.v1.RetentionService", "AgreeToPlan"): "unary",
    ("trackd.v1.RetentionService", "GetRetentionStatus"): "unary",
    ("trackd.v1.RetentionService", "ListMonths"): "unary",
    ("trackd.v1.RetentionService", "ExplainMonth"): "unary",
    ("trackd.v1.RetentionService", "ListHolds"): "unary",
    ("trackd.v1.RetentionService", "PlaceHold"): "unary",
    ("trackd.v1.RetentionService", "ReleaseHold"): "unary",
    ("trackd.v1.RetentionService", "ListEvidence"): "unary",
    ("trackd.cloudevents.v1.CloudEventService", "Publish"): "unary",
    ("opentelemetry.proto.collector.logs.v1.LogsService", "Export"): "unary",
}
"""(service, method) -> type; a test compares it with protos/trackd/v1."""

OTHER = ("other", "other")
"""Stands for all methods that are not in METHODS."""

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
"""Status names of the gRPC specification -> Go's spelling, which the dashboards use."""

OWED_CODES = frozenset({"UNAVAILABLE", "INTERNAL"})
"""What the daemon itself is at fault for: TrackdError.owed."""


class PrometheusObserver(Observer):
    """Turns announcements into series of its own `registry`."""

    def __init__(
        self, gauges: Gauges, *, objectives: Sequence[Objective] = (), build: Mapping[str, str] | None = None
    ) -> None:
        """`objectives`: their thresholds become buckets, for a share is exact only there.

        `build`: what `trackd_build_info` says; None takes `build_info()`.
        """
        # Drops a second series beside each counter, with a time nobody asks for. The switch is global to the process.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        tallies = [Tally(objective) for objective in objectives]
        self._ack_tallies, self._query_tallies, self._call_tallies = (
            [tally for tally in tallies if tally.objective.kind == kind] for kind in (INGEST_ACK, QUERY, AVAILABILITY)
        )
        self._batches = _BatchSeries(self.registry, _buckets(self._ack_tallies))
        self._calls = _CallSeries(self.registry, LATENCY_BUCKETS_S)
        self._questions = _QuestionSeries(self.registry, _buckets(self._query_tallies))
        self._pages = _PageSeries(self.registry, LATENCY_BUCKETS_S)
        self._security = SecuritySeries(self.registry)
        self._retention = RetentionSeries(self.registry)
        info = Info("trackd_build", "Always 1; the labels say what runs.", registry=self.registry)
        info.info(dict(build_info() if build is None else build))
        self.registry.register(GaugeCollector(gauges))
        self.registry.register(TallyCollector(tallies))
        # Memory, processor time and open files of this process, under their standard names.
        ProcessCollector(registry=self.registry)

    def batch_answered(self, batch: BatchAnswered) -> None:
        """Counts the events by result and reason, and observes the latency of the acknowledgement once."""
        series = self._batches
        series.ack_seconds[batch.durability].observe(batch.seconds)
        series.bytes.inc(batch.bytes)
        results = series.results
        if batch.accepted:
            results["accepted"].inc(batch.accepted)
        if batch.duplicate:
            results["duplicate"].inc(batch.duplicate)
        if batch.rejected:
            results["rejected"].inc(batch.rejected)
        if batch.queued:
            results["queued"].inc(batch.queued)
        for reason, events in batch.reasons.items():
            series.rejections[reason].inc(events)
        if batch.durability == Durability.DURABLE.value:
            for tally in self._ack_tallies:
                tally.answered(batch.seconds)
        if batch.streamed:
            for tally in self._call_tallies:
                tally.answered(batch.seconds)

    def batch_refused(self, refusal: BatchRefused) -> None:
        """Counts the batch by reason and its events as refused."""
        self._batches.refusals[refusal.reason].inc()
        self._batches.results["refused"].inc(refusal.events)
        if refusal.owed:
            for tally in self._ack_tallies:
                tally.owed()
            if refusal.streamed:
                for tally in self._call_tallies:
                    tally.owed()

    def batch_abandoned(self, batch: BatchAbandoned) -> None:
        """Bad for an objective whose threshold was over by then."""
        if batch.durability == Durability.DURABLE.value:
            for tally in self._ack_tallies:
                tally.abandoned(batch.seconds)

    def accepted_lost(self, events: int) -> None:
        """Counts them."""
        self._batches.lost.inc(events)

    def group_committed(self, group: GroupCommitted) -> None:
        """Observes how long it took and how much it held."""
        series = self._batches
        series.commit_seconds.observe(group.seconds)
        series.commit_events.observe(group.events)
        series.commit_batches.inc(group.batches)
        series.linger_seconds.inc(group.linger_seconds)

    def question_answered(self, question: QuestionAnswered) -> None:
        """Observes its latency, and counts it if it failed."""
        self._questions.seconds[question.kind].observe(question.seconds)
        ending = question.ending
        for tally in self._query_tallies:
            if ending is Ending.ANSWERED:
                tally.answered(question.seconds)
            elif ending is Ending.OWED:
                tally.owed()
            elif ending is Ending.ABANDONED:
                tally.abandoned(question.seconds)
        if ending is Ending.OWED:
            self._questions.failures[question.kind].inc()

    def page_read(self, page: PageRead) -> None:
        """Observes how long it took."""
        self._pages.seconds.observe(page.seconds)

    def events_delivered(self, events: int, size_bytes: int) -> None:
        """Counts them."""
        self._pages.events.inc(events)
        self._pages.bytes.inc(size_bytes)

    def call_started(self, call: CallStarted) -> None:
        """Counts it."""
        self._calls.started[call.service, call.method].inc()

    def call_handled(self, call: CallHandled) -> None:
        """Counts it by code. Only unary calls have a latency: the lifetime of a stream says nothing."""
        self._calls.handled[call.service, call.method][GO_CODES.get(call.code, "Unknown")].inc()
        if call.type == "unary":
            self._calls.seconds[call.service, call.method].observe(call.seconds)
        if call.code == "OK":
            for tally in self._call_tallies:
                tally.answered(call.seconds)
        elif call.code in OWED_CODES:
            for tally in self._call_tallies:
                tally.owed()

    def call_denied(self, denial: CallDenied) -> None:
        """Counts it by reason."""
        self._security.denied(denial)

    def reloaded(self, reload: Reloaded) -> None:
        """Counts it, and keeps whether the last one of its kind succeeded."""
        self._security.reloaded(reload)

    def retention_acted(self, action: RetentionActed) -> None:
        """Counts it, and its rows."""
        self._retention.acted(action)

    def message_received(self, service: str, method: str, type: str) -> None:  # noqa: ARG002  # METHODS knows it
        """Counts it."""
        self._calls.received[service, method].inc()

    def message_sent(self, service: str, method: str, type: str) -> None:  # noqa: ARG002  # METHODS knows it
        """Counts it."""
        self._calls.sent[service, method].inc()


def _buckets(tallies: Iterable[Tally]) -> Sequence[float]:
    return sorted({*LATENCY_BUCKETS_S, *(tally.objective.threshold_seconds for tally in tallies)})


class _ByWord(dict[str, _Child]):
    """The children of a metric with one label, without the cost of `labels()`; grows with words of our own."""

    def __init__(self, child: Callable[[str], _Child], known: Iterable[str]) -> None:
        super().__init__((word, child(word)) for word in known)
        self._child = child

    def __missing__(self, word: str) -> _Child:
        return self.setdefault(word, self._child(word))


class _ByMethod(dict[tuple[str, str], _Child]):
    """A child for each method that is known; the others share one, so that no client can add a series."""

    def __init__(self, child: Callable[[str, str, str], _Child]) -> None:
        known = {**METHODS, OTHER: "unary"}
        super().__init__((key, child(kind, *key)) for key, kind in known.items())

    def __missing__(self, key: tuple[str, str]) -> _Child:
        return self[OTHER]


class _BatchSeries:
    """The way of a batch: what became of its events, its commit, its answer."""

    def __init__(self, registry: CollectorRegistry, buckets: Sequence[float]) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, bounds: Sequence[float], *labels: str) -> Histogram:
            return Histogram(name, text, labels, registry=registry, buckets=bounds)

        ack = "Seconds from reading a batch to handing its answer to gRPC: what users wait for."
        self.ack_seconds = _ByWord(
            histogram("trackd_ingest_ack_seconds", ack, buckets, "durability").labels,
            [level.value for level in Durability],
        )
        self.results = _ByWord(
            counter("trackd_events_ingested", "Events sent, by what became of them.", "result").labels, EVENT_RESULTS
        )
        self.rejections = _ByWord(
            counter("trackd_events_rejected", "Events not stored, by reason.", "reason").labels, REJECTION_REASONS
        )
        self.refusals = _ByWord(
            counter("trackd_batches_refused", "Batches refused as a whole, by reason.", "reason").labels,
            REFUSAL_REASONS,
        )
        self.lost = counter("trackd_events_accepted_lost", "Events answered as queued and then not stored.")
        self.bytes = counter("trackd_ingest_received_bytes", "Bytes of the batches that were taken, as encoded.")
        self.commit_seconds = histogram(
            "trackd_ingest_commit_seconds", "Seconds that a group took to be durable.", buckets
        )
        self.commit_events = histogram("trackd_ingest_commit_events", "Events in a group.", COMMIT_BUCKETS_EVENTS)
        self.commit_batches = counter("trackd_ingest_commit_batches", "Batches in groups that were committed.")
        self.linger_seconds = counter("trackd_ingest_linger_seconds", "Seconds that groups waited for more batches.")


class _CallSeries:
    """What go-grpc-middleware exports, under its names."""

    def __init__(self, registry: CollectorRegistry, buckets: Sequence[float]) -> None:
        labels = ("grpc_type", "grpc_service", "grpc_method")

        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(name, text, (*labels, *more), registry=registry)

        handled = counter("grpc_server_handled", "Calls that ended, by status.", "grpc_code")
        text = "Seconds that unary calls took."
        seconds = Histogram("grpc_server_handling_seconds", text, labels, registry=registry, buckets=buckets)
        self.started = _ByMethod(counter("grpc_server_started", "Calls that came in.").labels)
        self.handled = _ByMethod(
            lambda kind, service, method: {
                code: handled.labels(kind, service, method, code) for code in GO_CODES.values()
            }
        )
        self.seconds = _ByMethod(seconds.labels)
        self.received = _ByMethod(counter("grpc_server_msg_received", "Messages from clients.").labels)
        self.sent = _ByMethod(counter("grpc_server_msg_sent", "Messages to clients.").labels)


class _QuestionSeries:
    """Latency and failures of questions."""

    def __init__(self, registry: CollectorRegistry, buckets: Sequence[float]) -> None:
        text = "Seconds from a question to its answer, waiting for a reader included."
        seconds = Histogram("trackd_query_seconds", text, ("kind",), registry=registry, buckets=buckets)
        text = "Questions that the daemon owes the answer to."
        failures = Counter("trackd_query_failures", text, ("kind",), registry=registry)
        self.seconds = _ByWord(seconds.labels, QUESTION_KINDS)
        self.failures = _ByWord(failures.labels, QUESTION_KINDS)


class _PageSeries:
    """Pages for subscribers."""

    def __init__(self, registry: CollectorRegistry, buckets: Sequence[float]) -> None:
        text = "Seconds that a page for subscribers took, waiting for a reader included."
        self.seconds = Histogram("trackd_subscribe_page_seconds", text, registry=registry, buckets=buckets)
        self.events = Counter("trackd_subscribe_events", "Events sent to subscribers.", registry=registry)
        self.bytes = Counter(
            "trackd_subscribe_bytes", "Bytes sent to subscribers: their events as encoded.", registry=registry
        )
