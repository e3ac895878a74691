"""`trackd slo`: what is said about budgets, from what a Prometheus answers, and about one that does not answer well."""

from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from server.cli.main import app
from server.slo.status import Budget, Found, Prometheus, look_up, seconds_of
from server.slo.table import notes, promise

Series = list[tuple[dict[str, str], float]]
ONE = {"instance": "a:9077", "job": "trackd", "objective": "acks"}
UP = {"instance": "a:9077", "job": "trackd", "objective": "up"}


def answers(**changes: Series) -> dict[str, Series]:
    """What a Prometheus says of a daemon that answered 10 of 100,000 batches too late, and was asked nothing else."""
    said: dict[str, Series] = {
        "trackd_objective_target_ratio": [(ONE, 0.999), (UP, 0.99)],
        "trackd_objective_threshold_seconds": [(ONE, 0.25)],
        "trackd_objective_window_seconds": [(ONE, 2_592_000), (UP, 604_800)],
        "increase(trackd_objective_requests_total[2592000s])": [(ONE, 100_000), (UP, 1)],
        "increase(trackd_objective_requests_total[2592000s]) - increase(trackd_objective_good_total[2592000s])": [
            (ONE, 10),
            (UP, 1),
        ],
        "increase(trackd_objective_requests_total[604800s])": [(ONE, 7), (UP, 0)],
        "increase(trackd_objective_requests_total[604800s]) - increase(trackd_objective_good_total[604800s])": [
            (ONE, 7)
        ],
    }
    return said | changes


class FakePrometheus:
    """Speaks as much of the HTTP API as is asked."""

    def __init__(self) -> None:
        self.said = answers()
        self.other: Callable[[str], tuple[int, bytes]] | None = None
        self.retention = "15d"
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = fake.answer(self.path)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def answer(self, path: str) -> tuple[int, bytes]:
        """Status and body for a path."""
        if self.other:
            return self.other(path)
        asked = urllib.parse.urlsplit(path)
        if asked.path == "/api/v1/status/runtimeinfo":
            return 200, json.dumps({"status": "success", "data": {"storageRetention": self.retention}}).encode()
        (expression,) = urllib.parse.parse_qs(asked.query)["query"]
        result = [{"metric": labels, "value": [0, str(value)]} for labels, value in self.said.get(expression, [])]
        return 200, json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def fake() -> Iterator[FakePrometheus]:
    """One that knows a daemon."""
    server = FakePrometheus()
    yield server
    server.close()


def status(url: str, *options: str, columns: int = 120) -> Result:
    """`trackd slo status`."""
    return CliRunner().invoke(app, ["slo", "status", "--prometheus", url, *options], env={"COLUMNS": str(columns)})


def test_a_budget_is_what_is_left_of_what_may_be_bad(fake: FakePrometheus) -> None:
    """10 of 100,000 is a tenth of 0.1 %; the window is each objective's own; nothing asked is nothing used."""
    one, up = look_up(Prometheus(fake.url, 5)).budgets
    assert (one.objective, one.requests, one.bad, one.window_seconds) == ("acks", 100_000, 10, 2_592_000)
    assert one.remaining == pytest.approx(0.9)
    assert (up.objective, up.requests, up.bad, up.remaining) == ("up", 0, 0, 1)
    assert (one.threshold_seconds, up.threshold_seconds) == (0.25, None)
    assert one.burn_1h is None


def test_alerts_that_fire_are_named(fake: FakePrometheus) -> None:
    """With how fast it burns, by objective."""
    labels = ONE | {"alertname": "TrackdBudgetBurnFast", "burn": "14.4"}
    asked = 'ALERTS{alertname=~"TrackdBudgetBurnFast|TrackdBudgetBurnSlow|TrackdBudgetExhausted",alertstate="firing"}'
    fake.said[asked] = [(labels, 1.0)]
    one, up = look_up(Prometheus(fake.url, 5)).budgets
    assert (one.firing, up.firing) == (("TrackdBudgetBurnFast (14.4x)",), ())
    assert "firing for acks: TrackdBudgetBurnFast (14.4x)\n" in status(fake.url, columns=60).output


def test_the_burn_rate_is_the_share_of_the_last_hour_by_what_may_be(fake: FakePrometheus) -> None:
    """2 % bad at 0.1 % allowed is 20 times as fast."""
    rates = "rate(trackd_objective_requests_total[1h])"
    fake.said[f"({rates} - rate(trackd_objective_good_total[1h])) / ({rates} > 0)"] = [(ONE, 0.02)]
    assert look_up(Prometheus(fake.url, 5)).budgets[0].burn_1h == pytest.approx(20)


def test_people_see_a_table_and_scripts_an_object(fake: FakePrometheus) -> None:
    """Both with exit code 0 while something is left everywhere."""
    shown = status(fake.url)
    assert shown.exit_code == 0, shown.output
    for word in ("acks", "99.9 % in 250 ms", "30d", "100,000", "90.0%", "99 % ok", "7d", "100.0%"):
        assert word in shown.output
    assert "Prometheus keeps 15d: what is older is missing from windows of 30d" in " ".join(shown.output.split())
    told = json.loads(status(fake.url, "--json").output)
    assert told["retention"] == "15d"
    assert [one["objective"] for one in told["budgets"]] == ["acks", "up"]
    assert told["budgets"][0]["remaining"] == pytest.approx(0.9)


def test_a_budget_that_is_gone_is_exit_code_1(fake: FakePrometheus) -> None:
    """For scripts that decide whether a release may go out."""
    bad = "increase(trackd_objective_requests_total[2592000s]) - increase(trackd_objective_good_total[2592000s])"
    fake.said[bad] = [(ONE, 250)]
    shown = status(fake.url)
    assert shown.exit_code == 1
    assert "-150.0%" in shown.output


def test_a_prometheus_that_keeps_enough_is_not_remarked_on(fake: FakePrometheus) -> None:
    """Nor one that does not say."""
    for retention in ("30d", "1y", ""):
        fake.retention = retention
        assert list(notes(look_up(Prometheus(fake.url, 5)))) == []


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        (lambda _path: (500, b"oops"), "500 Internal Server Error"),
        (lambda _path: (200, b"<html>"), "not that of a Prometheus"),
        (lambda _path: (200, b"[]"), "not that of a Prometheus"),
        (lambda _path: (200, b'{"status": "success", "data": {"result": []}}'), "knows no objective"),
    ],
)
def test_a_server_that_is_none_is_said_in_a_line(
    other: Callable[[str], tuple[int, bytes]], complaint: str, fake: FakePrometheus
) -> None:
    """With exit code 2 and without a traceback."""
    fake.other = other
    shown = status(fake.url)
    assert shown.exit_code == 2
    assert complaint in shown.output
    assert "Traceback" not in shown.output


@pytest.mark.parametrize("url", ["localhost:9090", "file:///etc/passwd", "http://", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    """Before anything is asked."""
    shown = status(url)
    assert shown.exit_code == 2
    assert "is no URL" in shown.output


def test_nobody_there_is_exit_code_2() -> None:
    """With what to do."""
    shown = status("http://127.0.0.1:1")
    assert shown.exit_code == 2
    assert "--prometheus" in shown.output


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("15d", 1_296_000), ("1h30m", 5_400), ("2w", 1_209_600), ("100ms", 0.1), ("30d or 5GiB", 2_592_000)],
)
def test_durations_are_read_as_prometheus_writes_them(text: str, seconds: float) -> None:
    """Also together with a size."""
    assert seconds_of(text) == pytest.approx(seconds)


def test_a_promise_in_a_few_words() -> None:
    """Without zeros that say nothing."""
    budget = Budget("a", "x", 0.9995, 0.02, 1.0, 0, 0, 1.0, None, ())
    assert promise(budget) == "99.95 % in 20 ms"
    assert list(notes(Found([budget], ""))) == []


def test_rules_name_a_wrong_setting(tmp_path: Path) -> None:
    """As `trackd serve` does, with exit code 2."""
    path = tmp_path / "trackd.toml"
    path.write_text('[[objective]]\nname = "x"\nkind = "query"\ntarget = 0.9\n', "utf-8")
    shown = CliRunner().invoke(app, ["slo", "rules", "--config", str(path)])
    assert shown.exit_code == 2
    assert "threshold_ms" in shown.output
    path.write_text('[[objective]]\nname = "x"\nkind = "query"\nthreshold_ms = 70\ntarget = 0.9\n', "utf-8")
    made = CliRunner().invoke(app, ["slo", "rules", "--config", str(path), "--runbook", "https://example.org/r"])
    assert made.exit_code == 0
    assert "within 70 ms" in made.output
    assert "https://example.org/r#trackdbudgetexhausted" in made.output
