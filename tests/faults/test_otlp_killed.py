"""SIGKILL of the daemon under OpenTelemetry's own exporter: every event that was emitted is there, once."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from trackd.client import Client

from tests.support.serving import serving
from tests.support.telemetry import telemetry

KILLS = int(os.environ.get("TRACKD_OTLP_KILLS", "2"))
"""For a long run set it to dozens. Each costs the exporter a second or more: it waits before it tries again."""
SEED = int(os.environ.get("TRACKD_SEED", "17"))
EVENTS = 600
"""Between two kills: more than a batch of the SDK, which has 512, and fewer than it keeps waiting, which is 2,048."""


@pytest.mark.timeout(120 + 10 * KILLS)
def test_what_the_sdk_emits_is_stored_once_however_often_the_daemon_is_killed(tmp_path: Path) -> None:
    """Killed at random moments while batches are under way, and started again: the exporter's retries do the rest."""
    print(f"seed {SEED}, {KILLS} kills")
    rng = random.Random(SEED)
    emitted = 0
    with serving(tmp_path) as daemon:
        with telemetry(daemon.target, service="killed") as emit, Client(daemon.target) as client:
            for _kill in range(KILLS):
                for _ in range(EVENTS):
                    # Equal events: only their times, which are nanoseconds, tell them apart, and their number.
                    emit("order.placed", body="an order", attributes={"order": emitted})
                    emitted += 1
                time.sleep(rng.uniform(0, 0.1))  # the moment of the kill
                daemon.kill()
                daemon.start()
                until_s = time.monotonic() + 40
                while client.count_events().events < emitted - EVENTS:
                    assert time.monotonic() < until_s, "the exporter does not come back"
                    time.sleep(0.05)
        with Client(daemon.target) as client:
            stored = Counter(json.loads(one.event.metadata)["order"] for one in client.list_events())
    assert stored == Counter(range(emitted))
