"""What is in deploy/ for Prometheus and Grafana: made as it should be, and complete."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.dashboards import DASHBOARDS
from deploy.grafana.panels import WIDTH, text
from server.objectives import AVAILABILITY, INGEST_ACK, QUERY, Objective
from server.slo.rules import BURNS, all_alerts, groups, scaled

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RUNBOOK = (DEPLOY / "RUNBOOK.md").read_text("utf-8")
PARTS = ("**What it means.**", "**Where to look.**", "**What to do.**")
SEVERITIES = {"page", "ticket"}


def shipped_alerts() -> list[dict[str, Any]]:
    """The alerts of all rule files."""
    files = [yaml.safe_load(path.read_text("utf-8")) for path in sorted((DEPLOY / "prometheus").glob("*.rules.yml"))]
    assert len(files) == 2
    return [alert for file in files for alert in all_alerts(file["groups"])]


def sections() -> dict[str, str]:
    """Heading -> text, of the runbook."""
    parts = re.split(r"^## (.*)\n", RUNBOOK, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_shipped_rules_are_those_of_the_default_objectives() -> None:
    """Byte by byte what `trackd slo rules` prints."""
    command = [sys.executable, "-m", "server.cli.main", "slo", "rules"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert (DEPLOY / "prometheus" / "trackd-objectives.rules.yml").read_text("utf-8") == made


def test_the_shipped_settings_load_both_rule_files() -> None:
    """Relative to themselves, so that the directory can be copied as it is."""
    settings = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    assert set(settings["rule_files"]) == {path.name for path in (DEPLOY / "prometheus").glob("*.rules.yml")}


def test_every_alert_says_what_and_where_to_read_on() -> None:
    """Severity, summary, description and a link to its section."""
    for alert in shipped_alerts():
        name = alert["alert"]
        assert name.startswith("Trackd")
        assert alert["labels"]["severity"] in SEVERITIES, name
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}, name
        assert alert["annotations"]["runbook_url"] == f"deploy/RUNBOOK.md#{name.lower()}"


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    """With what it means, where to look and what to do, in this order."""
    assert sections().keys() == {alert["alert"] for alert in shipped_alerts()}
    for name, said in sections().items():
        places = [said.find(part) for part in PARTS]
        assert -1 not in places, name
        assert places == sorted(places), name


def test_links_of_the_runbook_lead_somewhere() -> None:
    """To its own sections, to those of the README, and to files."""
    readme = (ROOT / "README.md").read_text("utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", RUNBOOK):
        path, _hash, anchor = target.partition("#")
        if not path:
            assert anchor in {name.lower() for name in sections()}, target
        else:
            assert (DEPLOY / path).exists(), target
            assert not anchor or re.search(rf"^#+ {anchor}$", readme, re.MULTILINE | re.IGNORECASE), target


def test_what_the_runbook_tells_to_set_and_run_exists() -> None:
    """Settings and commands."""
    settings = (DEPLOY / "trackd.toml").read_text("utf-8")
    for key in re.findall(r"`(?:limits|ingest|storage|query|tls|access)\.(\w+)", RUNBOOK):
        assert re.search(rf"^# {key} = ", settings, re.MULTILINE), key
    for command in set(
        re.findall(r"`?trackd (health|slo \w+|check|count|types \w+|import|token \w+|bench \w+)", RUNBOOK)
    ):
        run = [sys.executable, "-m", "server.cli.main", *command.split(), "--help"]
        assert subprocess.run(run, capture_output=True, timeout=60, check=False).returncode == 0, command


# Rules


def test_rules_are_for_exactly_the_objectives() -> None:
    """No objectives, no rules; each has its budget, and the burn alerts that can fire at its target."""
    assert groups([]) == []
    strict, easy = Objective("strict", QUERY, 100, 0.999), Objective("easy", AVAILABILITY, None, 0.9)
    found = groups([strict, easy], runbook="https://example.org/book")
    rates: dict[str, set[str]] = {"strict": set(), "easy": set()}
    for alert in all_alerts(found):
        if "burn" in alert["labels"]:
            rates[alert["labels"]["objective"]].add(alert["labels"]["burn"])
    assert rates == {"strict": {"14.4", "6", "3", "1"}, "easy": {"6", "3", "1"}}
    budgets = [rule for group in found for rule in group["rules"] if rule.get("record", "").endswith("remaining_ratio")]
    assert [rule["labels"]["objective"] for rule in budgets] == ["strict", "easy"]
    assert {alert["annotations"]["runbook_url"].partition("#")[0] for alert in all_alerts(found)} == {
        "https://example.org/book"
    }


def test_a_window_follows_the_objective_and_the_scale() -> None:
    """The budget's window is the objective's; a scale shortens every window and interval and no name."""
    objective = Objective("one", INGEST_ACK, 100, 0.999, "7d")
    plain, short = groups([objective]), groups([objective], window_scale=0.001)
    assert "[7d]" in str(plain)
    assert "[604800ms]" in str(short)
    assert [rule.get("record") for group in plain for rule in group["rules"]] == [
        rule.get("record") for group in short for rule in group["rules"]
    ]
    for window in {burn.long for burn in BURNS} | {burn.short for burn in BURNS}:
        assert f"[{window}]" in str(plain)
        assert f"[{window}]" not in str(short)


@pytest.mark.parametrize(
    ("duration", "scale", "result"),
    [
        ("5m", 1, "5m"),
        ("30d", 1, "30d"),
        ("1h", 1 / 60, "1m"),
        ("5m", 0.01, "3s"),
        ("5m", 0.0001, "30ms"),
        ("2m", 2, "4m"),
    ],
)
def test_durations_are_scaled_to_the_millisecond(duration: str, scale: float, result: str) -> None:
    """In the largest unit that is exact."""
    assert scaled(duration, scale) == result


# Dashboards


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: one.name)
def test_a_dashboard_is_as_its_code_makes_it(dashboard: Any) -> None:
    """`python -m deploy.grafana.dashboards` writes it anew."""
    file = DEPLOY / "grafana" / f"trackd-{dashboard.name}.json"
    assert file.read_text("utf-8") == text(dashboard)


def test_no_other_dashboard_lies_about() -> None:
    """Each file belongs to a dashboard."""
    files = {path.name for path in (DEPLOY / "grafana").glob("*.json")}
    assert files == {f"trackd-{dashboard.name}.json" for dashboard in DASHBOARDS}


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: one.name)
def test_panels_have_numbers_of_their_own_and_do_not_overlap(dashboard: Any) -> None:
    """Grafana would move or drop them."""
    panels = json.loads(text(dashboard))["panels"]
    numbers = [panel["id"] for panel in panels]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= WIDTH
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == "${datasource}"


def test_the_check_of_dashboards_finds_a_changed_one(tmp_path: Path) -> None:
    """It ends with 1 and names the file."""
    for path in (DEPLOY / "grafana").iterdir():
        if path.is_file():
            target = tmp_path / "deploy" / "grafana" / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    changed = tmp_path / "deploy" / "grafana" / "trackd-ingest.json"

    def check() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "deploy.grafana.dashboards", "--check"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert check().returncode == 0
    changed.write_text("{}", "utf-8")
    found = check()
    assert (found.returncode, "trackd-ingest.json" in found.stderr) == (1, True)
