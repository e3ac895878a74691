"""A daemon that keeps its events by policy, and commands that reach it over its own socket."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trackd import Client
from typer.testing import CliRunner, Result

from retention.month import Month
from server.cli.main import app
from tests.e2e.conftest import DaemonProcess
from tests.support.serving import serving
from tests.support.wire import event

POLICY = """
[rotation]
seal_after = "7 days"

[guards]
share_of_store_max = 1.0
months_per_run_max = {months}
two_person = []

[profile.by-day]
claim = "pseudonymous"
fields = {{ timestamp = "keep", user_id = "rekey per day", metadata = ["pr"] }}

[[class]]
name = "reviews"
types = ["*"]
purpose = "Testing"
legal_basis = "Art. 6(1)(f)"
keep_at_most = "30 years"
step = [
  {{ after = "2 years", do = "anonymize", profile = "by-day" }},
  {{ after = "10 years", do = "drop" }},
]
"""
"""Of old months everything goes, of younger ones it is anonymized."""
SETTINGS = '[rotation]\nquiet_minutes = 0\n[retention]\npolicy = "{policy}"\nrows_per_second_max = {rate}\n'


def months_ago(count: int) -> Month:
    """The month so many months before this one."""
    this = Month.of(time.time_ns() // 1_000_000)
    number = this.year * 12 + this.month - 1 - count
    return Month(number // 12, number % 12 + 1)


OLD, YOUNGER, RECENT = 150, 60, 3
"""Months ago: what is dropped, what is anonymized, what is only sealed."""


class Kept:
    """One daemon with a policy."""

    def __init__(self, daemon: DaemonProcess, policy: Path) -> None:
        self.daemon = daemon
        self.policy = policy
        self.socket = f"unix:{daemon.data / 'control.sock'}"

    def trackd(self, *arguments: str | Path, code: int = 0) -> Result:
        """Runs a command against its socket, in this process; it has to end with this code."""
        return trackd(*arguments, "--target", self.socket, code=code)

    def told(self, *arguments: str | Path, code: int = 0) -> Any:
        """The JSON that a command prints."""
        return json.loads(self.trackd(*arguments, "--json", code=code).stdout)

    def send(self, months: Sequence[int], *, each: int = 20, users: int = 3, **fields: Any) -> None:
        """So many events for each month so many months ago, and one of now."""
        events = [
            event(timestamp_ms=months_ago(ago).start_ms + number, user_id=f"user-{number % users}", **fields)
            for ago in months
            for number in range(each)
        ]
        with Client(self.daemon.target) as client:
            result = client.append([*events, event()], source="tests")
            assert result.accepted == len(events) + 1, result

    def counted(self) -> dict[tuple[str, str], int]:
        """Events by month and type."""
        with Client(self.daemon.target) as client:
            return {(row.month, row.type): row.events for row in client.count_events(by=["month", "type"]).rows}


def trackd(*arguments: str | Path, code: int = 0) -> Result:
    """Runs a command in this process, without a terminal; it has to end with this code."""
    done = CliRunner(env={"COLUMNS": "100", "TRACKD_TARGET": ""}).invoke(app, list(map(str, arguments)))
    assert done.exit_code == code, f"{done.exit_code}: {done.output} {done.exception!r}"
    return done


@contextmanager
def keeping(directory: Path, *, months_max: int = 100, rate: int = 0, policy: str = POLICY) -> Iterator[Kept]:
    """A daemon over an empty directory. `rate`: rows a second, 0 for as fast as it goes."""
    file = directory / "retention.toml"
    file.write_text(policy.format(months=months_max), "utf-8")
    with serving(directory, settings=SETTINGS.format(policy=file, rate=rate)) as daemon:
        yield Kept(daemon, file)
