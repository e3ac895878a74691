"""The harness itself: what it expects is well defined, and a client that is wrong does not pass."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.driver import Driver, commands, driving
from tests.conformance.matching import expand, made_id, mismatches
from tests.conformance.stage import DRIVER_COMMANDS, play, toml
from tests.conformance.test_scenarios import SCENARIOS

STEPS = DRIVER_COMMANDS | {"answer", "start", "kill", "stop", "await_stored", "await_attempts", "await_refusals"}
MEMBERS = {"name", "why", "config", "daemon", "steps", "stored", "stored_set", "stored_count"}


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": None}, {}),
        ({"a": None}, {"a": None}),
        ([{"a": 1}, {}], [{"a": 1, "b": 2}, {"c": 3}]),
        ({"$at_least": 3}, 3),
        ({}, {"a": 1}),
        ([], []),
        ("x", "x"),
    ],
)
def test_what_matches(expected: object, found: object) -> None:
    """Named members of objects, all elements of lists, equal values."""
    assert list(mismatches(expected, found)) == []


@pytest.mark.parametrize(
    ("expected", "found", "where"),
    [
        ({"a": 1}, {"a": True}, "a"),
        ({"a": 0}, {"a": False}, "a"),
        ({"a": 1}, {"a": 1.0}, "a"),
        ({"a": 1}, {}, "a"),
        ({"a": None}, {"a": 0}, "a"),
        ({"a": {"b": "x"}}, {"a": {"b": "y"}}, "a.b"),
        ({"a": {}}, {"a": []}, "a"),
        ([1], [1, 2], "the answer"),
        ([{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 3}], "[1].a"),
        ([], {}, "the answer"),
        ({"$at_least": 3}, 2, "the answer"),
        ({"$at_least": 0}, True, "the answer"),
        ({"$at_least": 0}, None, "the answer"),
    ],
)
def test_what_does_not_match(expected: object, found: object, where: str) -> None:
    """One complaint, with its place."""
    (problem,) = mismatches(expected, found)
    assert problem.startswith(f"{where}: ")


def test_words_stand_for_values() -> None:
    """Texts, times and made events, those spliced into their list; a word that nobody knows is an error."""
    assert expand({"a": {"$repeat": ["ab", 3]}}) == {"a": "ababab"}
    assert expand({"$now_ms": 1_000}) - expand({"$now_ms": 0}) in range(900, 1_100)
    made = expand([{"id": "x"}, {"$made": {"from": 3, "to": 5, "type": "t", "base_ms": 1_000, "padding": 2}}])
    assert [one["id"] for one in made] == ["x", made_id(1_000, 3).hex(), made_id(1_000, 4).hex()]
    assert made[1]["id"] == "0000000003eb70008000000000000003"
    assert made[2] | {"id": ""} == {
        "id": "", "type": "t", "user_id": "user-4", "timestamp_ms": 1_004, "metadata": '{"n":4,"pad":"xx"}'
    }  # fmt: skip
    with pytest.raises(KeyError):
        expand({"$nothing": 1})


def test_settings_are_written_as_toml() -> None:
    """Tables of numbers, texts and truths."""
    assert (
        toml({"a": {"b": 1, "c": True, "d": "e"}, "f": {"g": 0.5}}) == "[a]\nb = 1\nc = true\nd = 'e'\n[f]\ng = 0.5\n"
    )


def test_scenarios_say_what_they_are_about_and_check_something() -> None:
    """Each has its own name and reason, known members and steps, and looks into the store at the end."""
    assert len({scenario["name"] for scenario in SCENARIOS}) == len(SCENARIOS) >= 25
    for scenario in SCENARIOS:
        assert set(scenario) <= MEMBERS, scenario["name"]
        assert scenario["why"], scenario["name"]
        assert {"stored", "stored_set", "stored_count"} & set(scenario), scenario["name"]
        assert {step["do"] for step in scenario["steps"]} <= STEPS, scenario["name"]


def test_a_language_takes_part_when_the_environment_has_its_driver() -> None:
    """Python always."""
    found = commands({"TRACKD_DRIVER_NODE": "node 'a b.js' --x", "TRACKD_DRIVER_GO": " ", "OTHER": "x"})
    assert found == {"python": [sys.executable, "clients/python/conformance.py"], "node": ["node", "a b.js", "--x"]}


STORES = [{"do": "append", "source": "s", "events": [{"type": "t"}], "expect": {"result": {"accepted": 1}}}]
OPENS = {"do": "open", "source": "s", "batch_events": 1, "window_batches": 1}


@pytest.mark.parametrize(
    ("scenario", "complaint"),
    [
        ({"steps": STORES, "stored_count": 2}, "1 == 2"),
        ({"steps": STORES, "stored": [{"type": "u"}]}, "stored"),
        ({"steps": STORES, "stored_set": {"$made": {"from": 0, "to": 2, "type": "t", "base_ms": 0}}}, "stored_set"),
        ({"steps": [STORES[0] | {"expect": {"result": {"accepted": 0}}}]}, "step 1, append: .*result.accepted"),
        ({"steps": [STORES[0] | {"source": ""}]}, "step 1, append"),
        ({"steps": [{"do": "append", "source": "", "events": []}]}, "SOURCE_INVALID"),
        ({"steps": [OPENS, {"do": "flush", "answered": 1}]}, "step 2, flush"),
    ],
)
def test_a_scenario_that_comes_out_otherwise_fails(scenario: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    """With the place where it did."""
    with pytest.raises(AssertionError, match=f"(?s){complaint}"):
        play(scenario, commands({})["python"], tmp_path)


def test_a_sender_that_is_too_eager_fails(tmp_path: Path) -> None:
    """Whoever connects sooner after a stop than the daemon asked for is found out."""
    eager = tmp_path / "eager.py"
    eager.write_text(
        "import socket, sys, time\n"
        "host, port = sys.argv[1].split(':')\n"
        "for line in sys.stdin:\n"
        "    print('{}', flush=True)\n"
        "    for _ in range(500):\n"
        "        try: socket.create_connection((host, int(port))).close()\n"
        "        except OSError: pass\n"
        "        time.sleep(0.02)\n",
        "utf-8",
    )
    steps = [{"do": "stats"}, {"do": "stop"}, {"do": "await_attempts", "count": 1, "not_before_ms": 5_000}]
    with pytest.raises(AssertionError, match="it tried to connect after"):
        play({"steps": steps}, [sys.executable, str(eager)], tmp_path)


@pytest.mark.parametrize(
    ("program", "use", "complaint"),
    [
        ("input(); print('[]'); input()", lambda driver: driver.ask({"cmd": "x"}), "isinstance"),
        ("input(); print('{\"error\":{}}'); input()", lambda driver: driver.ask({"cmd": "x"}), "error"),
        ("import sys; sys.exit(3)", lambda driver: driver.ask({"cmd": "x"}), "ended with 3"),
        ("import sys; sys.stdin.read(); sys.exit(3)", lambda driver: None, "ended with 3"),
        ("import sys; sys.stdin.read(); print('{}')", lambda driver: None, "more than it was asked for"),
        ("input(); print('{}\\n{}')", lambda driver: driver.ask({"cmd": "x"}), "more than it was asked for"),
    ],
)
def test_a_driver_that_breaks_its_protocol_fails(
    program: str, use: Callable[[Driver], object], complaint: str, tmp_path: Path
) -> None:
    """Whatever it says instead of one object a command, or how it ends."""

    def misuse() -> None:
        with driving([sys.executable, "-c", program], "127.0.0.1:1", tmp_path) as driver:
            use(driver)

    with pytest.raises(AssertionError, match=complaint):
        misuse()


def test_the_memory_of_a_driver_is_that_of_all_it_started(tmp_path: Path) -> None:
    """A driver behind a shell counts with what the shell started."""
    program = f"{sys.executable} -c 'x = bytearray(64 << 20); print({json.dumps('{}')!s}); input()' ; true"
    with driving(["sh", "-c", program], "127.0.0.1:1", tmp_path) as driver:
        driver.unanswered = 1
        driver.answer()
        assert driver.resident_bytes() > 64 << 20
        driver.send({"cmd": "x"})
        driver.unanswered = 0
