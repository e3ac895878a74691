"""What is left of each budget, asked from a Prometheus that scrapes the daemon. Needs no rules there."""

from __future__ import annotations

import http.client
import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from server.errors import Invalid, Unavailable
from server.objectives import DAY_S
from server.slo.rules import EXHAUSTED, FAST, SLOW

REQUESTS = "trackd_objective_requests_total"
GOOD = "trackd_objective_good_total"
ANSWER_BYTES_MAX = 16 * 1024 * 1024

Labels = Mapping[str, str]
Key = tuple[str, str]
"""(instance, objective)"""


class Prometheus:
    """The HTTP API of one server."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Invalid(PROMETHEUS_URL_INVALID) unless it is an address of HTTP."""
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        if not re.match(r"https?://[^/]", url):
            raise Invalid(
                "PROMETHEUS_URL_INVALID", f"{url!r} is no URL", hint="write it like http://127.0.0.1:9090", field="url"
            )

    def query(self, expression: str) -> list[tuple[Labels, float]]:
        """The value of each series of an expression now. Unavailable(PROMETHEUS_FAILED) if there is no answer."""
        data = self._get("query", query=expression)
        return [(one["metric"], float(one["value"][1])) for one in data["result"]]

    def retention(self) -> str:
        """How long it keeps data, as it says so itself, such as "15d"; "" if it does not."""
        try:
            return str(self._get("status/runtimeinfo").get("storageRetention", ""))
        except Unavailable:  # not every service that speaks this API has it
            return ""

    def _get(self, what: str, **parameters: str) -> Any:
        address = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=self._timeout_s) as reply:  # noqa: S310  # checked above
                answer = json.loads(reply.read(ANSWER_BYTES_MAX))
            return answer["data"]
        except urllib.error.HTTPError as error:
            problem = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        except (ValueError, KeyError, TypeError):
            problem = "its answer is not that of a Prometheus"
        raise Unavailable(
            "PROMETHEUS_FAILED",
            f"{self.url} gave no answer: {problem}",
            hint="give the address of the Prometheus that scrapes trackd with --prometheus",
        )


@dataclass(frozen=True, slots=True)
class Budget:
    """One objective of one daemon."""

    instance: str
    objective: str
    target: float
    threshold_seconds: float | None
    window_seconds: float
    requests: float
    """In the window, as far as Prometheus has it; extrapolated, so not whole."""
    bad: float
    remaining: float
    """Share of the budget that is left; 1 if nothing was asked, below 0 if the objective is missed."""
    burn_1h: float | None
    """How many times as fast as it may the budget burned in the last hour; None without requests."""
    firing: tuple[str, ...]
    """Alerts about it that fire."""


@dataclass(frozen=True, slots=True)
class Found:
    """What Prometheus knows."""

    budgets: Sequence[Budget]
    retention: str

    def as_json(self) -> list[dict[str, Any]]:
        """The budgets as JSON has them."""
        return [asdict(budget) for budget in self.budgets]

    @property
    def windows_cut(self) -> list[float]:
        """Windows, in seconds, that are longer than Prometheus keeps data."""
        kept_s = seconds_of(self.retention)
        return sorted({one.window_seconds for one in self.budgets if one.window_seconds > kept_s})


def look_up(prometheus: Prometheus) -> Found:
    """All budgets, by daemon and objective. Unavailable if Prometheus does not answer or knows no objective."""
    targets = _by_key(prometheus.query("trackd_objective_target_ratio"))
    if not targets:
        raise Unavailable(
            "PROMETHEUS_FAILED",
            f"{prometheus.url} knows no objective of a trackd",
            hint="it must scrape the daemon (deploy/prometheus/prometheus.yml), and the daemon must have objectives",
        )
    thresholds = _by_key(prometheus.query("trackd_objective_threshold_seconds"))
    windows = _by_key(prometheus.query("trackd_objective_window_seconds"))
    requests: dict[Key, float] = {}
    bad: dict[Key, float] = {}
    for window in set(windows.values()):
        asked, good = (f"increase({name}[{window:.0f}s])" for name in (REQUESTS, GOOD))
        mine = {key for key, its in windows.items() if its == window}
        requests |= _by_key(prometheus.query(asked), mine)
        bad |= _by_key(prometheus.query(f"{asked} - {good}"), mine)
    share_1h = _by_key(
        prometheus.query(f"(rate({REQUESTS}[1h]) - rate({GOOD}[1h])) / (rate({REQUESTS}[1h]) > 0)"),
    )
    firing: dict[Key, list[str]] = {}
    for labels, _one in prometheus.query(f'ALERTS{{alertname=~"{FAST}|{SLOW}|{EXHAUSTED}",alertstate="firing"}}'):
        said = " ".join(filter(None, [labels["alertname"], labels.get("burn", "") and f"({labels['burn']}x)"]))
        firing.setdefault(_key(labels), []).append(said)
    budgets = []
    for key, target in sorted(targets.items()):
        share = bad.get(key, 0.0) / requests[key] if requests.get(key) else 0.0
        allowed = 1 - target
        budgets.append(
            Budget(
                *key,
                target=target,
                threshold_seconds=thresholds.get(key),
                window_seconds=windows.get(key, 30 * DAY_S),
                requests=requests.get(key, 0.0),
                bad=bad.get(key, 0.0),
                remaining=1 - share / allowed,
                burn_1h=share_1h[key] / allowed if key in share_1h else None,
                firing=tuple(sorted(firing.get(key, []))),
            )
        )
    return Found(budgets, prometheus.retention())


def seconds_of(duration: str) -> float:
    """A duration as Prometheus writes it ("15d", "1h30m"), in seconds; without end if there is none in the text."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": DAY_S, "w": 7 * DAY_S, "y": 365 * DAY_S}
    parts = re.findall(r"(\d+)(ms|[smhdwy])", duration.partition(" ")[0])
    return sum(int(number) * units[unit] for number, unit in parts) if parts else math.inf


def _by_key(found: Iterable[tuple[Labels, float]], wanted: Container[Key] | None = None) -> dict[Key, float]:
    keyed = ((_key(labels), value) for labels, value in found if not math.isnan(value))
    return {key: value for key, value in keyed if wanted is None or key in wanted}


def _key(labels: Labels) -> Key:
    return labels.get("instance", ""), labels.get("objective", "")
