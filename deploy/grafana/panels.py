"""What a Grafana dashboard is made of, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

WIDTH = 24
"""Columns of a dashboard."""
HEIGHT = 8
"""Rows of a panel."""
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
ME = 'instance=~"$instance"'
RATE = "[$__rate_interval]"
SCHEMA_VERSION = 39
"""Of Grafana 11, the oldest that is cared for."""


@dataclass(frozen=True)
class Panel:
    """One panel: series as (PromQL, name)."""

    title: str
    unit: str
    series: Sequence[tuple[str, str]]
    about: str = ""
    """What an operator should see in it."""
    kind: str = "timeseries"
    width: int = 8
    stack: bool = False
    limits: tuple[float, float] | None = None
    """Yellow below the second, red below the first."""


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Dashboard:
    """One file."""

    name: str
    title: str
    rows: Sequence[Row]


def rate(metric: str, by: str = "", where: str = "") -> str:
    """Per second, added up over everything but `by`."""
    inner = f"rate({metric}{{{', '.join(filter(None, [ME, where]))}}}{RATE})"
    return f"sum by ({by}) ({inner})" if by else f"sum({inner})"


def quantiles(metric: str, by: str = "", where: str = "") -> list[tuple[str, str]]:
    """Median and 99th percentile of a histogram."""
    group = f"le, {by}" if by else "le"
    name = f" {{{{{by}}}}}" if by else ""
    buckets = rate(f"{metric}_bucket", group, where)
    return [
        (f"histogram_quantile({share}, {buckets})", f"{words}{name}") for share, words in ((0.5, "p50"), (0.99, "p99"))
    ]


def gauge(metric: str, name: str) -> tuple[str, str]:
    """The largest of the daemons that are shown."""
    return f"max({metric}{{{ME}}})", name


def bounded(metric: str, name: str, ending: str = "max") -> list[tuple[str, str]]:
    """A gauge and its limit."""
    return [gauge(metric, name), gauge(f"{metric}_{ending}", "limit")]


def build(dashboard: Dashboard) -> dict[str, Any]:
    """A dashboard as Grafana imports it."""
    numbers = count(1)
    panels: list[dict[str, Any]] = []
    top = 0
    for row in dashboard.rows:
        place = {"h": 1, "w": WIDTH, "x": 0, "y": top}
        panels.append(
            {"id": next(numbers), "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}
        )
        top += 1
        left = 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                left, top = 0, top + HEIGHT
            panels.append(_panel(panel, next(numbers), left, top))
            left += panel.width
        top += HEIGHT
    return {
        "uid": f"trackd-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["trackd"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_datasource(), _instance()]},
        "links": [
            {
                "type": "dashboards",
                "title": "trackd",
                "tags": ["trackd"],
                "asDropdown": True,
                "keepTime": True,
                "includeVars": True,
            }
        ],
        "panels": panels,
    }


def _panel(panel: Panel, number: int, left: int, top: int) -> dict[str, Any]:
    at_once = panel.kind in ("table", "stat", "bargauge")
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.kind == "timeseries":
        defaults["min"] = 0
        defaults["custom"] = {"fillOpacity": 10, "stacking": {"mode": "normal" if panel.stack else "none"}}
    if panel.limits:
        red, yellow = panel.limits
        steps: list[dict[str, Any]] = [
            {"color": "red", "value": None},
            {"color": "yellow", "value": red},
            {"color": "green", "value": yellow},
        ]
        defaults |= {"min": 0, "max": 1, "thresholds": {"mode": "absolute", "steps": steps}}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "gridPos": {"h": HEIGHT, "w": panel.width, "x": left, "y": top},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel.kind),
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": DATASOURCE,
                "expr": expression,
                "legendFormat": name,
                "instant": at_once,
                "range": not at_once,
                "format": "table" if panel.kind == "table" else "heatmap" if panel.kind == "heatmap" else "time_series",
            }
            for place, (expression, name) in enumerate(panel.series)
        ],
    }


def _options(kind: str) -> dict[str, Any]:
    if kind == "timeseries":
        return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    if kind == "bargauge":
        return {"orientation": "horizontal", "displayMode": "basic", "reduceOptions": {"calcs": ["lastNotNull"]}}
    if kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "value_and_name"}
    return {}


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _instance() -> dict[str, Any]:
    query = "label_values(trackd_build_info, instance)"
    return {
        "name": "instance",
        "label": "Daemon",
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "instance"},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def text(dashboard: Dashboard) -> str:
    """The content of its file."""
    return json.dumps(build(dashboard), indent=1, ensure_ascii=False) + "\n"
