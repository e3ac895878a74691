"""Gauges: what is read at the moment of a scrape, on the scraper's thread, and costs nothing in between."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, get_type_hints

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

Reading = Callable[[], float]
ByWord = Callable[[], Mapping[str, float]]
"""A value for each state of months, or each class of the policy."""


@dataclass(frozen=True, slots=True)
class About:
    """How a gauge is exported. `label`: what its values differ in, if it has several."""

    name: str
    text: str
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """Each is cheap and asks no database. One that raises shows as NaN, or not at all if it has a label."""

    ready: Annotated[Reading, About("trackd_ready", "1 while events are taken, 0 while /readyz says no.")]
    queue_events: Annotated[Reading, About("trackd_write_queue_events", "Events waiting for the writer.")]
    queue_events_max: Annotated[
        Reading,
        About(
            "trackd_write_queue_events_max", "Events in the write queue at which senders are slowed down or refused."
        ),
    ]
    queue_bytes: Annotated[Reading, About("trackd_write_queue_bytes", "Bytes of batches waiting for the writer.")]
    queue_bytes_max: Annotated[
        Reading,
        About("trackd_write_queue_bytes_max", "Bytes in the write queue at which senders are slowed down or refused."),
    ]
    ingest_streams: Annotated[Reading, About("trackd_ingest_streams", "AppendStream calls that are open.")]
    queries_waiting: Annotated[Reading, About("trackd_queries_waiting", "Questions that wait for a reader.")]
    queries_waiting_max: Annotated[
        Reading, About("trackd_queries_waiting_max", "Questions waiting for a reader at which more are refused.")
    ]
    head: Annotated[Reading, About("trackd_head_position", "The highest position that is durable and visible.")]
    months: Annotated[Reading, About("trackd_months", "Months in the store.")]
    months_max: Annotated[Reading, About("trackd_months_max", "Months at which events of further months are rejected.")]
    months_damaged: Annotated[
        Reading, About("trackd_months_damaged", "Months that cannot be read and refuse everything.")
    ]
    month_rows: Annotated[
        ByWord, About("trackd_month_rows", "Events in months, as far as the index knows them.", "state")
    ]
    month_bytes: Annotated[
        ByWord, About("trackd_month_bytes", "Bytes of the files of months, without their write-ahead logs.", "state")
    ]
    event_types: Annotated[Reading, About("trackd_event_types", "Event types that are registered.")]
    event_types_max: Annotated[
        Reading, About("trackd_event_types_max", "Event types at which events of further types are rejected.")
    ]
    fold_lag_events: Annotated[
        Reading,
        About("trackd_fold_lag_events", "Events, over all months, that the index does not cover yet: the tail."),
    ]
    fold_lag_events_max: Annotated[
        Reading, About("trackd_fold_lag_events_max", "Events in the tail at which senders wait for the index.")
    ]
    months_unindexed: Annotated[
        Reading,
        About(
            "trackd_months_unindexed",
            "Months whose index is missing or behind: questions about them read the events themselves.",
        ),
    ]
    months_unmerged: Annotated[
        Reading, About("trackd_months_unmerged", "Months whose index is complete and has runs to merge.")
    ]
    wal_bytes: Annotated[Reading, About("trackd_sqlite_wal_bytes", "Bytes of all write-ahead logs together.")]
    wal_bytes_max: Annotated[
        Reading,
        About("trackd_sqlite_wal_bytes_max", "Bytes at which the log of one month is copied back while senders wait."),
    ]
    disk_free_bytes: Annotated[Reading, About("trackd_disk_free_bytes", "Bytes left on the file system of the data.")]
    disk_free_bytes_min: Annotated[
        Reading, About("trackd_disk_free_bytes_min", "Bytes left on the file system below which events are refused.")
    ]
    event_loop_lag_seconds: Annotated[
        Reading,
        About("trackd_event_loop_lag_seconds", "The most seconds that the event loop was late in the last minute."),
    ]
    subscribers: Annotated[Reading, About("trackd_subscribers", "Subscribers that are connected.")]
    subscriber_lag_events: Annotated[
        Reading,
        About(
            "trackd_subscriber_lag_events",
            "Positions from the slowest subscriber to the head: at most so many events are still to be sent to it.",
        ),
    ]
    certificate_start_seconds: Annotated[
        Reading,
        About(
            "trackd_tls_certificate_start_timestamp_seconds",
            "From when on the daemon's certificate is valid, in seconds since 1970; NaN without TLS.",
        ),
    ]
    certificate_expiry_seconds: Annotated[
        Reading,
        About(
            "trackd_tls_certificate_expiry_timestamp_seconds",
            "When the daemon's certificate, or one of its issuers, expires, in seconds since 1970; NaN without TLS.",
        ),
    ]
    client_ca_expiry_seconds: Annotated[
        Reading,
        About(
            "trackd_tls_client_ca_expiry_timestamp_seconds",
            "When nobody is left who signs for clients, in seconds since 1970; NaN if they need no certificate.",
        ),
    ]
    token_expiry_seconds: Annotated[
        Reading,
        About(
            "trackd_token_expiry_timestamp_seconds",
            "When the next token expires, or the last one did, that none of the same name outlives, in seconds since "
            "1970; NaN if none does.",
        ),
    ]
    retention_last_success: Annotated[
        ByWord,
        About(
            "trackd_retention_last_success_timestamp_seconds",
            "When a run of retention last ended well for a class of the policy, or began to know it; Unix seconds.",
            "class",
        ),
    ]
    retention_last_failure: Annotated[
        ByWord,
        About(
            "trackd_retention_last_failure_timestamp_seconds",
            "When a run of retention last failed for a class of the policy; Unix seconds, 0 if none has.",
            "class",
        ),
    ]
    retention_overdue_seconds: Annotated[
        ByWord,
        About(
            "trackd_retention_overdue_seconds",
            "Seconds that the oldest events of a class, in whichever copy, are kept beyond what the policy allows.",
            "class",
        ),
    ]


class GaugeCollector(Collector):
    """Reads the gauges when it is asked."""

    def __init__(self, gauges: Gauges) -> None:
        hints = get_type_hints(Gauges, include_extras=True)
        self._gauges: list[tuple[About, Reading | ByWord]] = [
            (hint.__metadata__[0], getattr(gauges, field)) for field, hint in hints.items()
        ]

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The names alone: registering must not call what is not there yet."""
        for about, _read in self._gauges:
            yield GaugeMetricFamily(about.name, about.text)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One reading of each."""
        for about, read in self._gauges:
            try:
                value = read()
            except Exception:  # noqa: BLE001  # one broken reading must not hide all other series
                value = {} if about.label else math.nan
            if isinstance(value, Mapping):
                family = GaugeMetricFamily(about.name, about.text, labels=(about.label,))
                for word, number in value.items():
                    family.add_metric((word,), number)
            else:
                family = GaugeMetricFamily(about.name, about.text, value=value)
            yield family
