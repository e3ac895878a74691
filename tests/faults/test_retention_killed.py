"""kill -9 at every step of retention, under ingest: a rerun ends the same, and nothing half done is seen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.retaining import TARGETS


@pytest.mark.timeout(300)
def test_a_run_that_is_killed_at_every_step_ends_like_one_that_is_not(tmp_path: Path) -> None:
    """Seal, anonymize, archive and drop, each step of each.

    After each kill counts by month and type are what they were, every acknowledged event is there once, the store is
    sound and the chain of evidence unbroken. In the end digests, copies, frozen types and states are those of a run
    that nobody disturbed, and there is nothing left to do.
    """
    run = subprocess.run(
        [sys.executable, "-m", "tests.faults.retaining", str(tmp_path)], capture_output=True, timeout=280, check=False
    )
    said = [json.loads(line) for line in run.stdout.splitlines() if line.startswith(b'{"kind')]
    assert run.returncode == 0, run.stderr.decode()[-3_000:]
    assert [(one["kind"], one["step"]) for one in said] == [*TARGETS, ("", "end")]
