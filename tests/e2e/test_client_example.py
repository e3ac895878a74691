"""The example of the Python client is what somebody would copy: it serves, tracks, and loses nothing at its end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import trackd

from tests.support.readme import ROOT
from tests.support.serving import serving

EXAMPLE = ROOT / "clients" / "python" / "examples" / "web.py"


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_the_example_serves_and_loses_nothing_at_its_end(tmp_path: Path, ending: signal.Signals) -> None:
    """An event a request; Ctrl-C and SIGTERM send what is open."""
    with serving(tmp_path) as daemon:
        told = {"TRACKD_TARGET": daemon.target, "PORT": "0"}
        with subprocess.Popen(
            [sys.executable, str(EXAMPLE)],
            env=os.environ | told,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdout
            try:
                port = re.fullmatch(r"listening on (\d+)\n", process.stdout.readline())
                assert port
                for number in range(3):
                    with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/reviews/{number}", timeout=10) as answer:
                        assert answer.read() == b"hello\n"
                process.send_signal(ending)
                said = process.stdout.read()
                assert process.wait(20) == 0
            finally:
                process.kill()
        assert "stored=3" in said
        with trackd.Client(daemon.target) as client:
            stored = [json.loads(one.event.metadata) for one in client.list_events(order="position_asc")]
    assert sorted(one["path"] for one in stored) == [f"/reviews/{number}" for number in range(3)]
    assert {(one["status"], one["outcome"]) for one in stored} == {(200, "ok")}
