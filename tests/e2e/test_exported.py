"""What a running daemon exports is what rules, dashboards, runbook and README speak of, and the other way round."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from server.metrics.gauges import Gauges
from tests.e2e.conftest import DaemonProcess
from tests.support import promql, readme
from tests.support.serving import serving

DEPLOY = readme.ROOT / "deploy"
SCRAPED = {"instance", "job"}
"""Labels that Prometheus adds to everything it scrapes."""
ITS_OWN = {"up": SCRAPED, "ALERTS": SCRAPED | {"alertname", "alertstate", "severity", "objective", "burn"}}
"""Series that Prometheus makes itself."""


LABELS = {
    hint.__metadata__[0].name: {hint.__metadata__[0].label}
    for hint in get_type_hints(Gauges, include_extras=True).values()
}
"""Of gauges that have no value yet: those by class, as long as there is no policy."""


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Metric]]:
    """One scrape of a daemon that nothing has happened to."""
    with serving(tmp_path_factory.mktemp("exported")) as daemon:
        yield scrape(daemon)


def scrape(daemon: DaemonProcess) -> list[Metric]:
    """/metrics, parsed."""
    with urllib.request.urlopen(f"http://{daemon.metrics}/metrics", timeout=10) as reply:
        return list(text_string_to_metric_families(reply.read().decode()))


def labels_of(families: list[Metric]) -> dict[str, set[str]]:
    """Series -> the labels that it has once it is scraped."""
    found: dict[str, set[str]] = {}
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, set(SCRAPED)).update(sample.labels)
        if not family.samples:
            found[family.name] = SCRAPED | LABELS[family.name]
    return found


def recorded() -> dict[str, set[str]]:
    """Series that the rules record. Those of trackd are all by objective."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "trackd-objectives.rules.yml").read_text("utf-8"))
    return {
        rule["record"]: SCRAPED | {"objective"}
        for group in rules["groups"]
        for rule in group["rules"]
        if "record" in rule
    }


def rule_expressions() -> Iterator[tuple[str, str]]:
    """(where, expression) of each rule."""
    for path in sorted((DEPLOY / "prometheus").glob("*.rules.yml")):
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]:
            for rule in group["rules"]:
                yield rule.get("alert") or rule["record"], rule["expr"]


def panel_expressions() -> Iterator[tuple[str, str]]:
    """(where, expression) of each query of a dashboard."""
    for path in sorted((DEPLOY / "grafana").glob("*.json")):
        for panel in json.loads(path.read_text("utf-8"))["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.name}: {panel['title']}", target["expr"]


def test_every_series_of_rules_and_dashboards_exists(families: list[Metric]) -> None:
    """In /metrics, or recorded by the rules, or made by Prometheus; with the labels they are selected by."""
    known = labels_of(families) | recorded() | ITS_OWN
    expressions = [*rule_expressions(), *panel_expressions()]
    assert len(expressions) > 80
    for where, expression in expressions:
        asked = promql.names(expression)
        assert asked, where
        assert asked - known.keys() == set(), where
        for name, label in promql.selected(expression):
            assert label in known[name], f"{where}: {name} has no label {label}"
        assert promql.grouped(expression) <= set().union(*(known[name] for name in asked)), where


def test_every_metric_that_documents_name_exists(families: list[Metric]) -> None:
    """README, runbook and settings."""
    known = labels_of(families).keys() | recorded().keys() | {family.name for family in families}
    for path in (readme.README, DEPLOY / "RUNBOOK.md", DEPLOY / "trackd.toml", *sorted(DEPLOY.glob("*/README.md"))):
        text = path.read_text("utf-8")
        for name in re.findall(r"(?<![\w/.-])(?:trackd_[a-z_]+[a-z]|grpc_server_\w+|process_\w+)\b", text):
            assert name in known or name in MODULES, f"{path.name}: {name}"


MODULES = {"trackd_client"}


def test_every_exported_metric_is_documented(families: list[Metric]) -> None:
    """A row in the table of the README for each family, with its type, its labels and what it means."""
    text = readme.README.read_text("utf-8")
    rows = {line for line in text.splitlines() if line.startswith(("| `trackd_", "| `grpc_", "| `process_"))}
    assert {name(row) for row in readme.metrics_table(families)} == {name(row) for row in rows}


def name(row: str) -> str:
    """The metric of a row of the table."""
    return readme.code_spans(row)[0]


def test_help_texts_name_the_unit(families: list[Metric]) -> None:
    """Of our own metrics whose name ends in one."""
    for family in families:
        for unit in ("seconds", "bytes", "events"):
            if family.name.startswith("trackd_") and re.search(rf"_{unit}(_max|_min)?$", family.name):
                assert re.search(unit, family.documentation, re.IGNORECASE), f"{family.name}: {family.documentation}"


def test_words_that_are_not_series_are_not_taken_for_some() -> None:
    """The tests above see names, selectors and groups, also beside strings, functions and durations."""
    expression = 'sum by (le, kind) (rate(trackd_a_bucket{kind="trackd_b", x!~"y|z"}[5m])) / on() up > trackd:c:d5m'
    assert promql.names(expression) == {"trackd_a_bucket", "up", "trackd:c:d5m"}
    assert set(promql.selected(expression)) == {("trackd_a_bucket", "kind"), ("trackd_a_bucket", "x")}
    assert promql.grouped(expression) == {"le", "kind"}


def test_every_exported_metric_is_watched_or_shown(families: list[Metric]) -> None:
    """What neither a rule nor a dashboard uses is listed here, with the reason why it is exported all the same."""
    asked = set().union(*(promql.names(one) for _where, one in [*rule_expressions(), *panel_expressions()]))
    unused = {
        family.name
        for family in families
        if not asked & {family.name, *(sample.name for sample in family.samples)}
        and not family.name.startswith("process_")
    }
    assert unused == {
        "trackd_head_position",  # for comparing with positions in answers and logs
        "trackd_objective_threshold_seconds",  # for `trackd slo status`
    }


def test_the_directory_of_dashboards_is_found() -> None:
    """Otherwise these tests would look at nothing."""
    assert len(list(Path(DEPLOY / "grafana").glob("*.json"))) == 4
