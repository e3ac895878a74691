"""Each client's sender while the daemon is killed again and again, and while it is away: no event lost, none twice."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from trackd.client import Client

from tests.conformance.driver import Driver, commands
from tests.conformance.matching import made_id
from tests.conformance.stage import Attempts, Stage, until
from tests.support.serving import assert_no_defect, assert_sound

KILLS = int(os.environ.get("TRACKD_CLIENT_KILLS", "3"))
"""For a long run set it to 30."""
SEED = int(os.environ.get("TRACKD_SEED", "31"))
COMMANDS = commands()
MIB = 1024 * 1024

MADE: dict[str, Any] = {"type": "t", "base_ms": 1_764_000_000_000}
EVENTS_A_COMMAND = 500

WARMED_UP = 20_000
KEPT_BACK = 60_000
"""Events of a little more than 1 KiB, handed over while the daemon is away: several times what may be grown by."""
GROWTH_BYTES_MAX = 32 * MIB
ATTEMPTS_AWAY = 4


class Sender(threading.Thread):
    """Lets the driver hand over made events until it is told to stop."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(name="sender", daemon=True)
        self._driver = driver
        self._stopping = threading.Event()
        self.sent = 0
        self.problem: BaseException | None = None

    def run(self) -> None:
        """With hardly a pause, so that batches are in flight whenever the daemon is killed."""
        try:
            while not self._stopping.is_set():
                end = self.sent + EVENTS_A_COMMAND
                step = {"cmd": "send_made", "from": self.sent, "to": end, "padding": 20, "pause_us": 500}
                assert self._driver.ask(step | MADE) == {"sent": EVENTS_A_COMMAND}
                self.sent = end
        except BaseException as problem:  # noqa: BLE001  # the test shows it
            self.problem = problem

    def stop(self) -> int:
        """How many events were handed over."""
        self._stopping.set()
        self.join(90)
        assert not self.is_alive()
        assert self.problem is None, self.problem
        return self.sent


@contextmanager
def staged(directory: Path, language: str) -> Iterator[tuple[Stage, Driver]]:
    """A daemon and a driver whose sender is open. At the end all is stopped in order, and the files are sound."""
    stage = Stage(directory, COMMANDS[language], {})
    try:
        stage.start()
        with stage.driven() as driver:
            driver.ask({"cmd": "open", "source": "kills", "batch_events": 100, "window_batches": 20})
            yield stage, driver
            assert stage.daemon.stop() == 0
        assert_no_defect(stage.daemon)
        assert_sound(stage.daemon.data)
    finally:
        stage.daemon.kill()


def until_more_is_stored(target: str) -> None:
    """Waits until the daemon has taken something."""
    with Client(target) as client:
        before = client.count_events().events
        until(lambda: client.count_events().events > before, "more is stored")


def assert_each_once(stage: Stage, driver: Driver, sent: int) -> dict[str, Any]:
    """After a flush: the totals tell of every event, and the store has each of them once and no other."""
    answer = driver.ask({"cmd": "close"})
    assert answer["rejections"] == []
    totals: dict[str, Any] = answer["totals"]
    assert totals["rejected"] == 0
    assert totals["accepted"] + totals["duplicate"] == sent
    with Client(stage.daemon.target) as client:
        found = [bytes(stored.event.id) for stored in client.list_events(order="time_asc")]
    assert found == [made_id(MADE["base_ms"], number) for number in range(sent)]
    return totals


@pytest.mark.timeout(60 + 15 * KILLS)
@pytest.mark.parametrize("language", COMMANDS)
def test_a_sender_loses_and_doubles_nothing_however_often_the_daemon_is_killed(language: str, tmp_path: Path) -> None:
    """SIGKILL at random moments while it sends, now and then again while the daemon only starts."""
    print(f"seed {SEED}, {KILLS} kills")
    chance = random.Random(SEED)
    with staged(tmp_path, language) as (stage, driver):
        sender = Sender(driver)
        sender.start()
        for number in range(KILLS):
            until_more_is_stored(stage.daemon.target)
            assert sender.problem is None, sender.problem
            time.sleep(chance.uniform(0, 0.2))  # the moment of the kill
            stage.do({"do": "kill"})
            if number % 3 == 2:
                stage.start()
                stage.do({"do": "kill"})
            stage.start()
        sent = sender.stop()
        totals = assert_each_once(stage, driver, sent)
        resident_mib = driver.resident_bytes() / MIB
    print(f"{language}: {sent:,} events, {totals['duplicate']:,} known when they came again, {resident_mib:.0f} MiB")
    assert sent > 100 * KILLS


@pytest.mark.parametrize("language", COMMANDS)
def test_a_sender_waits_instead_of_growing_while_the_daemon_is_away(language: str, tmp_path: Path) -> None:
    """What does not fit into the window stays with the caller; when the daemon is back, everything arrives."""
    with staged(tmp_path, language) as (stage, driver):
        driver.ask({"cmd": "send_made", "from": 0, "to": WARMED_UP, "padding": 1_000} | MADE)
        driver.ask({"cmd": "flush"})
        sent = WARMED_UP + KEPT_BACK
        stage.do({"do": "kill"})
        before = highest = driver.resident_bytes()
        with Attempts(stage.daemon.target) as attempts:
            driver.send({"cmd": "send_made", "from": WARMED_UP, "to": sent, "padding": 1_000} | MADE)

            def tried() -> bool:
                nonlocal highest
                highest = max(highest, driver.resident_bytes())
                return attempts.count >= ATTEMPTS_AWAY

            until(tried, f"{ATTEMPTS_AWAY} attempts to connect")
            assert not driver.has_answered, "it took over more than its window holds"
        grown = highest - before
        print(f"{language}: {before / MIB:.0f} MiB, {grown / MIB:.1f} MiB grown while the daemon was away")
        assert grown < GROWTH_BYTES_MAX
        stage.start()
        assert driver.answer() == {"sent": KEPT_BACK}
        assert_each_once(stage, driver, sent)
