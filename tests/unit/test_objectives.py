"""Objectives: how they are said, and what counts as good, as bad, and not at all."""

from __future__ import annotations

import asyncio
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest

from server.config import Query, load
from server.errors import ConfigurationError, Internal, Invalid, TrackdError, Unavailable
from server.metrics.observer import OWED_CODES, PrometheusObserver
from server.objectives import AVAILABILITY, DEFAULTS, INGEST_ACK, QUERY, Objective
from server.observe import (
    BatchAbandoned,
    BatchAnswered,
    BatchRefused,
    CallHandled,
    Ending,
    Observer,
    QuestionAnswered,
)
from server.query.readers import Readers
from server.rpc.status import CODES
from server.storage.memory.store import MemoryStore
from tests.support.gauges import make_gauges

ACK = Objective("ack", INGEST_ACK, 100, 0.99)
ASK = Objective("ask", QUERY, 100, 0.99)
UP = Objective("up", AVAILABILITY, None, 0.99)


def counts(observer: PrometheusObserver, objective: Objective) -> tuple[float | None, float | None]:
    """(good, requests) as exported."""
    labels = {"objective": objective.name}
    read = observer.registry.get_sample_value
    return read("trackd_objective_good_total", labels), read("trackd_objective_requests_total", labels)


@pytest.fixture
def observer() -> PrometheusObserver:
    """One with an objective of each kind."""
    return PrometheusObserver(make_gauges(), objectives=(ACK, ASK, UP))


def answered(seconds: float, durability: str = "durable", *, streamed: bool = False) -> BatchAnswered:
    """A batch of one event."""
    return BatchAnswered(durability, seconds, 1, 0, 0, 0, {}, 100, streamed)


# How they are said


def settings(tmp_path: Path, text: str) -> tuple[Objective, ...]:
    """The objectives of a file of settings."""
    path = tmp_path / "trackd.toml"
    path.write_text(text, "utf-8")
    return load(path, {}).objective


def test_without_any_the_default_ones_hold(tmp_path: Path) -> None:
    """They are good themselves; an empty list means none."""
    assert settings(tmp_path, "") == DEFAULTS
    assert settings(tmp_path, "objective = []") == ()


def test_those_of_the_file_replace_the_default_ones(tmp_path: Path) -> None:
    """All of them; the window is 30 days unless said otherwise."""
    text = """
        [[objective]]
        name = "fast"
        kind = "ingest_ack"
        threshold_ms = 20
        target = 0.95
        [[objective]]
        name = "up"
        kind = "availability"
        target = 0.9999
        window = "7d"
    """
    fast, up = settings(tmp_path, text)
    assert (fast.threshold_seconds, fast.budget, fast.window_seconds) == (0.02, 0.05, 30 * 86_400)
    assert (up.threshold_seconds, up.budget, up.window_seconds) == (math.inf, 0.0001, 7 * 86_400)


@pytest.mark.parametrize(
    ("lines", "problems"),
    [
        ("", ["name: '' must be", "kind: '' is none of ingest_ack, query, availability", "target: must be a share"]),
        ('name = "Fast"\nkind = "query"\nthreshold_ms = 1\ntarget = 0.9', ["name: 'Fast' must be"]),
        ('name = "a"\nkind = "latency"\ntarget = 0.9', ["kind: 'latency' is none of"]),
        ('name = "a"\nkind = "query"\ntarget = 0.9', ["threshold_ms: must be given"]),
        ('name = "a"\nkind = "query"\nthreshold_ms = 0\ntarget = 0.9', ["threshold_ms: must be more than 0"]),
        ('name = "a"\nkind = "availability"\nthreshold_ms = 5\ntarget = 0.9', ["threshold_ms: means nothing"]),
        ('name = "a"\nkind = "availability"\ntarget = 99.9', ["target: must be a share", "not 99.9"]),
        ('name = "a"\nkind = "availability"\ntarget = 1', ["target: must be a share"]),
        ('name = "a"\nkind = "availability"\ntarget = "high"', ["target: Expected `float`, got `str`"]),
        ('name = "a"\nkind = "availability"\ntarget = 0.9\nwindow = "1w"', ["window: must be whole days", "'1w'"]),
        ('name = "a"\nkind = "availability"\ntarget = 0.9\nwindow = "91d"', ["window: must be whole days"]),
        ('name = "a"\nkind = "availability"\ntarget = 0.9\ngoal = 1', ["goal: no such key"]),
    ],
)
def test_what_is_wrong_is_said_with_its_key(lines: str, problems: list[str], tmp_path: Path) -> None:
    """Each problem once, with the number of its table."""
    with pytest.raises(ConfigurationError) as caught:
        settings(tmp_path, f"[[objective]]\n{lines}")
    told = caught.value.message.splitlines()
    assert len(told) == len({problem.partition(":")[0] for problem in problems if ":" in problem})
    for problem in problems:
        assert problem in caught.value.message
    assert all(": objective[0]." in line for line in told)


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    """Their series would be one."""
    table = '[[objective]]\nname = "a"\nkind = "availability"\ntarget = 0.9\n'
    with pytest.raises(ConfigurationError, match=r"objective\[1\]\.name: 'a' is the name of another"):
        settings(tmp_path, table * 2)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("objective = 5", "objective: must be tables"), ("objective = [5]", "objective[0]: must be a table")],
)
def test_anything_but_tables_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    """In one line."""
    with pytest.raises(ConfigurationError) as caught:
        settings(tmp_path, text)
    (line,) = caught.value.message.splitlines()
    assert problem in line


# What counts


def test_what_was_promised_is_exported(observer: PrometheusObserver) -> None:
    """Targets, windows and thresholds, where there is one."""
    read = observer.registry.get_sample_value
    for objective in (ACK, ASK, UP):
        labels = {"objective": objective.name}
        assert read("trackd_objective_target_ratio", labels) == 0.99
        assert read("trackd_objective_window_seconds", labels) == 30 * 86_400
        assert counts(observer, objective) == (0, 0)
    assert read("trackd_objective_threshold_seconds", {"objective": "ack"}) == 0.1
    assert read("trackd_objective_threshold_seconds", {"objective": "up"}) is None


def test_a_batch_is_good_up_to_the_threshold(observer: PrometheusObserver) -> None:
    """The threshold itself is good still; ACCEPTED is another promise and does not count."""
    for seconds in (0.01, 0.1, 0.100001):
        observer.batch_answered(answered(seconds))
    observer.batch_answered(answered(5.0, "accepted"))
    assert counts(observer, ACK) == (2, 3)


def test_a_refused_batch_is_bad_if_the_daemon_is_at_fault(observer: PrometheusObserver) -> None:
    """One that breaks the contract is neither good nor bad."""
    observer.batch_refused(BatchRefused("DISK_FULL", 5, owed=True))
    observer.batch_refused(BatchRefused("BATCH_TOO_LARGE", 5))
    assert counts(observer, ACK) == (0, 1)


def test_who_did_not_wait_long_enough_does_not_count(observer: PrometheusObserver) -> None:
    """Who waited longer than was promised does: a daemon that hangs is seen although nothing is ever answered."""
    for seconds in (0.05, 0.5):
        observer.batch_abandoned(BatchAbandoned("durable", seconds))
        observer.question_answered(QuestionAnswered("aggregate", seconds, Ending.ABANDONED))
    assert counts(observer, ACK) == (0, 1)
    assert counts(observer, ASK) == (0, 1)


def test_a_question_is_good_if_it_is_answered_in_time(observer: PrometheusObserver) -> None:
    """Its asker's faults do not count; what the daemon owes is bad, however fast it says so."""
    observer.question_answered(QuestionAnswered("aggregate", 0.01))
    observer.question_answered(QuestionAnswered("aggregate", 0.2))
    observer.question_answered(QuestionAnswered("aggregate", 0.01, Ending.REFUSED))
    observer.question_answered(QuestionAnswered("aggregate", 0.01, Ending.OWED))
    assert counts(observer, ASK) == (1, 3)


def test_availability_is_about_calls_and_about_batches_on_streams(observer: PrometheusObserver) -> None:
    """A call that is a batch counts once; only UNAVAILABLE and INTERNAL are bad, other failures do not count."""
    for code in ("OK", "INVALID_ARGUMENT", "CANCELLED", "DEADLINE_EXCEEDED", "UNAVAILABLE", "INTERNAL"):
        observer.call_handled(CallHandled("trackd.v1.IngestService", "Append", "unary", code, 9.0))
    assert counts(observer, UP) == (1, 3)
    observer.batch_answered(answered(0.01))
    observer.batch_refused(BatchRefused("DISK_FULL", 5, owed=True))
    assert counts(observer, UP) == (1, 3)
    observer.batch_answered(answered(9.0, streamed=True))
    observer.batch_refused(BatchRefused("DISK_FULL", 5, owed=True, streamed=True))
    observer.batch_refused(BatchRefused("UNDECODABLE", 5, streamed=True))
    assert counts(observer, UP) == (2, 5)


def test_errors_that_are_owed_are_those_of_two_codes() -> None:
    """One rule, said twice because core code does not know gRPC."""
    assert {kind.__name__ for kind in CODES if kind.owed} == {
        kind.__name__ for kind, code in CODES.items() if code.name in OWED_CODES
    }


class Heard(Observer):
    """Remembers how questions ended."""

    def __init__(self) -> None:
        self.endings: list[Ending] = []

    def question_answered(self, question: QuestionAnswered) -> None:
        """Notes it."""
        self.endings.append(question.ending)


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (None, Ending.ANSWERED),
        (Invalid("FILTER_INVALID", "x"), Ending.REFUSED),
        (Unavailable("INTERRUPTED", "x"), Ending.OWED),
        (Internal("INTERNAL", "x"), Ending.OWED),
        (RuntimeError("a defect"), Ending.OWED),
    ],
)
async def test_readers_say_how_a_question_ended(error: Exception | None, ending: Ending) -> None:
    """By what was raised."""
    heard = Heard()
    readers = Readers(MemoryStore(), Query(), heard)

    def question(_reader: Any) -> int:
        if error:
            raise error
        return 1

    try:
        if error:
            with pytest.raises(type(error)):
                await readers.ask("aggregate", question)
        else:
            assert await readers.ask("aggregate", question) == 1
    finally:
        await readers.close()
    assert heard.endings == [ending]


async def test_readers_tell_who_went_away_from_who_waited_too_long() -> None:
    """A cancel is the asker's; the operator's limit is the daemon's."""
    heard = Heard()
    readers = Readers(MemoryStore(), Query(readers=1, timeout_max_ms=20), heard)
    held = asyncio.Event()

    async def hold() -> None:
        loop = asyncio.get_running_loop()
        await readers.ask("aggregate", lambda _reader: asyncio.run_coroutine_threadsafe(held.wait(), loop).result())

    with pytest.raises(TrackdError, match="took longer"):
        await hold()
    waiting = asyncio.create_task(readers.ask("aggregate", lambda _reader: 1))
    while not readers.waiting:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    held.set()
    await readers.close()
    assert heard.endings == [Ending.OWED, Ending.ABANDONED]


def test_the_annotated_settings_show_the_default_objectives() -> None:
    """Commented out in deploy/trackd.toml, table by table."""
    text = (Path(__file__).parents[2] / "deploy" / "trackd.toml").read_text("utf-8")
    shown = text[text.index("# [[objective]]") :].replace("# ", "")
    tables = tomllib.loads(shown)["objective"]
    assert tuple(Objective(**table) for table in tables) == DEFAULTS
