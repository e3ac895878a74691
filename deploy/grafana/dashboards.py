"""The Grafana dashboards of trackd, as code: `python -m deploy.grafana.dashboards` writes their files.

`--check` only says whether they are as this module makes them. Import them in Grafana (Dashboards, New, Import), or let
its provisioning find them. They ask for a Prometheus that scrapes trackd as deploy/prometheus/prometheus.yml says.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.grafana.panels import ME, RATE, Dashboard, Panel, Row, bounded, gauge, quantiles, rate, text
from deploy.grafana.retention import RETENTION

BURN_1H = (
    f"trackd:objective_bad:ratio_rate1h{{{ME}}}"
    f" / on (instance, job, objective) (1 - trackd_objective_target_ratio{{{ME}}})"
)
VERSIONS = (
    f'1000 * process_start_time_seconds{{job="trackd", {ME}}}'
    " * on (instance, job) group_left (version) trackd_build_info"
)

PROMISES = Row(
    "Does trackd keep its promises?",
    (
        Panel(
            "Left of the error budgets",
            "percentunit",
            [(f"trackd:objective_budget:remaining_ratio{{{ME}}}", "{{objective}}")],
            "All of it is 100 %. Below 0 the objective is missed.",
            kind="bargauge",
            limits=(0.0, 0.25),
        ),
        Panel(
            "Burn rate, last hour",
            "none",
            [
                (BURN_1H, "{{objective}}"),
            ],
            "1 uses up a budget exactly at the end of its window; 14.4 wakes somebody up.",
        ),
        Panel(
            "Alerts that fire",
            "none",
            [('sum by (alertname, severity, objective) (ALERTS{alertname=~"Trackd.+", alertstate="firing"})', "")],
            "Each has a section in deploy/RUNBOOK.md.",
            kind="table",
        ),
    ),
)

ACK = Panel(
    "Acknowledgement",
    "s",
    quantiles("trackd_ingest_ack_seconds", where='durability="durable"'),
    "From reading a batch until its answer is handed to gRPC.",
)
RESULTS = Panel(
    "Events by what became of them",
    "eps",
    [(rate("trackd_events_ingested_total", "result"), "{{result}}")],
    stack=True,
)
FAILED = Panel(
    "Calls that failed",
    "reqps",
    [
        (
            rate("grpc_server_handled_total", "grpc_method, grpc_code", 'grpc_code!="OK"') + " > 0",
            "{{grpc_method}} {{grpc_code}}",
        )
    ],
    "Unavailable and Internal are the daemon's fault, the others are the client's.",
)
QUESTIONS = Panel("Questions", "s", quantiles("trackd_query_seconds"), "From asking to the answer, waiting included.")
DISK = Panel(
    "Room on the disk", "bytes", bounded("trackd_disk_free_bytes", "free", "min"), "Below the limit events are refused."
)

SECURITY = Row(
    "Who gets in?",
    (
        Panel(
            "Calls denied",
            "reqps",
            [(rate("trackd_calls_denied_total", "reason") + " > 0", "{{reason}}")],
            "README, Errors, says what each reason means.",
        ),
        Panel(
            "Valid until",
            "dateTimeFromNow",
            [
                (f"1000 * min(trackd_{name}_timestamp_seconds{{{ME}}} > 0)", words)
                for name, words in (
                    ("tls_certificate_expiry", "certificate"),
                    ("tls_client_ca_expiry", "authority for clients"),
                    ("token_expiry", "next token"),
                )
            ],
            "What is not in use is not shown.",
            kind="stat",
        ),
        Panel(
            "Settings, tokens, certificates read again",
            "short",
            [
                (f"sum by (what, result) (increase(trackd_reloads_total{{{ME}}}{RATE})) > 0", "{{what}} {{result}}"),
                (f"min by (what) (trackd_last_reload_ok{{{ME}}})", "{{what}} in force"),
            ],
            "0: the last change could not be used, and those before go on to hold; the log says why.",
        ),
    ),
)

OVERVIEW = Dashboard(
    "overview",
    "trackd: overview",
    (
        PROMISES,
        Row(
            "Is it well?",
            (
                RESULTS,
                ACK,
                QUESTIONS,
                FAILED,
                DISK,
                Panel(
                    "Ready",
                    "none",
                    [
                        (f"trackd_ready{{{ME}}}", "{{instance}}"),
                        ('up{job="trackd", ' + ME + "}", "scraped {{instance}}"),
                    ],
                    "1: takes events. 0: the disk is full, or it starts or stops.",
                ),
            ),
        ),
        SECURITY,
        Row(
            "What does it use?",
            (
                Panel(
                    "Processor",
                    "percentunit",
                    [(f'rate(process_cpu_seconds_total{{job="trackd", {ME}}}{RATE})', "{{instance}}")],
                    "1 is one core.",
                ),
                Panel("Memory", "bytes", [(f'process_resident_memory_bytes{{job="trackd", {ME}}}', "{{instance}}")]),
                Panel(
                    "Event loop lag",
                    "s",
                    [gauge("trackd_event_loop_lag_seconds", "worst of the last minute")],
                    "Every call waits for as long.",
                ),
                Panel(
                    "Events kept", "short", [(f"sum by (state) (trackd_month_rows{{{ME}}})", "{{state}}")], stack=True
                ),
                Panel(
                    "Files of months",
                    "bytes",
                    [(f"sum by (state) (trackd_month_bytes{{{ME}}})", "{{state}}")],
                    stack=True,
                ),
                Panel(
                    "Running since, and what",
                    "dateTimeFromNow",
                    [(VERSIONS, "{{instance}} {{version}}")],
                    kind="stat",
                ),
            ),
        ),
    ),
)

BATCHES_PER_COMMIT = f"{rate('trackd_ingest_commit_batches_total')} / {rate('trackd_ingest_commit_seconds_count')}"

INGEST = Dashboard(
    "ingest",
    "trackd: ingest",
    (
        Row(
            "What comes in",
            (
                RESULTS,
                Panel("Bytes of batches", "Bps", [(rate("trackd_ingest_received_bytes_total"), "received")]),
                Panel("Streams", "short", [gauge("trackd_ingest_streams", "open")]),
                Panel(
                    "Events rejected",
                    "eps",
                    [(rate("trackd_events_rejected_total", "reason") + " > 0", "{{reason}}")],
                    "The senders' own faults; README, Errors, says what each means.",
                ),
                Panel(
                    "Batches refused",
                    "reqps",
                    [(rate("trackd_batches_refused_total", "reason") + " > 0", "{{reason}}")],
                ),
                Panel(
                    "Queued and then lost",
                    "eps",
                    [(rate("trackd_events_accepted_lost_total"), "lost")],
                    "Level ACCEPTED only.",
                ),
            ),
        ),
        Row(
            "How fast it is answered",
            (
                Panel("Acknowledgement", "s", quantiles("trackd_ingest_ack_seconds", "durability")),
                Panel(
                    "Acknowledgement, all of it",
                    "s",
                    [(rate("trackd_ingest_ack_seconds_bucket", "le", 'durability="durable"'), "{{le}}")],
                    kind="heatmap",
                ),
                Panel(
                    "Commit",
                    "s",
                    quantiles("trackd_ingest_commit_seconds"),
                    "Of a group of batches, until it is on disk.",
                ),
                Panel(
                    "Events in a commit",
                    "short",
                    [
                        (
                            f"{rate('trackd_ingest_commit_events_sum')} / {rate('trackd_ingest_commit_events_count')}",
                            "events",
                        )
                    ],
                ),
                Panel(
                    "Batches in a commit",
                    "short",
                    [(BATCHES_PER_COMMIT, "batches")],
                ),
                Panel(
                    "The writer's time",
                    "percentunit",
                    [
                        (rate("trackd_ingest_commit_seconds_sum"), "writing"),
                        (rate("trackd_ingest_linger_seconds_total"), "waiting for more"),
                    ],
                    "Near 100 % writing: this is all that the disk takes.",
                ),
            ),
        ),
        Row(
            "What piles up",
            (
                Panel("Write queue, events", "short", bounded("trackd_write_queue_events", "waiting")),
                Panel("Write queue, bytes", "bytes", bounded("trackd_write_queue_bytes", "waiting")),
                Panel(
                    "Events not indexed",
                    "short",
                    bounded("trackd_fold_lag_events", "tail"),
                    "At the limit senders wait.",
                ),
                Panel(
                    "Months to index",
                    "short",
                    [
                        gauge("trackd_months_unindexed", "behind or without"),
                        gauge("trackd_months_unmerged", "to merge"),
                    ],
                ),
                Panel(
                    "Write-ahead logs",
                    "bytes",
                    bounded("trackd_sqlite_wal_bytes", "all months"),
                    "The limit is for one month.",
                ),
                DISK,
            ),
        ),
        Row(
            "Limits",
            (
                Panel("Event types", "short", bounded("trackd_event_types", "types"), width=12),
                Panel(
                    "Months",
                    "short",
                    [*bounded("trackd_months", "months"), gauge("trackd_months_damaged", "damaged")],
                    width=12,
                ),
            ),
        ),
    ),
)

QUESTIONING = Dashboard(
    "questions",
    "trackd: questions",
    (
        Row(
            "Questions",
            (
                Panel("Questions", "reqps", [(rate("trackd_query_seconds_count", "kind"), "{{kind}}")], stack=True),
                Panel("Latency", "s", quantiles("trackd_query_seconds", "kind")),
                Panel(
                    "Latency, all of it",
                    "s",
                    [(rate("trackd_query_seconds_bucket", "le"), "{{le}}")],
                    kind="heatmap",
                ),
                Panel(
                    "Answers owed",
                    "reqps",
                    [(rate("trackd_query_failures_total", "kind"), "{{kind}}")],
                    "Refused for want of room, stopped after query.timeout_max_ms, or failed.",
                ),
                Panel("Waiting for a reader", "short", bounded("trackd_queries_waiting", "waiting")),
                Panel(
                    "Months read event by event",
                    "short",
                    [gauge("trackd_months_unindexed", "months")],
                    "Their index is missing or behind.",
                ),
            ),
        ),
        Row(
            "Calls",
            (
                Panel("Calls", "reqps", [(rate("grpc_server_started_total", "grpc_method"), "{{grpc_method}}")]),
                Panel(
                    "Unary calls, 99th percentile", "s", quantiles("grpc_server_handling_seconds", "grpc_method")[1:]
                ),
                FAILED,
            ),
        ),
        Row(
            "Subscribers",
            (
                Panel("Connected", "short", [gauge("trackd_subscribers", "subscribers")]),
                Panel("The slowest is behind by", "short", [gauge("trackd_subscriber_lag_events", "positions")]),
                Panel("Events sent", "eps", [(rate("trackd_subscribe_events_total"), "events")]),
                Panel("Bytes sent", "Bps", [(rate("trackd_subscribe_bytes_total"), "bytes")]),
                Panel("Reading a page", "s", quantiles("trackd_subscribe_page_seconds")),
                Panel(
                    "Messages",
                    "short",
                    [
                        (rate("grpc_server_msg_sent_total", "grpc_method"), "sent {{grpc_method}}"),
                        (rate("grpc_server_msg_received_total", "grpc_method"), "received {{grpc_method}}"),
                    ],
                    "A second.",
                ),
            ),
        ),
    ),
)

DASHBOARDS = (OVERVIEW, INGEST, QUESTIONING, RETENTION)


def main() -> int:
    """Writes the files, or compares them."""
    outdated = []
    for dashboard in DASHBOARDS:
        file = Path(__file__).with_name(f"trackd-{dashboard.name}.json")
        if sys.argv[1:] == ["--check"]:
            if not file.exists() or file.read_text("utf-8") != text(dashboard):
                outdated.append(file.name)
        else:
            file.write_text(text(dashboard), "utf-8")
    if outdated:
        print(f"not as made by {Path(__file__).name}: {', '.join(outdated)}", file=sys.stderr)
    return bool(outdated)


if __name__ == "__main__":
    sys.exit(main())
