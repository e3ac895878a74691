"""Plays one scenario: a daemon of its own, one driver, and what is in the store afterwards."""

from __future__ import annotations

import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families
from trackd.client import Client
from trackd.v1.event_pb2 import ChangeAction, ChangeStatus, StoredEvent

from tests.conformance.driver import Driver, driving
from tests.conformance.matching import expand, mismatches
from tests.e2e.conftest import DaemonProcess
from tests.support.serving import assert_no_defect, assert_sound

STEP_TIMEOUT_S = 60.0
DRIVER_COMMANDS = frozenset({"append", "open", "send", "send_made", "flush", "close", "stats"})
OF_THE_HARNESS = frozenset({"do", "expect", "answered", "wait"})
"""Members of a step that are not sent to the driver."""


class Stage:
    """Carries out steps."""

    def __init__(self, directory: Path, command: list[str], config: Mapping[str, Any]) -> None:
        self.daemon = DaemonProcess(directory)
        self._directory = directory
        self._command = command
        self._config = config
        self._driver: Driver | None = None
        self._broken_off = False
        self._stopping_s = 0.0

    @contextmanager
    def driven(self) -> Iterator[Driver]:
        """A driver for as long as the block lasts."""
        with driving(self._command, self.daemon.target, self._directory) as driver:
            self._driver = driver
            yield driver

    def do(self, step: Mapping[str, Any]) -> None:
        """One step; AssertionError if something is not as expected."""
        name = step["do"]
        if name in DRIVER_COMMANDS:
            self._ask(name, step)
        else:
            actions: dict[str, Callable[..., None]] = {
                "answer": self._answer,
                "start": self.start,
                "kill": self._kill,
                "stop": self._stop,
                "await_stored": self._await_stored,
                "await_attempts": self._await_attempts,
                "await_refusals": self._await_refusals,
            }
            actions[name](**{key: value for key, value in step.items() if key != "do"})

    def start(self, config: Mapping[str, Any] | None = None) -> None:
        """Starts the daemon with the scenario's settings, or with these."""
        file = self._directory / "trackd.toml"
        file.write_text(toml(self._config if config is None else config), "utf-8")
        self.daemon.start("--config", str(file))

    def verify(self, scenario: Mapping[str, Any]) -> None:
        """What is in the store is what the scenario says; the daemon ends well, and its files are sound."""
        with Client(self.daemon.target) as client:
            found = [told(stored) for stored in client.list_events(order="position_asc")]
        if "stored" in scenario:
            wanted = expand(scenario["stored"])
            assert list(mismatches(wanted, found, "stored")) == []
        if "stored_set" in scenario:
            wanted = expand([scenario["stored_set"]])
            assert list(mismatches(sorted(wanted, key=_id), sorted(found, key=_id), "stored_set")) == []
        if "stored_count" in scenario:
            assert len(found) == scenario["stored_count"]
        assert len({(one["timestamp_ms"], _id(one)) for one in found}) == len(found)
        assert self.daemon.stop() == 0
        assert_no_defect(self.daemon)
        if self._broken_off:
            assert_sound(self.daemon.data)

    # Steps of the driver

    def _ask(self, name: str, step: Mapping[str, Any]) -> None:
        assert self._driver
        parts = {key: expand(value) for key, value in step.items() if key not in OF_THE_HARNESS}
        self._driver.send({"cmd": name, **parts})
        if step.get("wait", True):
            self._answer(step.get("expect"), step.get("answered"))

    def _answer(self, expect: Mapping[str, Any] | None = None, answered: int | None = None) -> None:
        """The answer to the oldest command that was not waited for. `answered`: how many events its totals tell of."""
        assert self._driver
        answer = self._driver.answer(STEP_TIMEOUT_S)
        if expect is None:
            assert "error" not in answer, answer
        else:
            assert list(mismatches(expand(expect), answer)) == [], answer
        if answered is not None:
            assert sum(answer["totals"].values()) == answered, answer

    # Steps of the daemon

    def _kill(self) -> None:
        self._broken_off = True
        self.daemon.kill()

    def _stop(self) -> None:
        self._stopping_s = time.monotonic()
        assert self.daemon.stop() == 0

    def _await_stored(self, count: int) -> None:
        with Client(self.daemon.target) as client:
            until(lambda: client.count_events().events >= count, f"{count} events are stored")

    def _await_attempts(self, count: int, not_before_ms: int = 0) -> None:
        """While the daemon is away: until somebody tried so often to connect, in vain.

        `not_before_ms`: so long after the daemon was asked to stop, at the earliest, must the first attempt come.
        """
        with Attempts(self.daemon.target) as attempts:
            until(lambda: attempts.count >= count, f"{count} attempts to connect")
        waited_ms = (attempts.first_s - self._stopping_s) * 1_000
        assert waited_ms >= not_before_ms, f"it tried to connect after {waited_ms:.0f} ms"

    def _await_refusals(self, reason: str, count: int) -> None:
        """Until the daemon has refused so many batches for this reason."""
        metrics = self.daemon.metrics
        until(lambda: refusals(metrics, reason) >= count, f"{count} batches are refused with {reason}")


def _id(event: Mapping[str, Any]) -> str:
    return str(event["id"])


class Attempts:
    """Takes the daemon's place at its address, and hangs up on everybody. A context manager."""

    def __init__(self, target: str) -> None:
        host, _colon, port = target.rpartition(":")
        self.count = 0
        self.first_s = 0.0
        """When the first of them came."""
        self._socket = socket.create_server((host, int(port)))
        self._thread = threading.Thread(target=self._hang_up, name="attempts", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()

    def _hang_up(self) -> None:
        while True:
            try:
                caller, _address = self._socket.accept()
            except OSError:
                return
            # Reset and not closed: no half of the connection stays behind on the daemon's port.
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            caller.close()
            if not self.count:
                self.first_s = time.monotonic()
            self.count += 1


def until(true: Callable[[], bool], what: str) -> None:
    """Waits until something has come true; AssertionError if it takes too long."""
    until_s = time.monotonic() + STEP_TIMEOUT_S
    while not true():
        assert time.monotonic() < until_s, f"never came true: {what}"
        time.sleep(0.02)


def refusals(metrics: str, reason: str) -> int:
    """How many batches the daemon has refused for this reason."""
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=10) as page:
        families = text_string_to_metric_families(page.read().decode())
    return sum(
        int(sample.value)
        for family in families
        for sample in family.samples
        if sample.name == "trackd_batches_refused_total" and sample.labels["reason"] == reason
    )


def toml(config: Mapping[str, Any]) -> str:
    """Settings as `trackd serve --config` reads them: tables of numbers, texts and truths."""
    lines = []
    for section, table in config.items():
        lines.append(f"[{section}]")
        for key, value in table.items():
            written = str(value).lower() if isinstance(value, bool) else repr(value)
            lines.append(f"{key} = {written}")
    return "\n".join(lines) + "\n"


def told(stored: StoredEvent) -> dict[str, Any]:
    """A stored event as scenarios write it: what is empty or absent is not there."""
    event = stored.event
    texts = {name: getattr(event, name) for name in ("type", "user_id", "session_id", "client_ip", "description")}
    said: dict[str, Any] = {"id": event.id.hex(), "source": stored.source, "timestamp_ms": event.timestamp_ms, **texts}
    said |= {"tags": list(event.tags), "metadata": event.metadata}
    if event.HasField("change"):
        change = event.change
        names = ("table_name", "row_id", "old_values", "new_values")
        said["change"] = {name: getattr(change, name) for name in names} | {
            "action": ChangeAction.Name(change.action).removeprefix("CHANGE_ACTION_").lower(),
            "status": ChangeStatus.Name(change.status).removeprefix("CHANGE_STATUS_").lower(),
            "rows_affected": change.rows_affected if change.HasField("rows_affected") else None,
        }
    return {name: value for name, value in said.items() if value not in ("", [], None)}


def play(scenario: Mapping[str, Any], command: list[str], directory: Path) -> None:
    """The whole scenario with the driver that this command starts. AssertionError names the step that failed."""
    stage = Stage(directory, command, scenario.get("config", {}))
    try:
        if scenario.get("daemon", "serving") == "serving":
            stage.start()
        with stage.driven():
            for number, step in enumerate(scenario["steps"], 1):
                try:
                    stage.do(step)
                except AssertionError as error:
                    raise AssertionError(f"step {number}, {step['do']}: {error}") from error
        stage.verify(scenario)
    finally:
        stage.daemon.kill()
