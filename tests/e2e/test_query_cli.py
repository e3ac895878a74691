"""`trackd query`, and the formats of all commands that ask, against a real daemon."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import trackd

from tests.e2e.conftest import DaemonProcess, run
from tests.support.serving import serving

BERLIN = ZoneInfo("Europe/Berlin")


def at(month: int, day: int, hour: int = 12) -> int:
    """An instant of 2025 in Berlin."""
    return int(datetime(2025, month, day, hour, tzinfo=BERLIN).timestamp()) * 1000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """Reviews of three users in October and November, one of them at half past midnight in Berlin."""
    made = [
        trackd.new_event(
            "review_submitted" if n % 4 else "pr_merged",
            user_id=("ann", "ben", "")[n % 3],
            timestamp_ms=at(10 + n % 2, 1 + n // 2),
            tags=["docs", "a,b"] if n % 5 == 0 else [],
            metadata={"ms": n, "repo": "git"} if n % 2 else {},
        )
        for n in range(40)
    ]
    made.append(trackd.new_event("odd", user_id="\x1b[2Jeve", timestamp_ms=at(12, 1, 0)))
    change = trackd.new_change("prs", "1", "update", old_values={"a": 1}, new_values={"a": 2}, rows_affected=1)
    made.append(trackd.new_event("changed", user_id="ann", timestamp_ms=at(12, 24), change=change))
    with serving(tmp_path_factory.mktemp("query")) as daemon:
        with trackd.Client(daemon.target) as client:
            client.append(made, source="tests")
        yield daemon


def ask(served: DaemonProcess, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs a command that is expected to end so."""
    done = run(*arguments, target=served.target)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def told(served: DaemonProcess, *arguments: str) -> Any:
    """The answer of `trackd query` in JSON."""
    return json.loads(ask(served, "query", *arguments, "--json").stdout)


def test_without_options_all_events_are_counted(served: DaemonProcess) -> None:
    """One row; what it took goes to standard error."""
    done = ask(served, "query")
    assert done.stdout.split() == ["events", "42"]
    assert "1 row in" in done.stderr
    answer = told(served)
    assert (answer["rows"], answer["totals"], answer["more"]) == ([{"events": 42}], {}, False)
    assert answer["question"]["metrics"] == ["events"]
    assert answer["read"]["milliseconds"] > 0


def test_groups_filters_and_orders_are_those_of_the_options(served: DaemonProcess) -> None:
    """Options and comparisons must all hold; with --any one comparison is enough."""
    october = ["--since", "2025-10", "--until", "2025-11", "--zone", "Europe/Berlin"]
    by_user = told(served, "--by", "user", *october, "--type", "review_submitted", "--order", "-user")
    assert by_user["rows"] == [{"user": name, "events": count} for name, count in (("ben", 3), ("ann", 3), ("", 4))]
    numbers = told(served, "-m", "sum(ms)", "-m", "events", "--where", "metadata:ms?", "--where", "user!=ann")
    wanted = [n for n in range(40) if n % 2 and n % 3]
    assert numbers["rows"] == [{"sum(ms)": float(sum(wanted)), "events": len(wanted)}]
    either = told(served, "--where", 'tag="a,b"', "--where", "user^=b", "--any", "--user", "ben")
    assert either["rows"] == [{"events": 13}]
    top = told(served, "--by", "metadata:repo", "--limit", "1", "--totals")
    assert (top["rows"], top["totals"], top["more"]) == (
        [{"metadata:repo": None, "events": 22}], {"events": 42}, True,
    )  # fmt: skip


def test_days_are_those_of_the_zone(served: DaemonProcess) -> None:
    """Half past midnight in Berlin is the day before in UTC."""
    table = ask(served, "query", "--by", "time:day", "--where", "type=odd", "--zone", "Europe/Berlin").stdout
    assert "2025-12-01" in table
    assert "2025-11-30" in ask(served, "query", "--by", "time:day", "--where", "type=odd").stdout
    full = told(served, "--by", "time:month", "--since", "2025-08", "--until", "2026-01", "--empty", "--compare")
    assert [row["events"] for row in full["rows"]] == [0, 0, 20, 21, 1]
    assert [row["previous:events"] for row in full["rows"]] == [0] * 5


def test_a_table_shows_totals_changes_and_no_control_characters(served: DaemonProcess) -> None:
    """What senders wrote does not steer the terminal."""
    shown = ask(
        served, "query", "--by", "user", "-m", "events", "-m", "avg(ms)", "--totals", "--compare",
        "--since", "2025-11", "--until", "2025-12",
    ).stdout  # fmt: skip
    lines = [line.split() for line in shown.splitlines()]
    assert lines[0] == ["user", "events", "before", "change", "avg(ms)", "before", "change"]
    assert ["ben", "7", "6", "+17", "%", "19.00"] in lines
    assert ['""', "6", "7", "-14", "%", "20.00"] in lines
    assert lines[-1] == ["all", "21", "20", "+5", "%", "20.00"]
    odd = ask(served, "query", "--by", "user", "--where", "type=odd").stdout
    assert "\x1b" not in odd
    assert " [2Jeve" in odd
    assert "(none)" in ask(served, "query", "--by", "metadata:repo").stdout


def test_charts_are_lines_over_time_and_bars_otherwise(served: DaemonProcess) -> None:
    """A legend where there are several lines; one chart a metric."""
    lines = ask(served, "query", "--by", "time:day", "--by", "type", "--chart", "-m", "events", "-m", "users").stdout
    assert "━━ review_submitted" in lines
    assert lines.count("└") == 2
    assert "2025-10-01" in lines
    assert any("\u2800" < character <= "\u28ff" for character in lines)
    bars = ask(served, "query", "--by", "type", "--chart").stdout
    assert "█" in bars
    assert "█" in ask(served, "query", "--chart").stdout
    compared = ["--since", "2025-11", "--until", "2025-12", "--compare"]
    assert "━━ previous:events" in ask(served, "query", "--by", "time:week", "--chart", *compared).stdout
    nothing = ask(served, "query", "--by", "time:day", "--where", "type=nothing", "--chart").stdout
    assert "events" in nothing
    ask(served, "query", "--chart", "--format", "csv", code=2)


def test_a_question_can_be_json(served: DaemonProcess, tmp_path: Path) -> None:
    """The one that an answer says it understood; from a file or from standard input, and alone."""
    first = told(served, "--by", "type", "--where", "user?", "--limit", "2", "--zone", "Europe/Berlin")
    file = tmp_path / "question.json"
    file.write_text(json.dumps(first["question"]))
    again = told(served, "--json-question", str(file))
    assert {**again, "read": 0} == {**first, "read": 0}
    command = [sys.executable, "-m", "server.cli.main", "query", "--json-question", "-", "--target", served.target]
    piped = subprocess.run(command, input=file.read_text(), capture_output=True, text=True, timeout=30, check=True)
    assert "review_submitted" in piped.stdout
    ask(served, "query", "--json-question", str(file), "--by", "type", code=2)
    ask(served, "query", "--json-question", str(tmp_path / "absent.json"), code=2)
    file.write_text('{"colour": 1}')
    assert "colour" in ask(served, "query", "--json-question", str(file), code=2).stderr


def rows_of(text: str) -> list[dict[str, str]]:
    """The rows of CSV."""
    return list(csv.DictReader(io.StringIO(text)))


def test_answers_are_csv(served: DaemonProcess, tmp_path: Path) -> None:
    """Instants with the offset of the zone, nothing for what is absent, quotes where they are needed."""
    series = ask(
        served, "query", "--by", "time:month", "-m", "events", "-m", "max(ms)", "--zone", "Europe/Berlin",
        "--format", "csv",
    ).stdout  # fmt: skip
    assert rows_of(series) == [
        {"time:month": "2025-10-01T00:00:00.000+02:00", "events": "20", "max(ms)": ""},
        {"time:month": "2025-11-01T00:00:00.000+01:00", "events": "20", "max(ms)": "39.0"},
        {"time:month": "2025-12-01T00:00:00.000+01:00", "events": "2", "max(ms)": ""},
    ]
    assert rows_of(ask(served, "count", "--by", "month", "--format", "csv").stdout)[0] == {
        "month": "2025-10", "events": "20",
    }  # fmt: skip
    output = tmp_path / "events.csv"
    assert ask(served, "events", "--limit", "0", "--order", "time_asc", "-o", str(output)).stdout == ""
    events = rows_of(output.read_text())
    assert len(events) == 42
    assert json.loads(events[0]["tags"]) == ["docs", "a,b"]
    assert events[-1]["change_new_values"] == '{"a":2}'
    assert events[0]["timestamp"] == "2025-10-01T10:00:00.000+00:00"


def test_answers_are_parquet(served: DaemonProcess, tmp_path: Path) -> None:
    """With the types of the columns; instants are timestamps with a zone."""
    parquet = pytest.importorskip("pyarrow.parquet")
    output = tmp_path / "a.parquet"
    ask(
        served, "query", "--by", "time:month", "--by", "user", "-m", "users", "-m", "max(ms)", "--zone",
        "Europe/Berlin", "-o", str(output),
    )  # fmt: skip
    table = parquet.read_table(output)
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds == {
        "time:month": "timestamp[ms, tz=Europe/Berlin]", "user": "string", "users": "int64", "max(ms)": "double",
    }  # fmt: skip
    first = table.to_pylist()[0]
    assert first == {
        "time:month": datetime(2025, 10, 1, tzinfo=BERLIN), "user": "", "users": 0, "max(ms)": None,
    }  # fmt: skip
    ask(served, "events", "--limit", "0", "--order", "time_asc", "-o", str(output))
    events = parquet.read_table(output).to_pylist()
    assert len(events) == 42
    assert events[0]["timestamp"] == datetime(2025, 10, 1, 10, tzinfo=UTC)
    assert (events[0]["tags"], events[0]["change_action"], events[-1]["change_action"]) == (
        ["docs", "a,b"],
        None,
        "update",
    )
    ask(served, "count", "--by", "user", "-o", str(output))
    assert sum(row["events"] for row in parquet.read_table(output).to_pylist()) == 42
    ask(served, "query", "--where", "type=nothing", "--by", "user", "-o", str(output))
    assert parquet.read_table(output).num_rows == 0


def test_json_lines_go_to_files_as_well(served: DaemonProcess, tmp_path: Path) -> None:
    """The same lines as with --json."""
    output = tmp_path / "events.jsonl"
    ask(served, "events", "--limit", "3", "-o", str(output))
    assert output.read_text() == ask(served, "events", "--limit", "3", "--json").stdout
    assert len(output.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--metric", "visitors"], "METRIC_INVALID"),
        (["--by", "colour"], "DIMENSION_INVALID"),
        (["--order", "users"], "ORDER_INVALID"),
        (["--where", "colour=red"], "FILTER_INVALID"),
        (["--limit", "20001"], "LIMIT_INVALID"),
        (["--empty", "--by", "time:day"], "RANGE_INVALID"),
    ],
)
def test_what_the_daemon_refuses_is_said_in_one_line(served: DaemonProcess, arguments: list[str], said: str) -> None:
    """With its reason and what to do; exit code 1."""
    done = ask(served, "query", *arguments, code=1)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [["--since", "soon"], ["--where", "type"], ["--zone", "Mars"], ["--limit", "-1"], ["--json", "--format", "csv"]],
)
def test_wrong_usage_is_said_before_anything_is_asked(arguments: list[str]) -> None:
    """Exit code 2, also where no daemon is."""
    assert run("query", *arguments, target="127.0.0.1:1").returncode == 2


def test_relative_times_are_taken_by_every_command(served: DaemonProcess) -> None:
    """Nothing happened since tomorrow's past."""
    assert ask(served, "count", "--since", "-1h").stdout.startswith("0 events")
    assert told(served, "--since", "-0d", "--until", "now")["rows"] == [{"events": 0}]


def test_parquet_does_not_go_to_a_terminal(served: DaemonProcess) -> None:
    """It would be noise; into a pipe it goes."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "server.cli.main", "query", "--format", "parquet", "--target", served.target]
    done = subprocess.run(command, stdout=follower, stderr=subprocess.PIPE, timeout=30, check=False)
    os.close(follower)
    os.close(leader)
    assert done.returncode == 2
    assert b"--output" in done.stderr
    piped = subprocess.run(command, capture_output=True, timeout=30, check=True)
    assert piped.stdout.startswith(b"PAR1")


def test_types_are_registered_with_dimensions(served: DaemonProcess) -> None:
    """As often as the option is given."""
    arguments = ["types", "register", "pr_merged", "--dimension", "repo", "--dimension", "ms"]
    assert json.loads(ask(served, *arguments, "--json").stdout)["dimensions"] == ["ms", "repo"]
    assert "ms, repo" in ask(served, "types", "describe", "pr_merged").stdout
    assert "DIMENSION_INVALID" in ask(served, *arguments, "--dimension", "ms", code=1).stderr
