"""Gauges that read what a test says."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import Any

from server.metrics.gauges import Gauges
from server.model import MonthState

BY_STATE = ("month_rows", "month_bytes")
BY_CLASS = ("retention_last_success", "retention_last_failure", "retention_overdue_seconds")
CLASSES = ("reviews", "sessions")


def make_gauges(**readings: float) -> Gauges:
    """Gauges that read what is given, and 0; those of months for every state, those of retention for two classes."""

    def reading(name: str) -> Any:
        value = float(readings.get(name, 0))
        if name in BY_STATE:
            return partial(dict.fromkeys, list(MonthState), value)
        return partial(dict.fromkeys, CLASSES, value) if name in BY_CLASS else partial(float, value)

    return Gauges(**{field.name: reading(field.name) for field in fields(Gauges)})
