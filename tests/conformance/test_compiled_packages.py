"""What clients/go and clients/java show their readers is true: READMEs and examples run as a user runs them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from trackd.client import Client

from tests.conformance.driver import ROOT, commands
from tests.e2e.conftest import DaemonProcess
from tests.support import readme
from tests.support.serving import serving

COMMAND_S = 100.0


@dataclass(frozen=True, slots=True)
class Package:
    """A client in a compiled language. `run` is the end of the README's command that runs its first program."""

    language: str
    program: str
    run: str
    example: str

    def file(self, text: str) -> str:
        """Where a reader saves this program."""
        named = re.search(r"^public class (\w+)", text, re.MULTILINE)
        return f"{named[1]}.java" if named else "main.go"

    def command(self, block: str, file: str) -> str:
        """The README's command for its first program as it is for this one; "" if the block has none."""
        line = block.strip().rpartition("\n")[2]
        return line.removesuffix(self.program) + file if line.endswith(self.run) else ""


GO = Package("go", "", "go run .", 'cd "$TRACKD/clients/go" && exec go run ./examples/web')
JAVA = Package(
    "java",
    "Hello.java",
    " Hello.java",
    'cd "$TRACKD/clients/java" && exec java -cp "target/*:target/lib/*" examples/Web.java',
)
PRESENT = [
    pytest.param(
        package,
        id=package.language,
        marks=pytest.mark.skipif(
            package.language not in commands(), reason=f"TRACKD_DRIVER_{package.language.upper()} is not set"
        ),
    )
    for package in (GO, JAVA)
]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon of this test."""
    with serving(tmp_path) as served:
        yield served


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The contract and the clients without what was built from them, so that building disturbs nobody."""
    copy = tmp_path_factory.mktemp("checkout")
    for part in ("protos", "clients/go", "clients/java"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("target"))
    return copy


def told_by(package: Package) -> str:
    """The package's README."""
    return (ROOT / "clients" / package.language / "README.md").read_text("utf-8")


def sh(command: str, directory: Path, checkout: Path) -> str:
    """What a command prints; it must end well."""
    done = subprocess.run(
        ["sh", "-euc", command],
        cwd=directory,
        env=os.environ | {"TRACKD": str(checkout)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("package", PRESENT)
def test_the_blocks_of_the_readme_run_and_show_what_came_out(
    package: Package, daemon: DaemonProcess, checkout: Path, tmp_path: Path
) -> None:
    """In their order, against one daemon: a program is saved, and run by the command that the README gives for it."""
    project = tmp_path / "hello"
    project.mkdir()
    run = ""
    shown = 0
    for block in readme.blocks(told_by(package)):
        said = ""
        if block.language == "sh":
            said = sh(block.text, project, checkout)
            run = run or package.command(block.text, package.program)
        else:
            assert block.language == package.language
            assert readme.GRPC in block.text
            file = package.file(block.text)
            (project / file).write_text(block.text.replace(readme.GRPC, daemon.target), "utf-8")
            if block.output:
                said = sh(package.command(run, file if package.program else ""), project, checkout)
        assert readme.differences(block, said) == ""
        shown += block.output is not None
    assert shown == 3


@pytest.mark.parametrize("package", PRESENT)
def test_the_example_serves_and_loses_nothing_at_its_end(
    package: Package, daemon: DaemonProcess, checkout: Path
) -> None:
    """An event a request, and SIGTERM sends what is open."""
    build = next(block.text for block in readme.blocks(told_by(package)) if block.language == "sh")
    if not build.strip().endswith(package.run):
        sh(build, checkout, checkout)
    told = {"TRACKD": str(checkout), "TRACKD_TARGET": daemon.target, "PORT": "0"}
    with subprocess.Popen(
        ["sh", "-euc", package.example],
        env=os.environ | told,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        try:
            port = re.fullmatch(r"listening on (\d+)\n", process.stdout.readline())
            assert port
            for number in range(3):
                with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/reviews/{number}", timeout=10) as answer:
                    assert answer.read() == b"hello\n"
            # As Ctrl-C on a terminal: `go run` passes no signal on.
            os.killpg(process.pid, signal.SIGINT)
            said = process.stdout.read()
            process.wait(20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert re.search("accepted[:=]3", said, re.IGNORECASE), said
    with Client(daemon.target) as client:
        stored = list(client.list_events(order="position_asc"))
    assert sorted(json.loads(one.event.metadata)["path"] for one in stored) == [f"/reviews/{n}" for n in range(3)]
