"""What clients/node shows its readers is true: README and example run as they do from an installed package."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from trackd.client import Client

from tests.conformance.driver import ROOT, commands
from tests.e2e.conftest import DaemonProcess
from tests.support import readme
from tests.support.serving import serving

NODE = ROOT / "clients" / "node"
INSTALLED = os.environ.get("TRACKD_NODE_MODULES", "")
"""A node_modules directory that the packed client was installed into; without it the checkout stands in for it."""

pytestmark = pytest.mark.skipif("node" not in commands(), reason="TRACKD_DRIVER_NODE is not set")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon of this test."""
    with serving(tmp_path) as served:
        yield served


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory of a user who has installed trackd-client."""
    directory = tmp_path / "project"
    directory.mkdir()
    if INSTALLED:
        (directory / "node_modules").symlink_to(Path(INSTALLED).resolve())
    else:
        (directory / "node_modules").mkdir()
        (directory / "node_modules" / "trackd-client").symlink_to(NODE)
    return directory


def test_the_blocks_of_the_readme_run_and_show_what_came_out(daemon: DaemonProcess, project: Path) -> None:
    """In their order, against one daemon."""
    blocks = [block for block in readme.blocks((NODE / "README.md").read_text("utf-8")) if block.language == "js"]
    assert len(blocks) >= 4
    for block in blocks:
        assert readme.GRPC in block.text
        file = project / "block.mjs"
        file.write_text(block.text.replace(readme.GRPC, daemon.target), "utf-8")
        done = subprocess.run(["node", str(file)], cwd=project, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert block.output is not None
        assert readme.differences(block, done.stdout) == ""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_the_example_serves_and_loses_nothing_at_its_end(
    daemon: DaemonProcess, project: Path, ending: signal.Signals
) -> None:
    """Copied as its comment says; an event a request; Ctrl-C and SIGTERM send what is open."""
    code = (NODE / "example.js").read_text("utf-8")
    copied, replaced = re.subn(r'"\./src/index\.js"; // installed: from ("trackd-client")', r"\1;", code)
    assert replaced == 1
    file = project / "example.mjs"
    file.write_text(copied, "utf-8")
    told = {"TRACKD_TARGET": daemon.target, "PORT": "0"}
    with subprocess.Popen(
        ["node", str(file)], cwd=project, env=os.environ | told, stdout=subprocess.PIPE, text=True
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
    assert "accepted: 3" in said
    with Client(daemon.target) as client:
        stored = list(client.list_events(order="position_asc"))
    assert [json.loads(one.event.metadata)["path"] for one in stored] == [f"/reviews/{n}" for n in range(3)]


@pytest.mark.skipif(not INSTALLED, reason="TRACKD_NODE_MODULES is not set")
def test_the_installed_package_is_complete() -> None:
    """Its own copy of the contract, types for every module, and nothing of the repository around it."""
    package = Path(INSTALLED) / "trackd-client"
    protos = {str(file.relative_to(package / "protos")) for file in (package / "protos").rglob("*") if file.is_file()}
    assert protos == {str(file.relative_to(ROOT / "protos")) for file in (ROOT / "protos").rglob("*.proto")}
    assert {file.stem for file in (package / "src").iterdir()} == {
        file.name.removesuffix(".d.ts") for file in (package / "types").iterdir()
    }
    assert not (package / "conformance.js").exists()
