"""Each scenario of clients/conformance, with the driver of each language that is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.driver import ROOT, commands
from tests.conformance.stage import play

SCENARIOS: list[dict[str, Any]] = json.loads((ROOT / "clients/conformance/scenarios.json").read_text("utf-8"))
COMMANDS = commands()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: str(scenario["name"]))
@pytest.mark.parametrize("language", COMMANDS)
def test_a_client_does_what_the_scenario_says(language: str, scenario: dict[str, Any], tmp_path: Path) -> None:
    """Every answer as expected, and in the store what the scenario says."""
    play(scenario, COMMANDS[language], tmp_path)
