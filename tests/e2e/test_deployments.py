"""The commands in deploy/ start a daemon that takes events."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trackd

from tests.support.deployments import DEPLOY, commands, manifest

ADDRESS = re.compile(r"(?:0\.0\.0\.0|127\.0\.0\.1):\d+")
FREE = "127.0.0.1:0"
START_S = 30.0


@pytest.mark.parametrize("where", commands())
def test_the_command_serves(where: str, tmp_path: Path) -> None:
    """As it stands there, but for the addresses, and directories of this test."""
    settings = manifest("ConfigMap")["data"]["trackd.toml"] if where == "kubernetes" else ""
    file = tmp_path / "trackd.toml"
    file.write_text(ADDRESS.sub(FREE, settings or (DEPLOY / "trackd.toml").read_text("utf-8")), "utf-8")
    data, ready = tmp_path / "data", tmp_path / "ready.json"
    words = [
        ADDRESS.sub(FREE, word).replace("/etc/trackd/trackd.toml", str(file)).replace("/var/lib/trackd", str(data))
        for word in commands()[where]
    ]
    addresses = ["--listen", FREE, "--metrics", FREE] if where in ("image", "systemd") else []
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "server.cli.main", *words, *addresses, "--ready-file", str(ready)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until_s = time.monotonic() + START_S
        while not ready.exists():
            assert process.poll() is None, (tmp_path / "log").read_text("utf-8")
            assert time.monotonic() < until_s
            time.sleep(0.02)
        with trackd.Client(json.loads(ready.read_text("utf-8"))["grpc"]) as client:
            assert client.append([trackd.new_event("t")], source="tests").accepted == 1
        assert (data / "catalog.db").is_file()
        process.terminate()
        assert process.wait(30) == 0
        lines = (tmp_path / "log").read_text("utf-8").splitlines()
        assert {"serving", "stopped"} <= {json.loads(line)["event"] for line in lines}
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
