"""Prometheus and promtool of the system, for tests."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.conftest import free_port

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy" / "prometheus"
START_S = 20.0
RETENTION = "20d"
"""Less than a budget of 30 days needs."""
TOOL_S = 60.0


def program(name: str) -> str:
    """Where a program is; the test fails where it is not installed."""
    found = shutil.which(name)
    assert found, f"{name} is not installed; it is in Debian's package prometheus"
    return found


def promtool(*arguments: str | Path) -> str:
    """Runs promtool and returns what it says; AssertionError with that if something is wrong."""
    done = subprocess.run(
        [program("promtool"), *map(str, arguments)], capture_output=True, text=True, timeout=TOOL_S, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def test_rules(directory: Path, rules: Sequence[Path], test: Mapping[str, Any], **settings: Any) -> None:
    """Runs one test of `promtool test rules`; AssertionError with what it says if it fails."""
    file = directory / "rules.test.yml"
    whole = {"rule_files": [str(path.resolve()) for path in rules], **settings, "tests": [test]}
    file.write_text(yaml.safe_dump(whole), "utf-8")
    promtool("test", "rules", file)


test_rules.__test__ = False  # type: ignore[attr-defined]  # a tool, not a test


class Server:
    """A running Prometheus, as its HTTP API shows it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **parameters: str) -> Any:
        """What /api/v1/... answers."""
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=10) as got:  # noqa: S310  # our own, over HTTP
            answer = json.load(got)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The value of each series now."""
        return [(one["metric"], float(one["value"][1])) for one in self.get("query", query=expression)["result"]]

    def firing(self) -> list[dict[str, Any]]:
        """The alerts that fire, with labels and annotations."""
        return [alert for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"]

    def until(self, what: str, condition: Callable[[], bool], *, timeout_s: float) -> None:
        """Asks again and again until it is so; AssertionError if it does not become so in time."""
        end = time.monotonic() + timeout_s
        while not condition():
            rules = [
                rule for group in self.get("rules")["groups"] for rule in group["rules"] if rule["health"] == "err"
            ]
            assert time.monotonic() < end, f"not within {timeout_s:g} s: {what}; rules in error: {rules}"
            time.sleep(0.1)


@contextmanager
def running(directory: Path, config: Mapping[str, Any]) -> Iterator[Server]:
    """A Prometheus on a free loopback port, with its data below `directory`; ended at the end."""
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(dict(config)), "utf-8")
    promtool("check", "config", file)
    address = f"127.0.0.1:{free_port()}"
    command = [program("prometheus"), f"--config.file={file}", f"--web.listen-address={address}"]
    command += [f"--storage.tsdb.path={directory / 'tsdb'}", f"--storage.tsdb.retention.time={RETENTION}"]
    command += ["--log.level=warn"]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        end = time.monotonic() + START_S
        while not _answers(f"http://{address}/-/ready"):
            said = (directory / "prometheus.log").read_text("utf-8")
            assert process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.05)
        yield Server(f"http://{address}")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310  # our own, over HTTP
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False
