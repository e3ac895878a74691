"""The rules of objectives, evaluated by promtool, against what the latencies themselves say.

Random requests go through the daemon's own counters, with restarts and scrapes that were missed. What is expected is
computed from the single latencies and knows nothing of counters. Bounded and the same each time; to look further:
TRACKD_OBJECTIVE_RUNS=50 pytest tests/prometheus -k latencies -s, which prints seeds; TRACKD_SEED=<seed> repeats one.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from server.metrics.observer import PrometheusObserver
from server.objectives import QUERY, Objective
from server.observe import Ending, QuestionAnswered
from server.slo.rules import REMAINING, as_yaml, groups, recorded
from tests.support.gauges import make_gauges
from tests.support.prometheus import test_rules

SCALE = 1 / 60
"""An hour is a minute. A scrape a second."""
EVERY = 5
"""Seconds between evaluations of the rules."""
STEPS = 420
MOMENTS = 8
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
BURNS = (
    (14.4, "1h", "5m", "TrackdBudgetBurnFast", "page"),
    (6, "6h", "30m", "TrackdBudgetBurnFast", "page"),
    (3, "1d", "2h", "TrackdBudgetBurnSlow", "ticket"),
    (1, "3d", "6h", "TrackdBudgetBurnSlow", "ticket"),
)
"""What the rules are to watch, said again: rate, long and short window, alert, severity."""
RUNS = int(os.environ.get("TRACKD_OBJECTIVE_RUNS", "1"))
SEEDS = (
    [int(os.environ["TRACKD_SEED"])]
    if os.environ.get("TRACKD_SEED")
    else [1]
    if RUNS == 1
    else [random.SystemRandom().getrandbits(32) for _ in range(RUNS)]
)


@dataclass(frozen=True)
class Second:
    """What happened before a scrape, and what the scrape saw; None if it was missed."""

    run: int
    """How often the daemon was started before."""
    asked: list[tuple[float, Ending]]
    seen: dict[str, tuple[int, int]] | None


def objectives_of(rng: random.Random) -> list[Objective]:
    """A strict one, and one at which the fastest burn rate cannot be reached."""
    strict = Objective("strict", QUERY, rng.choice([100, 250, 330]), rng.choice([0.99, 0.999, 0.9995]), "30d")
    return [strict, Objective("easy", QUERY, rng.choice([50, 500]), rng.choice([0.9, 0.92]), "7d")]


def history(rng: random.Random, objectives: list[Objective]) -> list[Second]:
    """Seconds with good, poor and very bad phases, and some without any request."""
    seconds = [Second(0, [], dict.fromkeys((one.name for one in objectives), (0, 0)))]
    observer, run, missed = PrometheusObserver(make_gauges(), objectives=objectives), 0, 0
    typical_s, per_second, phase_ends = 0.03, 20, 60
    for number in range(1, STEPS + 1):
        if number >= phase_ends:
            typical_s = rng.choice([0.01, 0.02, 0.03, 0.1, 0.3])
            per_second = rng.choice([0, 3, 20, 30])
            phase_ends = number + rng.randint(5, 90)
        asked = []
        for _ in range(rng.randint(0, per_second)):
            ending = rng.choices(list(Ending), weights=[960, 20, 1, 10])[0]
            asked.append((rng.lognormvariate(0, 1) * typical_s, ending))
            observer.question_answered(QuestionAnswered("aggregate", *asked[-1]))
        counted = {one.name: counts(observer, one) for one in objectives}
        # Prometheus sees a restart by a counter that falls, and extends a range that does not begin with a scrape by a
        # part of an interval, unless the counter is near 0. Neither is what this is about.
        high = min(good for good, _requests in counted.values()) > 400
        missed = missed + 1 if high and missed < 3 and rng.random() < 0.05 else 0
        seconds.append(Second(run, asked, None if missed else counted))
        if high and not missed and rng.random() < 0.01:
            observer, run = PrometheusObserver(make_gauges(), objectives=objectives), run + 1
    return seconds


def counts(observer: PrometheusObserver, objective: Objective) -> tuple[int, int]:
    """(good, requests) as a scrape has them."""
    read = observer.registry.get_sample_value
    labels = {"objective": objective.name}
    good, requests = (read(f"trackd_objective_{what}_total", labels) for what in ("good", "requests"))
    return int(good or 0), int(requests or 0)


def bad_share(seconds: list[Second], objective: Objective, window_s: float, now: int) -> float | None:
    """The share of bad requests between the first and the last scrape of a window; None without requests."""
    scrapes = [number for number in range(max(0, round(now - window_s)), now + 1) if seconds[number].seen is not None]
    good = bad = 0
    for first, last in pairwise(scrapes):
        for number in range(first + 1, last + 1):
            second = seconds[number]
            if second.run != seconds[last].run:
                continue  # a restart took what nobody had scraped
            for latency_s, ending in second.asked:
                late = latency_s > objective.threshold_seconds
                bad += ending is Ending.OWED or (late and ending in (Ending.ANSWERED, Ending.ABANDONED))
                good += ending is Ending.ANSWERED and not late
    return bad / (good + bad) if good + bad else None


def values(seconds: list[Second], objective: Objective, place: int) -> str:
    """A counter in promtool's notation."""
    return " ".join("_" if one.seen is None else str(one.seen[objective.name][place]) for one in seconds)


def is_close(series: str, expected: float | None) -> tuple[str, int]:
    """(expression, value): whether a series has this value, or is not there."""
    if expected is None:
        return f"absent({series})", 1
    return f"abs({series} - {expected!r}) < bool 1e-9", 1


@pytest.mark.parametrize("seed", SEEDS)
def test_rules_say_what_the_latencies_say(seed: int, tmp_path: Path) -> None:
    """Shares over every window, what is left of budgets, and which burn alerts fire, at random moments."""
    print(f"TRACKD_SEED={seed}")
    rng = random.Random(seed)
    objectives = objectives_of(rng)
    seconds = history(rng, objectives)
    checks: list[dict[str, Any]] = []
    found: defaultdict[bool, int] = defaultdict(int)
    for now in sorted(rng.sample(range(30, STEPS + 1, EVERY), MOMENTS)):
        for objective in objectives:
            shares = {}
            for window in WINDOWS:
                shares[window] = bad_share(seconds, objective, seconds_of(window) * SCALE, now)
                share = f'{recorded(window)}{{objective="{objective.name}"}}'
                checks.append(check(now, *is_close(share, shares[window])))
            whole = bad_share(seconds, objective, objective.window_seconds * SCALE, now)
            left = 1 - (whole or 0.0) / (1 - objective.target)
            checks.append(check(now, *is_close(f'{REMAINING}{{objective="{objective.name}"}}', left)))
            exhausted = f'ALERTS{{alertname="TrackdBudgetExhausted",objective="{objective.name}",alertstate="firing"}}'
            checks.append(check(now, f"count({exhausted}) or vector(0)", int(left <= 0)))
            for rate, long, short, alert, severity in BURNS:
                limit = rate * (1 - objective.target)
                fires = all((shares[window] or 0.0) > limit for window in (long, short))
                found[fires] += 1
                labels = f'alertname="{alert}",objective="{objective.name}",severity="{severity}",burn="{rate:g}"'
                checks.append(check(now, f'count(ALERTS{{{labels},alertstate="firing"}}) or vector(0)', int(fires)))
    assert found[True] > 5, f"seed {seed}: hardly any alert was expected"
    assert found[False] > 5, f"seed {seed}: hardly any silence was expected"
    series = {
        f'trackd_objective_{name}_total{{instance="a",job="trackd",objective="{one.name}"}}': values(
            seconds, one, place
        )
        for one in objectives
        for place, name in enumerate(("good", "requests"))
    }
    evaluate(tmp_path, objectives, series, checks)


def test_an_alert_needs_both_windows_and_a_little_more_than_its_rate(tmp_path: Path) -> None:
    """A hair above it fires, a hair below it does not, and what is over is over once the short window has passed."""
    objective = Objective("one", QUERY, 100, 0.999)
    end = 800
    series: dict[str, str] = {}
    checks: list[dict[str, Any]] = []
    for rate, _long, short, alert, _severity in BURNS:
        limit = 1_000_000 * rate * 0.001
        calm = round(seconds_of(short) * SCALE) + 10
        for name, bad, calm_s in (("above", 1.001, 0), ("below", 0.999, 0), ("over", 5, calm)):
            good = 1_000_000 - round(limit * bad)
            labels = f'instance="{rate:g} {name}",job="trackd",objective="one"'
            bad_s = end - calm_s
            series[f"trackd_objective_requests_total{{{labels}}}"] = f"0+1000000x{end}"
            series[f"trackd_objective_good_total{{{labels}}}"] = (
                f"0+{good}x{bad_s} {good * bad_s + 1_000_000}+1000000x{calm_s}"
            )
            alerts = f'ALERTS{{alertname="{alert}",burn="{rate:g}",instance="{rate:g} {name}",alertstate="firing"}}'
            checks.append(check(end, f"count({alerts}) or vector(0)", int(name == "above")))
    evaluate(tmp_path, [objective], series, checks)


def test_where_nothing_is_asked_nothing_is_used_up(tmp_path: Path) -> None:
    """A daemon without requests has all of its budgets, no share of bad requests, and no alert."""
    objective = Objective("one", QUERY, 100, 0.999)
    labels = '{instance="a",job="trackd",objective="one"}'
    series = {f"trackd_objective_{name}_total{labels}": "7+0x300" for name in ("good", "requests")}
    checks = [
        check(300, *is_close(REMAINING, 1.0)),
        check(300, *is_close(recorded("5m"), None)),
        check(300, 'count(ALERTS{alertstate="firing"}) or vector(0)', 0),
    ]
    evaluate(tmp_path, [objective], series, checks)


def test_rules_for_other_objectives_are_noticed(tmp_path: Path) -> None:
    """One that was changed, one that is new, and one that is gone; not while all is as it was."""
    objective = Objective("one", QUERY, 100, 0.999)
    ones = {
        "as it was": {"target_ratio": ("one", 0.999), "window_seconds": ("one", 2_592_000)},
        "another target": {"target_ratio": ("one", 0.99)},
        "another window": {"target_ratio": ("one", 0.999), "window_seconds": ("one", 604_800)},
        "another name": {"target_ratio": ("two", 0.999)},
        "none": {},
    }
    for name, exported in ones.items():
        series = {'trackd_build_info{instance="a",job="trackd"}': "1+0x60"} | {
            f'trackd_objective_{what}{{instance="a",job="trackd",objective="{which}"}}': f"{value}+0x60"
            for what, (which, value) in exported.items()
        }
        told = 'max(ALERTS{alertname="TrackdObjectiveRulesOutdated",alertstate="firing"}) or vector(0)'
        evaluate(tmp_path, [objective], series, [check(40, told, int(name != "as it was"))])


def evaluate(
    directory: Path, objectives: list[Objective], series: dict[str, str], checks: list[dict[str, Any]]
) -> None:
    """Runs promtool over the rules of these objectives, with a value a second of each series."""
    rules = directory / "rules.yml"
    found = groups(objectives, window_scale=SCALE)
    rules.write_text(as_yaml(found), "utf-8")
    test = {
        "interval": "1s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": checks,
    }
    order = [group["name"] for group in found]
    test_rules(directory, [rules], test, evaluation_interval=f"{EVERY}s", group_eval_order=order)


def check(now: int, expression: str, value: int) -> dict[str, Any]:
    """One expectation of promtool."""
    # Whose labels it has is none of its business.
    return {"expr": f"max({expression})", "eval_time": f"{now}s", "exp_samples": [{"labels": "{}", "value": value}]}


def seconds_of(window: str) -> int:
    """A window in seconds."""
    return int(window[:-1]) * {"m": 60, "h": 3_600, "d": 86_400}[window[-1]]
