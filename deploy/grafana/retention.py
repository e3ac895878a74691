"""The dashboard of retention: what is kept, for how long already, and whether the policy is followed."""

from __future__ import annotations

from deploy.grafana.panels import ME, Dashboard, Panel, Row, gauge, rate

FIRING = (
    "sum by (alertname, severity) (ALERTS{"
    'alertname=~"TrackdRetention.+|TrackdMonthDamaged|TrackdDiskFilling", alertstate="firing"})'
)

FOLLOWED = Row(
    "Is the policy followed?",
    (
        Panel(
            "Kept beyond the policy",
            "s",
            [(f"max by (class) (trackd_retention_overdue_seconds{{{ME}}})", "{{class}}")],
            "Computed from the data, whatever the scheduler says. Above 0 something is kept too long.",
        ),
        Panel(
            "Last ended well",
            "dateTimeFromNow",
            [(f"1000 * min by (class) (trackd_retention_last_success_timestamp_seconds{{{ME}}})", "{{class}}")],
            "Every class of the policy.",
            kind="stat",
        ),
        Panel(
            "Last failed",
            "dateTimeFromNow",
            [
                (
                    f"1000 * max by (class) (trackd_retention_last_failure_timestamp_seconds{{{ME}}} > 0)",
                    "{{class}}",
                )
            ],
            "Empty where no run has failed.",
            kind="stat",
        ),
        Panel(
            "What runs did",
            "short",
            [
                (
                    f"sum by (action, status) (increase(trackd_retention_actions_total{{{ME}}}[1d])) > 0",
                    "{{action}} {{status}}",
                )
            ],
            "Actions of the last 24 hours, by how they ended.",
        ),
        Panel(
            "How many rows it was",
            "short",
            [(f"sum by (action) (increase(trackd_retention_rows_total{{{ME}}}[1d])) > 0", "{{action}}")],
            "Rows of the months and persons that actions of the last 24 hours were about, of those that were done.",
        ),
        Panel("Alerts that fire", "none", [(FIRING, "")], "Each has a section in deploy/RUNBOOK.md.", kind="table"),
    ),
)

KEPT = Row(
    "What is kept?",
    (
        Panel(
            "Events, by state of their month",
            "short",
            [(f"sum by (state) (trackd_month_rows{{{ME}}})", "{{state}}")],
            "Only sealed months are archived, anonymized or dropped.",
            stack=True,
        ),
        Panel(
            "Bytes, by state of the month",
            "bytes",
            [(f"sum by (state) (trackd_month_bytes{{{ME}}})", "{{state}}")],
            stack=True,
        ),
        Panel(
            "Months",
            "short",
            [gauge("trackd_months", "all"), gauge("trackd_months_damaged", "damaged")],
            "A damaged month cannot be archived or dropped.",
        ),
    ),
)

LATE = Row(
    "What comes too late?",
    (
        Panel(
            "Late events",
            "eps",
            [
                (
                    rate(
                        "trackd_events_rejected_total",
                        "reason",
                        'reason=~"MONTH_SEALED|MONTH_DAMAGED|TIMESTAMP_TOO_OLD"',
                    ),
                    "{{reason}}",
                )
            ],
            "Rejected, because their month takes none any more. Many: seal later (rotation.seal_after_days).",
            width=24,
        ),
    ),
)

RETENTION = Dashboard("retention", "trackd: retention", (FOLLOWED, KEPT, LATE))
