"""SIGHUP over a real daemon: limits change for those who come from now on, and nothing is interrupted."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trackd

from tests.e2e.conftest import DaemonProcess
from tests.support.scrape import scrape
from tests.support.serving import serving

PATIENCE_S = 15.0
SETTINGS = "[limits]\ntypes_max = 1\n[subscribe]\nstreams_max = 1\n"
OK, FAILED = (f"trackd_reloads_total[result={result}][what=settings]" for result in ("ok", "failed"))


def eventually(true: Callable[[], bool]) -> None:
    """Waits until it is; fails if it does not come."""
    until_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def reload(daemon: DaemonProcess, settings: Path, text: str, expected: str) -> None:
    """Writes other settings, and returns when the daemon has counted that it read them."""
    before = scrape(daemon.metrics)[expected]
    settings.write_text(text, "utf-8")
    assert daemon.process is not None
    os.kill(daemon.process.pid, signal.SIGHUP)
    eventually(lambda: scrape(daemon.metrics)[expected] == before + 1)


def logged(daemon: DaemonProcess, event: str) -> list[dict[str, object]]:
    """The log lines of an event."""
    lines = [json.loads(line) for line in daemon.log.read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def test_limits_change_at_a_signal_and_nothing_is_interrupted(tmp_path: Path) -> None:
    """Types, subscribers, level ACCEPTED, the level of logs; what needs a restart is said and not done."""
    settings = tmp_path / "trackd.toml"
    with serving(tmp_path, settings=SETTINGS) as daemon, trackd.Client(daemon.target) as client:
        assert client.append([trackd.new_event("one")], source="tests").accepted == 1
        following = client.subscribe(after_position=0)
        assert next(following).event.type == "one"

        def taken(name: str) -> bool:
            return client.append([trackd.new_event(name)], source="tests").accepted == 1

        def subscribes() -> bool:
            with client.subscribe(after_position=0, give_up_after_s=0.1) as another:
                return next(another).event.type == "one"

        assert not taken("two")
        with pytest.raises(trackd.Exhausted):
            subscribes()
        more = "[limits]\ntypes_max = 2\ntags_max = 1\n[subscribe]\nstreams_max = 2\n[ingest]\nallow_accepted = true\n"
        reload(daemon, settings, more, OK)
        assert taken("two")
        assert subscribes()
        assert client.append([trackd.new_event("one")], source="tests", durability="accepted").queued == 1
        assert [next(following).event.type, next(following).event.type] == ["two", "one"]
        assert logged(daemon, "settings_need_restart")[-1]["keys"] == ["limits.tags_max"]
        assert client.append([trackd.new_event("one", tags=["a", "b"])], source="tests").accepted == 1

        reload(daemon, settings, "[limits]\ntypes_max = 9\nsurprise = 1\n", FAILED)
        assert scrape(daemon.metrics)["trackd_last_reload_ok[what=settings]"] == 0
        (failure,) = logged(daemon, "reload_failed")
        assert "limits.surprise: no such key" in str(failure["problem"])
        assert not taken("three")

        reload(daemon, settings, '[limits]\ntypes_max = 9\n[log]\nlevel = "error"\n', OK)
        quiet_from = len(daemon.log.read_text().splitlines())
        reload(daemon, settings, '[log]\nlevel = "error"\n', OK)
        assert len(daemon.log.read_text().splitlines()) == quiet_from
        following.close()
