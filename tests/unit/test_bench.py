"""What `trackd bench query` is made of: its history, its clockwork and its words."""

from __future__ import annotations

import itertools
import random
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from trackd.v1 import ingest_pb2

from retention.month import Month
from server.bench import databases, verdict
from server.bench.asking import COMPARED, REPETITIONS_MAX, REPETITIONS_MIN, ask_repeatedly, difference
from server.bench.catch_up import GAUGE, TailWatch
from server.bench.history import SOURCES, History, LiveTraffic
from server.bench.metrics import Taken, compare
from server.bench.peers import Peer
from server.bench.query import history_before
from server.bench.questions import KINDS, Asked, Kind
from server.bench.spool import Spool
from server.bench.traffic import uuid7
from server.errors import Precondition

HISTORY = History(events=30_500, first=Month(2025, 11), months=3, users=1_000, batch=1_000, seed=5)
KIND = KINDS[0]


def written(history: History, directory: Path) -> tuple[list[bytes], list[list[str]]]:
    """The messages of a history, and the columns of its lines."""
    spool = Spool(directory / "messages")
    history.write(spool, directory / "lines", lambda _done: None)
    lines = (directory / "lines").read_text("utf-8").splitlines()
    return list(spool.every(1, 0)), [line.split("\t") for line in lines]


def test_messages_and_lines_hold_the_same_events(tmp_path: Path) -> None:
    """Event by event; the source of a line is that of its message."""
    messages, lines = written(HISTORY, tmp_path)
    batches = [ingest_pb2.AppendStreamRequest.FromString(message).batch.events for message in messages]
    assert [len(batch) for batch in batches] == [1_000] * 30 + [500]
    events = [(number % len(SOURCES), event) for number, batch in enumerate(batches) for event in batch]
    assert len(events) == len(lines) == HISTORY.events
    for (source, event), line in zip(events, lines, strict=True):
        assert [event.id.hex(), int(event.type[-2:]), int(event.user_id[-7:]), source] == [
            line[0], *map(int, line[1:4])
        ]  # fmt: skip
        assert (f"{{{','.join(event.tags)}}}", event.metadata) == (line[6], line[7])
        assert HISTORY.start_ms <= event.timestamp_ms < HISTORY.live_ms


def test_times_and_ids_are_all_different_and_some_events_are_late(tmp_path: Path) -> None:
    """So that the latest 50 are the same everywhere, and arrival is not quite the order of time."""
    _, lines = written(HISTORY, tmp_path)
    times = [line[4] for line in lines]
    assert len(set(times)) == len({line[0] for line in lines}) == HISTORY.events
    late = sum(time < newest for time, newest in zip(times, itertools.accumulate(times, max), strict=True))
    assert 0.01 < late / HISTORY.events < 0.06


def test_a_seed_repeats_every_byte(tmp_path: Path) -> None:
    """And another one does not."""
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    first = written(HISTORY, tmp_path / "one")
    assert first == written(HISTORY, tmp_path / "two")
    assert first != written(History(30_500, Month(2025, 11), 3, 1_000, 1_000, 6), tmp_path / "three")


def test_skewed_users_are_uneven(tmp_path: Path) -> None:
    """The first user of a Zipf-like law has a tenth of the events of a thousand users, the last hardly any."""
    _, lines = written(History(20_000, Month(2025, 11), 3, 1_000, 1_000, 5, skew=1.0), tmp_path)
    first = sum(line[2] == "0" for line in lines)
    assert 0.11 < first / 20_000 < 0.16


def test_a_history_ends_with_the_month_before_this_one() -> None:
    """Whatever the day."""
    history = history_before(Month(2026, 1).start_ms / 1000, events=1, months=3, users=1, batch=1, seed=1, skew=0.0)
    assert [Month.of(start) for start in history.starts_ms] == [
        Month(2025, 10), Month(2025, 11), Month(2025, 12), Month(2026, 1)
    ]  # fmt: skip


def test_live_events_lie_behind_the_history() -> None:
    """One a millisecond, and like those of the history."""
    traffic = LiveTraffic(1, start_ms=HISTORY.live_ms, users=10)
    messages = itertools.islice(traffic.endless(10, templates=2), 3)
    events = [one for raw in messages for one in ingest_pb2.AppendStreamRequest.FromString(raw).batch.events]
    times = [event.timestamp_ms for event in events]
    assert len(events) == len({event.id for event in events}) == 30
    assert times == list(range(times[0], times[0] + 30))
    assert times[0] >= HISTORY.live_ms
    first = int.from_bytes(events[0].id[6:8]) & 0xFFF
    salt = int.from_bytes(events[0].id[8:]) & (1 << 62) - 1 ^ first
    assert [event.id for event in events] == [uuid7(at, first + row, salt) for row, at in enumerate(times)]


@pytest.mark.parametrize("months", [1, 2, 12])
def test_every_question_asks_about_the_months_of_the_history(months: int) -> None:
    """Also where these are few; parameters vary, and SQL has as many as it needs."""
    history = History(1_000, Month(2025, 1), months, 10, 100, 1)
    for kind in KINDS:
        drawn = [kind.draw(random.Random(number), history) for number in range(20)]
        for sql in (kind.postgresql, kind.duckdb or kind.postgresql):
            assert all(f"${number}" in sql for number in range(1, len(drawn[0].arguments) + 1))
            assert f"${len(drawn[0].arguments) + 1}" not in sql
        for asked in drawn:
            spans = [argument for argument in asked.arguments if hasattr(argument, "timestamp")]
            assert all(history.start_ms <= span.timestamp() * 1000 for span in spans)
        if months >= 4 and drawn[0].arguments:
            assert len({tuple(asked.arguments) for asked in drawn}) > 1


class Steady:
    """An engine whose every answer takes the same time by a clock that only it moves."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.asked = 0

    def ask(self, kind: Kind, asked: Asked) -> Any:
        self.now += self.seconds
        self.asked += 1
        return self.asked

    def rows(self, answer: Any) -> list[tuple[object, ...]]:
        return [(answer,)]


@pytest.mark.parametrize(
    ("seconds", "repetitions"),
    [(0.000_1, REPETITIONS_MAX), (0.01, 200), (0.05, REPETITIONS_MIN), (0.5, 20), (60.0, COMPARED)],
)
def test_cheap_questions_are_asked_often_and_expensive_ones_are_bounded_by_time(
    seconds: float, repetitions: int
) -> None:
    """At most ten seconds or so, at least three times."""
    engine = Steady(seconds)
    draws = [KIND.draw(random.Random(1), HISTORY)] * 7
    timing, kept = ask_repeatedly(engine, KIND, draws, seconds=10.0, clock=lambda: engine.now)
    assert abs(timing.repetitions - repetitions) <= 1
    assert timing.p50_ms == pytest.approx(seconds * 1000, rel=1e-3)
    assert len(kept) == COMPARED


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        ([(1, "a", None)], [(1, "a", None)], ""),
        ([(1, 0.1 + 0.2)], [(1, 0.3)], ""),
        ([(1, 0.3)], [(1, 0.300_001)], "row 0"),
        ([(1,), (2,)], [(1,), (3,)], "row 1"),
        ([(1,), (2,)], [(1,)], "2 and 1 rows"),
        ([(1,)], [(1, None)], "row 0"),
        ([(None,)], [(0,)], "row 0"),
    ],
)
def test_answers_are_compared_row_by_row(ours: Any, theirs: Any, told: str) -> None:
    """Doubles but for their last digits, everything else exactly."""
    found = difference(ours, theirs)
    assert found.startswith(told)
    assert bool(found) == bool(told)


def entry(p50: float, p99: float, **peers: dict[str, Any]) -> dict[str, Any]:
    """The figures of one kind of question."""
    timing = {"p50_ms": p50, "p99_ms": p99}
    return {
        "bar_p99_ms": 10,
        "bar_with_ingest_p99_ms": 30,
        "idle": timing,
        "with_ingest": {"p50_ms": 3 * p50, "p99_ms": 3 * p99},
        "peers": peers,
    }


@pytest.mark.parametrize(
    ("figures", "words", "is_failed"),
    [
        (entry(1, 2, DuckDB={"p50_ms": 2.0, "p99_ms": 3.0, "answers": "equal"}), "faster than DuckDB", False),
        (entry(1, 2, DuckDB={"p50_ms": 2.0, "p99_ms": 1.0, "answers": "equal"}), "slower than DuckDB (p99 x2)", False),
        (entry(1, 12), "bar missed idle; bar missed with ingest", False),
        (
            entry(1, 2, DuckDB={"p50_ms": 2.0, "p99_ms": 3.0, "answers": "row 0: ..."}),
            "ANSWER DIFFERS from DuckDB",
            True,
        ),
        (entry(1, 2) | {"idle": {"error": "no"}}, "NOT ANSWERED: no", True),
    ],
)
def test_the_verdict_says_plainly_what_is_slower_wrong_or_missing(
    figures: dict[str, Any], words: str, is_failed: bool
) -> None:
    """And nothing good where an answer is not."""
    verdict.judge(figures)
    assert figures["verdict"].startswith(words)
    assert verdict.failed(figures) == is_failed
    if is_failed:
        assert "faster" not in figures["verdict"]


def test_the_tail_is_watched_until_it_is_gone() -> None:
    """The highest value is kept; a daemon without the gauge is never behind."""
    values = iter([3, 9, 4, 1, 0])
    with TailWatch(lambda: {GAUGE: next(values, 0)}) as tail:
        tail.wait()
    assert tail.peak == 9
    with TailWatch(dict) as none:
        none.wait()
    assert none.peak == 0


@pytest.mark.parametrize(("name", "module"), [("DuckDB", "duckdb"), ("PostgreSQL", "psycopg")])
def test_a_peer_that_is_not_installed_names_the_extra(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before anything is measured."""
    for loaded in ("server.bench.duck", "server.bench.postgres"):
        monkeypatch.delitem(sys.modules, loaded, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Precondition, match=r"trackd\[bench\]") as raised:
        databases.opener(name, tmp_path)
    assert raised.value.reason == "BENCH_PEER_MISSING"


def compared(rates: list[tuple[float, float]]) -> tuple[dict[str, Any], list[str]]:
    """What `bench metrics` makes of rates with and without metrics, and who was driven in which order."""
    on, off = (Peer(cast(Any, None), name, "") for name in ("on", "off"))
    left = {"on": [0.0, *(with_them for with_them, _without in rates)], "off": [1.0, *(one for _with, one in rates)]}
    driven: list[str] = []

    def drive(peer: Peer, _messages: object) -> Taken:
        driven.append(peer.target)
        return Taken(left[peer.target].pop(0), 100.0 if peer.target == "off" else 125.0)

    return compare(on, off, len(rates), list, drive, "streaming", lambda _said: None), driven


def test_what_metrics_cost_is_the_median_of_the_pairs() -> None:
    """One run that was disturbed does not move it; the first pair warms up and does not count."""
    told, driven = compared([(98, 100), (97, 100), (50, 100)])
    assert told["costs"] == [0.02, 0.03, 0.5]
    assert told["cost"] == 0.03
    assert told["cost_error"] > 0.03
    assert told["cost_of_cpu"] == 0.2
    assert (told["with_metrics_per_second"], told["without_metrics_per_second"]) == (97, 100)
    assert driven == ["off", "on", "on", "off", "off", "on", "on", "off"]


def test_of_equal_pairs_the_error_is_nothing() -> None:
    """And of a single pair nobody can tell."""
    assert compared([(99, 100)] * 4)[0]["cost_error"] == 0
    assert compared([(99, 100)])[0]["cost_error"] is None
