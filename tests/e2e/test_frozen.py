"""A daemon whose months lost rows to retention: what people and programs see of frozen numbers, and of refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import trackd

from retention.month import Month
from server.config import Storage
from server.rewriting import Loss
from server.storage.sqlite.store import SqliteStore
from tests.e2e.conftest import DaemonProcess, run
from tests.support.events import append, make_event
from tests.support.retaining import deed, freeze, rewrite, seal

SEPTEMBER, OCTOBER = Month(2025, 9), Month(2025, 10)
HOUR_MS = 3_600_000
TYPES = ("pr_merged", "pr_opened")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """September is dropped; of October one type is; November is whole. Forty events each, at positions up to 120."""
    daemon = DaemonProcess(tmp_path_factory.mktemp("frozen"))
    store = SqliteStore(daemon.data, Storage(), months_max=12)
    for place, month in enumerate(("2025-09", "2025-10", "2025-11")):
        events = (
            make_event(100 * place + n, month, n * 11 * HOUR_MS, type=TYPES[n % 2], user_id=f"user-{n % 7}")
            for n in range(40)
        )
        append(store, *events)
    seal(store, SEPTEMBER)
    seal(store, OCTOBER)
    freeze(store, SEPTEMBER, TYPES)
    store.drop(SEPTEMBER, dict.fromkeys(TYPES, Loss(gone=True)), deed("drop"))
    freeze(store, OCTOBER, ["pr_merged"])
    rewrite(store, OCTOBER, None, ["pr_merged"])
    store.close()
    daemon.start()
    yield daemon
    daemon.stop()
    checked = run("check", str(daemon.data))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_numbers_of_dropped_months_are_shown_with_a_warning(served: DaemonProcess) -> None:
    """By month with users, as before; the warning names the months, the report how much came frozen."""
    done = run("query", "-m", "events", "-m", "users", "--by", "time:month", "--json", target=served.target)
    answer = json.loads(done.stdout)
    assert [(row["events"], row["users"]) for row in answer["rows"]] == [(40, 7)] * 3
    assert answer["read"]["frozen_cells"] > 0
    assert any("2025-09 to 2025-10" in warning for warning in answer["warnings"])
    assert "2025-09 to 2025-10: numbers that were frozen" in run("query", target=served.target).stderr
    whole = run("query", "--since", "2025-11", "--by", "user", "--json", target=served.target)
    assert json.loads(whole.stdout)["warnings"] == []


def test_counts_of_dropped_months_stay(served: DaemonProcess) -> None:
    """By type, month and source."""
    done = run("count", "--by", "month", "--by", "type", "--json", target=served.target)
    assert [row["events"] for row in json.loads(done.stdout)["rows"]] == [20] * 6
    assert "FROZEN" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("query", "--by", "user"), ("query", "-m", "users"), ("query", "--where", "tag=x"), ("count", "--by", "user")],
)
def test_a_refusal_says_what_there_is(served: DaemonProcess, arguments: tuple[str, ...]) -> None:
    """One line: the months, the types, what can be asked, and what to do; exit code 1, nothing on standard output."""
    done = run(*arguments, target=served.target)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    for word in ("2025-09", "pr_merged", "quarter-hour", "(UTC)", "range of time"):
        assert word in line


def test_programs_get_the_reason(served: DaemonProcess) -> None:
    """FAILED_PRECONDITION with FROZEN_GRAIN: asking again is no use."""
    with trackd.Client(served.target) as client, pytest.raises(trackd.TrackdError) as caught:
        client.ask(trackd.new_question(["users"]))
    assert caught.value.reason == "FROZEN_GRAIN"


def test_a_follower_is_told_of_what_was_dropped(served: DaemonProcess) -> None:
    """The daemon was not there when it went: two months, and then all the rows that are left."""
    done = run("tail", "--from", "beginning", "--limit", "60", target=served.target)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 60
    assert [month for month in ("2025-09", "2025-10", "2025-11") if month in done.stderr] == ["2025-09", "2025-10"]
    assert "dropped" in done.stderr
