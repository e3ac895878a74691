"""Recording and alerting rules for objectives: how fast their budgets burn, and what is left.

An alert needs two windows: the long one says that it matters, the short one that it still goes on (multi-window,
multi-burn-rate: The Site Reliability Workbook, chapter 5). A burn rate of 1 uses up a budget exactly at the end of its
window. Rates are shares of requests: restarts of the daemon and missed scrapes change both sides alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from server.objectives import Objective

RUNBOOK = "deploy/RUNBOOK.md"
"""What `runbook_url` begins with if nothing else is said."""

FAST, SLOW, EXHAUSTED, OUTDATED = (
    "TrackdBudgetBurnFast",
    "TrackdBudgetBurnSlow",
    "TrackdBudgetExhausted",
    "TrackdObjectiveRulesOutdated",
)
"""All alerts about objectives. One more, or another name, is one more section of the runbook."""

REMAINING = "trackd:objective_budget:remaining_ratio"
"""What is left of a budget: 1 is all of it, less than 0 means that the objective is missed."""

SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
OFTEN, SELDOM = "30s", "2m"
"""How often rules are evaluated: those that page, and those over days. Series go stale after five minutes."""


@dataclass(frozen=True, slots=True)
class Burn:
    """One pair of windows."""

    rate: float
    long: str
    short: str
    alert: str
    severity: str


BURNS = (
    Burn(14.4, "1h", "5m", FAST, "page"),
    Burn(6, "6h", "30m", FAST, "page"),
    Burn(3, "1d", "2h", SLOW, "ticket"),
    Burn(1, "3d", "6h", SLOW, "ticket"),
)


def recorded(window: str) -> str:
    """The name of the series that has the bad share of requests over a window."""
    return f"trackd:objective_bad:ratio_rate{window}"


def scaled(duration: str, scale: float) -> str:
    """A duration of Prometheus, so many times as long, to the millisecond."""
    milliseconds = round(int(duration[:-1]) * SECONDS[duration[-1]] * 1000 * scale)
    for unit, seconds in reversed(SECONDS.items()):
        if milliseconds and milliseconds % (seconds * 1000) == 0:
            return duration if scale == 1 else f"{milliseconds // (seconds * 1000)}{unit}"
    return f"{max(1, milliseconds)}ms"


def groups(
    objectives: Sequence[Objective], *, window_scale: float = 1.0, runbook: str = RUNBOOK
) -> list[dict[str, Any]]:
    """The groups of a rule file.

    `window_scale` shortens (or stretches) every window and every interval, for tests; names stay, so that alerts and
    dashboards find what they know. `runbook`: what stands before the "#" of `runbook_url`.
    """
    if not objectives:
        return []
    often = [_ratio(window, window_scale) for window in ("5m", "30m", "1h", "6h")]
    seldom = [_ratio(window, window_scale) for window in ("2h", "1d", "3d")]
    for objective in objectives:
        seldom.append(_remaining(objective, window_scale))
        for burn in BURNS:
            # At a low target even 100 % of bad requests burn more slowly than this: such an alert could never fire.
            if burn.rate * objective.budget < 1:
                (often if burn.severity == "page" else seldom).append(_burning(objective, burn, runbook))
        seldom.append(_exhausted(objective, runbook))
    seldom.append(_outdated(objectives, window_scale, runbook))
    return [
        {"name": "trackd-objectives", "interval": scaled(OFTEN, window_scale), "rules": often},
        {"name": "trackd-objectives-slow", "interval": scaled(SELDOM, window_scale), "rules": seldom},
    ]


def as_yaml(found: Sequence[dict[str, Any]], *, heading: str = "") -> str:
    """A rule file, with a comment before it."""
    comment = "".join(f"# {line}".rstrip() + "\n" for line in heading.splitlines())
    text: str = yaml.dump({"groups": list(found)}, Dumper=_Dumper, sort_keys=False, width=1_000, allow_unicode=True)
    return comment + text


def _ratio(window: str, scale: float) -> dict[str, Any]:
    span = scaled(window, scale)
    requests = f"rate(trackd_objective_requests_total[{span}])"
    good = f"rate(trackd_objective_good_total[{span}])"
    # Without requests there is no share, and no alert.
    return {"record": recorded(window), "expr": f"({requests} - {good}) / ({requests} > 0)"}


def _remaining(objective: Objective, scale: float) -> dict[str, Any]:
    one = _selector(objective)
    span = scaled(objective.window, scale)
    requests = f"increase(trackd_objective_requests_total{one}[{span}])"
    good = f"increase(trackd_objective_good_total{one}[{span}])"
    return {
        "record": REMAINING,
        "expr": f"1 - ({requests} - {good}) / ({requests} > 0) / {_number(objective.budget)}\n"
        # Where nothing was asked nothing is used up.
        f"or trackd_objective_requests_total{one} * 0 + 1\n",
        # They have it anyway; rules of one name must differ in labels.
        "labels": {"objective": objective.name},
    }


def _burning(objective: Objective, burn: Burn, runbook: str) -> dict[str, Any]:
    one = _selector(objective)
    bad = _number(burn.rate * objective.budget)
    return _alert(
        burn.alert,
        burn.severity,
        f"{recorded(burn.long)}{one} > {bad}\nand\n{recorded(burn.short)}{one} > {bad}\n",
        f"{objective.name}: the error budget burns {_speed(burn.rate)} it may",
        f"{{{{ $value | humanizePercentage }}}} of the last {burn.long} was not {_promise(objective)}; "
        f"{_number(objective.budget * 100)} % may be, over {objective.window}.",
        runbook,
        objective=objective.name,
        burn=_number(burn.rate),
    )


def _exhausted(objective: Objective, runbook: str) -> dict[str, Any]:
    return _alert(
        EXHAUSTED,
        "ticket",
        f"{REMAINING}{_selector(objective)} <= 0",
        f"{objective.name}: nothing is left of the error budget",
        f"Less than {_number(objective.target * 100)} % was {_promise(objective)} in the last {objective.window}.",
        runbook,
        objective=objective.name,
    )


def _outdated(objectives: Sequence[Objective], scale: float, runbook: str) -> dict[str, Any]:
    """These rules have numbers in them; the daemon says what is promised now."""
    names = "|".join(objective.name for objective in objectives)
    differs = [f'trackd_objective_target_ratio{{objective!~"{names}"}}']
    for objective in objectives:
        one = _selector(objective)
        differs.append(f"trackd_objective_target_ratio{one} != {_number(objective.target)}")
        differs.append(f"trackd_objective_window_seconds{one} != {_number(objective.window_seconds)}")
        differs.append(f"absent(trackd_objective_target_ratio{one}) and on() (count(trackd_build_info) > 0)")
    return _alert(
        OUTDATED,
        "ticket",
        "\nor\n".join(differs) + "\n",
        "The objectives of the daemon are not those that these rules are for",
        "{{ with $labels.objective }}{{ . }} was changed, is new or is gone: {{ end }}run `trackd slo rules` again.",
        runbook,
        wait=scaled("15m", scale),
    )


def _promise(objective: Objective) -> str:
    if objective.threshold_ms is None:
        return "answered without UNAVAILABLE or INTERNAL"
    return f"answered within {_number(objective.threshold_ms)} ms"


def _alert(
    name: str,
    severity: str,
    expression: str,
    summary: str,
    description: str,
    runbook: str,
    *,
    wait: str = "",
    **labels: str,
) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        **({"for": wait} if wait else {}),
        "labels": {"severity": severity, **labels},
        "annotations": {
            "summary": summary,
            "description": description,
            "runbook_url": f"{runbook}#{name.lower()}",
        },
    }


def _speed(rate: float) -> str:
    return "faster than" if rate == 1 else f"more than {_number(rate)} times as fast as"


def _selector(objective: Objective) -> str:
    return f'{{objective="{objective.name}"}}'


def _number(value: float) -> str:
    """As short as it can be written, without what binary fractions add."""
    return f"{round(value, 9):.9f}".rstrip("0").rstrip(".")


class _Dumper(yaml.SafeDumper):
    """Expressions of several lines stay so."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def all_alerts(found: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The alerting rules of some groups."""
    return (rule for group in found for rule in group["rules"] if "alert" in rule)
