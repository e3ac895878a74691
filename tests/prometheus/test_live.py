"""A real Prometheus, as deploy/prometheus has it, scrapes a real daemon: series, rules, an alert that comes."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trackd
import yaml

from deploy.grafana.dashboards import DASHBOARDS
from deploy.grafana.panels import build
from server.slo.rules import FAST
from tests.e2e.conftest import run
from tests.support.prometheus import RETENTION, SHIPPED, Server, promtool, running
from tests.support.slow_daemon import slow_daemon

SCALE = 1 / 200
"""The rules' hour is 18 s, their five minutes are 1.5 s."""
SCRAPE = "300ms"
START_S = 30.0
FIRE_S = 30.0
RESOLVE_S = 30.0


@contextmanager
def load(target: str) -> Iterator[None]:
    """Two senders and somebody who asks, until the end."""
    over = threading.Event()
    failures: list[Exception] = []

    def repeat(step: Any) -> None:
        try:
            with trackd.Client(target) as client:
                while not over.wait(0.02):
                    step(client)
        except Exception as error:  # noqa: BLE001  # told to the test at the end
            failures.append(error)

    def send(client: trackd.Client) -> None:
        client.append([trackd.new_event("pr_opened", user_id="ann") for _ in range(5)], source="reviews")

    def ask(client: trackd.Client) -> None:
        client.count_events(by=["type"])

    threads = [threading.Thread(target=repeat, args=(step,)) for step in (send, send, ask)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []


def shipped(directory: Path, target: str) -> dict[str, Any]:
    """The settings of deploy/prometheus/prometheus.yml for this daemon, in a hurry, with their rules beside them."""
    settings: dict[str, Any] = yaml.safe_load((SHIPPED / "prometheus.yml").read_text("utf-8"))
    settings["global"] = {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": SCRAPE}
    (scraped,) = settings["scrape_configs"]
    scraped["static_configs"] = [{"targets": [target]}]
    for name in settings["rule_files"]:
        (directory / name).write_text((SHIPPED / name).read_text("utf-8"), "utf-8")
    made = run("slo", "rules", "--window-scale", str(SCALE))
    assert made.returncode == 0, made.stderr
    (directory / "trackd-objectives.rules.yml").write_text(made.stdout, "utf-8")
    return settings


def burning(server: Server) -> list[dict[str, Any]]:
    """The alert that wakes somebody up about acknowledgements, if it fires."""
    return [
        alert
        for alert in server.firing()
        if alert["labels"]["alertname"] == FAST and alert["labels"]["objective"] == "ingest-ack"
    ]


@pytest.mark.timeout(180)
def test_prometheus_sees_a_slow_disk_come_and_go(tmp_path: Path) -> None:
    """Series arrive, rules evaluate, a slow disk fires the fast alert and a mended one ends it.

    Nothing fires while all is well, and `trackd slo status` says the same all the time.
    """
    with (
        slow_daemon(tmp_path) as (addresses, slow),
        load(addresses["grpc"]),
        running(tmp_path, shipped(tmp_path, addresses["metrics"])) as server,
    ):
        server.until("scraped", lambda: [value for _labels, value in server.query("up")] == [1.0], timeout_s=START_S)
        budget = 'trackd:objective_budget:remaining_ratio{objective="ingest-ack"}'
        rate = 'trackd:objective_bad:ratio_rate5m{objective="ingest-ack"}'
        server.until("recorded", lambda: bool(server.query(budget) and server.query(rate)), timeout_s=START_S)
        assert_rules_are_well(server)
        assert_dashboards_have_data(server)
        # The start itself may have been slow on a busy machine.
        server.until("nothing fires", lambda: not burning(server), timeout_s=RESOLVE_S)
        server.until("nor does the status say so", lambda: not told_to_burn(server), timeout_s=RESOLVE_S)

        slow.touch()
        server.until("the alert fires", lambda: bool(burning(server)), timeout_s=FIRE_S)
        (alert, *_others) = burning(server)
        assert alert["labels"]["severity"] == "page"
        assert "within 250 ms" in alert["annotations"]["description"]
        assert "%" in alert["annotations"]["description"]
        code, told = status(server)
        assert any(FAST in name for name in told["firing"])
        assert told["bad"] > 0
        assert code == int(told["remaining"] <= 0)

        slow.unlink()
        server.until("the alert is over", lambda: not burning(server), timeout_s=RESOLVE_S)
        server.until("the status says so", lambda: not told_to_burn(server), timeout_s=RESOLVE_S)


def told_to_burn(server: Server) -> bool:
    """Whether `trackd slo status` names the alert."""
    return any(FAST in name for name in status(server)[1]["firing"])


def assert_rules_are_well(server: Server) -> None:
    """Every rule of both files has been evaluated, without error."""
    wanted = {
        rule.get("alert") or rule["record"]
        for path in SHIPPED.glob("*.rules.yml")
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
        for rule in group["rules"]
    }

    def evaluated() -> bool:
        rules = [rule for group in server.get("rules")["groups"] for rule in group["rules"]]
        assert {rule["name"] for rule in rules} == wanted
        return all(rule["health"] == "ok" for rule in rules)

    server.until("all rules are evaluated", evaluated, timeout_s=START_S)


def assert_dashboards_have_data(server: Server) -> None:
    """Every query of every dashboard is understood.

    Those that compare with nothing ("> 0", alerts) may be empty; so may those about a policy, since there is none.
    """
    may_be_empty = re.compile(r" > 0|ALERTS|trackd_retention_")
    empty = []
    for dashboard in DASHBOARDS:
        for panel in build(dashboard)["panels"]:
            for target in panel.get("targets", []):
                expression = target["expr"].replace('"$instance"', '".+"').replace("$__rate_interval", "5s")
                if not server.query(expression) and not may_be_empty.search(expression):
                    empty.append((panel["title"], expression))
    assert empty == []


def status(server: Server) -> tuple[int, dict[str, Any]]:
    """(exit code, what `trackd slo status` says about acknowledgements), as people and as scripts see it."""
    shown = run("slo", "status", "--prometheus", server.url)
    assert "99.9 % in 250 ms" in shown.stdout, shown.stdout + shown.stderr
    assert f"Prometheus keeps {RETENTION}" in shown.stdout
    told = run("slo", "status", "--prometheus", server.url, "--json")
    (mine,) = [one for one in json.loads(told.stdout)["budgets"] if one["objective"] == "ingest-ack"]
    return told.returncode, mine


def test_every_query_of_the_dashboards_is_promql(tmp_path: Path) -> None:
    """As promtool reads it."""
    rules = [
        {"record": f"panel:{number}", "expr": target["expr"].replace("$__rate_interval", "5m")}
        for number, target in enumerate(
            target
            for dashboard in DASHBOARDS
            for panel in build(dashboard)["panels"]
            for target in panel.get("targets", [])
        )
    ]
    assert len(rules) > 50
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), "utf-8")
    promtool("check", "rules", file)
