"""Every alert of deploy/prometheus/trackd-alerts.rules.yml fires when it should, and only then."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.prometheus import SHIPPED, promtool, test_rules

RULES = SHIPPED / "trackd-alerts.rules.yml"
GIB = 2**30
DAY_S = 86_400
LABELS = '{instance="a", job="trackd"}'


@dataclass(frozen=True)
class Case:
    """Series with a value a minute (promtool's notation), when to look, and whether the alert fires then."""

    alert: str
    fires: bool
    at: str
    series: dict[str, str]
    beside: str = "none"
    """Another alert that may fire, too."""


def level(name: str, value: float, limit: float) -> dict[str, str]:
    """A gauge beside its limit, both constant."""
    return {name: f"{value}x400", f"{name}_max": f"{limit}x400"}


def moment(name: str, days: float) -> dict[str, str]:
    """A timestamp so many days after the series begin."""
    return {f"{name}_timestamp_seconds": f"{days * DAY_S:.0f}x400"}


def certificate(starts: float, ends: float) -> dict[str, str]:
    """The life of the daemon's certificate, in days from the begin of the series."""
    return moment("trackd_tls_certificate_start", starts) | moment("trackd_tls_certificate_expiry", ends)


def client_ca(ends: float) -> dict[str, str]:
    """The end of who signs for clients."""
    return moment("trackd_tls_client_ca_expiry", ends)


def retention(*, ended_well: float, failed: float) -> dict[str, str]:
    """When it last did, in seconds; nothing after that."""
    last = "trackd_retention_last_{}_timestamp_seconds"
    return {last.format("success"): f"{ended_well}x4000", last.format("failure"): f"{failed}x4000"}


FULL = {"trackd_write_queue_events_max": "1000x400", "trackd_write_queue_bytes_max": "9000x400"}

CASES = (
    Case("TrackdDown", True, "3m", {"up": "1 1 0x400"}),
    Case("TrackdDown", True, "3m", {"trackd_ready": "1x400"}),
    Case("TrackdDown", False, "3m", {"up": "1 1 0 1x400"}),
    Case("TrackdRestarting", True, "40m", {"process_start_time_seconds": "1x9 2x9 3x9 4x3 5x400"}),
    Case("TrackdRestarting", False, "40m", {"process_start_time_seconds": "1x9 2x9 3x9 4x400"}),
    Case("TrackdRestarting", False, "300m", {"process_start_time_seconds": "1x9 2x9 3x9 4x3 5x400"}),
    Case("TrackdNotReady", True, "4m", {"trackd_ready": "1 0x400"}),
    Case("TrackdNotReady", False, "4m", {"trackd_ready": "1 0 0 1x400"}),
    Case("TrackdMonthDamaged", True, "2m", {"trackd_months_damaged": "0 1x400"}),
    Case("TrackdMonthDamaged", False, "2m", {"trackd_months_damaged": "0x400"}),
    Case("TrackdWriteQueueNearFull", True, "7m", {"trackd_write_queue_events": "801x400", **FULL}),
    Case("TrackdWriteQueueNearFull", True, "7m", {"trackd_write_queue_bytes": "7201x400", **FULL}),
    Case("TrackdWriteQueueNearFull", False, "7m", {"trackd_write_queue_events": "800x400", **FULL}),
    Case("TrackdWriteQueueNearFull", False, "7m", {"trackd_write_queue_events": "1000x3 0 1000x400", **FULL}),
    Case("TrackdQueryQueueNearFull", True, "7m", level("trackd_queries_waiting", 60, 64)),
    Case("TrackdQueryQueueNearFull", False, "7m", level("trackd_queries_waiting", 50, 64)),
    Case("TrackdFoldLagHigh", True, "7m", level("trackd_fold_lag_events", 85, 100)),
    Case("TrackdFoldLagHigh", False, "7m", level("trackd_fold_lag_events", 79, 100)),
    Case("TrackdMonthsUnindexed", True, "32m", {"trackd_months_unindexed": "2x400"}),
    Case("TrackdMonthsUnindexed", False, "32m", {"trackd_months_unindexed": "2x20 0x400"}),
    Case("TrackdEventLoopLag", True, "7m", {"trackd_event_loop_lag_seconds": "0.3x400"}),
    Case("TrackdEventLoopLag", False, "7m", {"trackd_event_loop_lag_seconds": "0.2x400"}),
    # 10 GiB and a GiB less every hour: 7 GiB left after three hours, and nothing after a day.
    Case(
        "TrackdDiskFilling",
        True,
        "180m",
        {
            "trackd_disk_free_bytes": f"{10 * GIB}-{GIB // 60}x400",
            "trackd_disk_free_bytes_min": f"{GIB}x400",
        },
    ),
    Case(
        "TrackdDiskFilling",
        False,
        "180m",
        {
            "trackd_disk_free_bytes": f"{40 * GIB}-{GIB // 60}x400",
            "trackd_disk_free_bytes_min": f"{GIB}x400",
        },
    ),
    # It fell, and room was made: it does not go on.
    Case(
        "TrackdDiskFilling",
        False,
        "200m",
        {
            "trackd_disk_free_bytes": f"{10 * GIB}-{GIB // 20}x100 {5 * GIB}+0x400",
            "trackd_disk_free_bytes_min": f"{GIB}x400",
        },
    ),
    Case(
        "TrackdDiskNearlyFull",
        True,
        "3m",
        {"trackd_disk_free_bytes": "399x400", "trackd_disk_free_bytes_min": "100x400"},
    ),
    Case(
        "TrackdDiskNearlyFull",
        False,
        "3m",
        {"trackd_disk_free_bytes": "400x400", "trackd_disk_free_bytes_min": "100x400"},
    ),
    Case(
        "TrackdWalGrowing",
        True,
        "40m",
        {"trackd_sqlite_wal_bytes": "201+1x400", "trackd_sqlite_wal_bytes_max": "100x400"},
    ),
    Case("TrackdWalGrowing", False, "40m", level("trackd_sqlite_wal_bytes", 500, 100)),
    Case(
        "TrackdWalGrowing",
        False,
        "40m",
        {"trackd_sqlite_wal_bytes": "1+1x400", "trackd_sqlite_wal_bytes_max": "100x400"},
    ),
    Case("TrackdRetentionOverdue", True, "65m", {"trackd_retention_overdue_seconds": "0 60+60x400"}),
    Case("TrackdRetentionOverdue", False, "65m", {"trackd_retention_overdue_seconds": "60+60x30 0x400"}),
    Case("TrackdRetentionFailing", True, "13m", retention(ended_well=100, failed=160)),
    Case("TrackdRetentionFailing", False, "13m", retention(ended_well=160, failed=100)),
    Case("TrackdRetentionStale", True, "49h", retention(ended_well=100, failed=0)),
    Case("TrackdRetentionStale", False, "48h", retention(ended_well=100, failed=0)),
    Case("TrackdAcceptedEventsLost", True, "5m", {"trackd_events_accepted_lost_total": "0 0 3x400"}),
    Case("TrackdAcceptedEventsLost", False, "25m", {"trackd_events_accepted_lost_total": "0 0 3x400"}),
    Case("TrackdAcceptedEventsLost", False, "5m", {"trackd_events_accepted_lost_total": "3x400"}),
    Case("TrackdSubscriberLagging", True, "40m", {"trackd_subscriber_lag_events": "2000000+1000x400"}),
    Case("TrackdSubscriberLagging", False, "40m", {"trackd_subscriber_lag_events": "2000000-1000x400"}),
    Case("TrackdSubscriberLagging", False, "40m", {"trackd_subscriber_lag_events": "1000+1000x400"}),
    Case("TrackdLimitNear", True, "7m", level("trackd_event_types", 91, 100)),
    Case("TrackdLimitNear", True, "7m", level("trackd_months", 1100, 1200)),
    Case("TrackdLimitNear", False, "7m", level("trackd_months", 1000, 1200) | level("trackd_event_types", 90, 100)),
    Case("TrackdFilesNearLimit", True, "7m", {"process_open_fds": "820x400", "process_max_fds": "1000x400"}),
    Case("TrackdFilesNearLimit", False, "7m", {"process_open_fds": "800x400", "process_max_fds": "1000x400"}),
    # promtool's clock begins with 1970. A year that ends in 10 days; one that ends in 20; a day that ends in 12 hours.
    Case("TrackdCertificateExpiring", True, "7m", certificate(-355, 10)),
    Case("TrackdCertificateExpiring", False, "7m", certificate(-345, 20)),
    Case("TrackdCertificateExpiring", False, "7m", certificate(-0.5, 0.5)),
    Case("TrackdCertificateExpiring", False, "7m", certificate(math.nan, math.nan)),
    Case("TrackdCertificateExpiring", True, "7m", certificate(-345, 20) | client_ca(13)),
    Case("TrackdCertificateExpiring", False, "7m", certificate(-345, 20) | client_ca(15)),
    Case("TrackdCertificateNearlyExpired", True, "7m", certificate(-364, 1), "TrackdCertificateExpiring"),
    Case("TrackdCertificateNearlyExpired", True, "7m", certificate(-366, -1), "TrackdCertificateExpiring"),
    Case("TrackdCertificateNearlyExpired", True, "7m", certificate(-0.95, 0.05), "TrackdCertificateExpiring"),
    Case("TrackdCertificateNearlyExpired", True, "7m", client_ca(1), "TrackdCertificateExpiring"),
    Case("TrackdCertificateNearlyExpired", False, "7m", certificate(-362, 3), "TrackdCertificateExpiring"),
    Case("TrackdCertificateNearlyExpired", False, "7m", certificate(-0.85, 0.15), "TrackdCertificateExpiring"),
    Case("TrackdTokenExpiring", True, "7m", moment("trackd_token_expiry", 6)),
    Case("TrackdTokenExpiring", True, "7m", moment("trackd_token_expiry", -1)),
    Case("TrackdTokenExpiring", False, "7m", moment("trackd_token_expiry", 8)),
    Case("TrackdTokenExpiring", False, "7m", moment("trackd_token_expiry", math.nan)),
    Case("TrackdReloadFailed", True, "7m", {"trackd_last_reload_ok": "1 0x400"}),
    Case("TrackdReloadFailed", False, "7m", {"trackd_last_reload_ok": "0 0 0 1x400"}),
    Case("TrackdCallsDenied", True, "30m", {"trackd_calls_denied_total": "0+7x400"}),
    Case("TrackdCallsDenied", False, "30m", {"trackd_calls_denied_total": "0+5x400"}),
    Case("TrackdCallsDenied", False, "30m", {"trackd_calls_denied_total": "0+700x2 1400x400"}),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}-{'fires' if case.fires else 'silent'}")
def test_an_alert_fires_when_it_should_and_only_then(case: Case, tmp_path: Path) -> None:
    """By what promtool finds after these series."""
    present = {"up": "1x4000"} if case.alert != "TrackdDown" else {}
    test: dict[str, Any] = {
        "interval": "1m",
        "input_series": [
            {"series": f"{name}{LABELS}", "values": _values(values)} for name, values in (present | case.series).items()
        ],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{case.alert}", alertstate="firing"}}) or vector(0)',
                "eval_time": case.at,
                "exp_samples": [{"labels": "{}", "value": int(case.fires)}],
            },
            {
                "expr": f'count(ALERTS{{alertname!~"{case.alert}|{case.beside}", alertstate="firing"}}) or vector(0)',
                "eval_time": case.at,
                "exp_samples": [{"labels": "{}", "value": 0}],
            },
        ],
    }
    test_rules(tmp_path, [RULES], test, evaluation_interval="1m")


def _values(text: str) -> str:
    """Promtool writes a constant as "1+0x9"."""
    return " ".join(
        word.replace("x", "+0x") if "x" in word and not set("+-") & set(word.partition("x")[0][1:]) else word
        for word in text.split()
    )


def test_every_alert_has_cases_of_both_kinds() -> None:
    """One that was never seen to fire, or never to keep silent, is not known to work."""
    alerts = {rule["alert"] for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]}
    for fires in (True, False):
        assert {case.alert for case in CASES if case.fires is fires} == alerts


def test_promtool_finds_nothing_wrong_with_what_is_shipped() -> None:
    """Settings and rule files, with the stricter checks on."""
    promtool("check", "config", "--lint=all", "--lint-fatal", SHIPPED / "prometheus.yml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", *sorted(SHIPPED.glob("*.rules.yml")))
