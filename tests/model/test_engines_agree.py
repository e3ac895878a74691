"""Every engine does what the reference does, over random histories with crashes.

Bounded and the same each time. To search longer: TRACKD_MODEL_EXAMPLES=2000 pytest tests/model -s, which prints a seed;
TRACKD_MODEL_SEED=<seed> beside it runs that search again.
"""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import EngineBesideReference
from tests.support.homes import HOMES, Home

EXAMPLES = 40
STEPS = 25


def _settings(examples: int, *, the_same_each_time: bool) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=the_same_each_time,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


@pytest.mark.timeout(1_800)  # a failure is made small before it is reported, which takes minutes
@pytest.mark.parametrize("home", [home for home in HOMES if home.persists])
def test_an_engine_agrees_with_the_reference(home: type[Home]) -> None:
    """Whatever is appended, sent again, declared, asked, closed or cut off by a crash: both stores tell the same."""
    machine = type(f"{home.__name__}BesideReference", (EngineBesideReference,), {"home_type": home})
    longer = os.environ.get("TRACKD_MODEL_EXAMPLES")
    if longer:
        number = int(os.environ.get("TRACKD_MODEL_SEED") or random.SystemRandom().getrandbits(32))
        print(f"TRACKD_MODEL_EXAMPLES={longer} TRACKD_MODEL_SEED={number}")
        machine = seed(number)(machine)
    run_state_machine_as_test(machine, settings=_settings(int(longer or EXAMPLES), the_same_each_time=not longer))
