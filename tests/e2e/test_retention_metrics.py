"""What a daemon with a policy exports about it."""

from __future__ import annotations

import time
from pathlib import Path

import trackd

from tests.e2e.conftest import DaemonProcess
from tests.e2e.test_exported import scrape
from tests.support.serving import serving

POLICY = """
[[class]]
name = "reviews"
types = ["pr_*"]
purpose = "p"
legal_basis = "l"
keep_at_most = "10 years"
step = [{ after = "9 years", do = "drop" }]

[[class]]
name = "other"
types = ["*"]
purpose = "p"
legal_basis = "l"
keep_at_most = "2 months"
step = [{ after = "1 month", do = "drop" }]
"""
DAY_S = 86_400
WAIT_S = 30.0


def by_class(daemon: DaemonProcess, metric: str) -> dict[str, float]:
    """Its values."""
    return {
        sample.labels["class"]: sample.value
        for family in scrape(daemon)
        for sample in family.samples
        if sample.name == metric
    }


def test_each_class_shows_whether_the_policy_is_followed(tmp_path: Path) -> None:
    """Nothing runs here, so what is too old shows as overdue, from the data; a class counts since the start."""
    (tmp_path / "policy.toml").write_text(POLICY, "utf-8")
    start_s = time.time()
    now_ms = int(start_s * 1000)
    with serving(tmp_path) as daemon, trackd.Client(daemon.target) as client:
        old = [trackd.new_event(name, timestamp_ms=now_ms - 200 * DAY_S * 1000) for name in ("pr_opened", "chat")]
        client.append(old, source="tests")
    with serving(tmp_path, settings=f'[retention]\npolicy = "{tmp_path}/policy.toml"\n') as daemon:
        until_s = time.monotonic() + WAIT_S
        while not (overdue := by_class(daemon, "trackd_retention_overdue_seconds")):
            assert time.monotonic() < until_s
            time.sleep(0.1)
        assert overdue["reviews"] == 0
        assert 100 * DAY_S < overdue["other"] < 200 * DAY_S
        assert by_class(daemon, "trackd_retention_last_failure_timestamp_seconds") == {"reviews": 0, "other": 0}
        since = by_class(daemon, "trackd_retention_last_success_timestamp_seconds")
        assert since.keys() == {"reviews", "other"}
        assert all(start_s < value <= time.time() for value in since.values())
