"""The counters of objectives: what was asked, and what of it was good.

Budgets are the business of rules: a budget of 30 days inside a process would end with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.objectives import Objective

LABELS = ("objective",)
GOOD = "trackd_objective_good"
REQUESTS = "trackd_objective_requests"
TARGET = "trackd_objective_target_ratio"
THRESHOLD = "trackd_objective_threshold_seconds"
WINDOW = "trackd_objective_window_seconds"


class Tally:
    """Counts for one objective; written by the event loop's thread alone."""

    __slots__ = ("_threshold_s", "counts", "objective")

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self._threshold_s = objective.threshold_seconds
        self.counts = (0, 0)
        """(good, requests), replaced as a whole: a scrape between the two would see a bad request that was none."""

    def answered(self, seconds: float) -> None:
        """One more, good if it was fast enough."""
        good, requests = self.counts
        self.counts = (good + (seconds <= self._threshold_s), requests + 1)

    def owed(self) -> None:
        """One more that was bad."""
        good, requests = self.counts
        self.counts = (good, requests + 1)

    def abandoned(self, seconds: float) -> None:
        """One that nobody waited for: bad if it was too late by then, otherwise nobody knows and it does not count."""
        if seconds > self._threshold_s:
            self.owed()


class TallyCollector(Collector):
    """Shows the tallies and what was promised."""

    def __init__(self, tallies: Sequence[Tally]) -> None:
        self._tallies = tallies

    def describe(self) -> Iterator[Metric]:
        """The names alone."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        good = CounterMetricFamily(GOOD, "Requests that kept an objective.", labels=LABELS)
        requests = CounterMetricFamily(
            REQUESTS, "Requests that an objective is about; a client's own faults are none.", labels=LABELS
        )
        target = GaugeMetricFamily(TARGET, "The share of requests that an objective wants to be good.", labels=LABELS)
        text = "Seconds within which an answer is good, where an objective is about time."
        threshold = GaugeMetricFamily(THRESHOLD, text, labels=LABELS)
        window = GaugeMetricFamily(WINDOW, "Seconds over which an objective holds.", labels=LABELS)
        for tally in self._tallies:
            objective = tally.objective
            name = (objective.name,)
            now_good, now_requests = tally.counts
            good.add_metric(name, now_good)
            requests.add_metric(name, now_requests)
            target.add_metric(name, objective.target)
            window.add_metric(name, objective.window_seconds)
            if objective.threshold_ms is not None:
                threshold.add_metric(name, objective.threshold_seconds)
        yield from (good, requests, target, threshold, window)
