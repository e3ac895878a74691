"""Answers of `trackd query` for people: a table, bars or lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import cast
from zoneinfo import ZoneInfo

import trackd
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from trackd.table import Value

from server.cli.bars import bar_table
from server.cli.lines import COLORS, line_chart, show_number
from server.cli.moments import moment_of
from server.cli.terminal import harmless
from server.question import BucketUnit
from server.time_buckets import buckets

TIME = "time:"
PREVIOUS = "previous:"
POINTS_MAX = 20_000
"""Of a line that buckets without events are put into."""

_FORMS = {
    BucketUnit.QUARTER_HOUR: "%Y-%m-%d %H:%M",
    BucketUnit.HOUR: "%Y-%m-%d %H:%M",
    BucketUnit.DAY: "%Y-%m-%d",
    BucketUnit.WEEK: "%Y-%m-%d",
    BucketUnit.MONTH: "%Y-%m",
}


def time_of(table: trackd.Table) -> str | None:
    """The name of the time column, if there is one."""
    return next((name for name in table.question.dimensions if name.startswith(TIME)), None)


def show_bucket(instant: Value, name: str, zone: ZoneInfo) -> str:
    """A bucket of the column `name` by the clocks of a zone: 2025-11-24, or 2025-11 for a month."""
    if not isinstance(instant, int):
        return ""
    try:
        return moment_of(instant, zone).strftime(_FORMS[BucketUnit(name.removeprefix(TIME))])
    except OverflowError:
        return str(instant)


def show_key(value: Value) -> str:
    """A value of a dimension. Nobody and an empty text look different from no value at all."""
    if value is None:
        return "(none)"
    return harmless(str(value)) or '""'


def as_table(answer: trackd.Table) -> Table:
    """All columns. Beside a metric stand that of the period before and how much it changed, below it the total."""
    zone = ZoneInfo(answer.question.time_zone)
    shown = Table(box=None, pad_edge=False, header_style="bold", show_footer=bool(answer.totals), footer_style="bold")
    cells: list[Sequence[str | Text]] = []
    for place, name in enumerate(answer.question.dimensions):
        shown.add_column(
            Text(harmless(name)), "" if place else "all", overflow="fold", style="cyan" if place == 0 else ""
        )
        column = answer[name]
        cells.append(
            [show_bucket(value, name, zone) for value in column]
            if name.startswith(TIME)
            else [Text(show_key(value)) for value in column]
        )
    for name in answer.question.metrics:
        _add_metric(shown, cells, answer, name, name)
        if f"{PREVIOUS}{name}" in answer.columns:
            _add_metric(shown, cells, answer, f"{PREVIOUS}{name}", "before", style="dim")
            total = _change(answer.totals.get(name), answer.totals.get(f"{PREVIOUS}{name}"))
            shown.add_column("change", total, justify="right", no_wrap=True)
            cells.append(list(map(_change, answer[name], answer[f"{PREVIOUS}{name}"])))
    for row in zip(*cells, strict=True):
        shown.add_row(*row)
    return shown


def _add_metric(
    shown: Table, cells: list[Sequence[str | Text]], answer: trackd.Table, name: str, title: str, style: str = ""
) -> None:
    whole = all(isinstance(value, int | None) for value in (*answer[name], answer.totals.get(name)))
    show = _number if whole else _real
    total = show(answer.totals[name]) if name in answer.totals else ""
    shown.add_column(Text(harmless(title)), total, justify="right", no_wrap=True, style=style)
    cells.append(list(map(show, answer[name])))


def _number(value: Value) -> str:
    return show_number(value) if isinstance(value, int | float) else ""


def _real(value: Value) -> str:
    """With two digits behind the point, so that those of a column stand below each other."""
    if not isinstance(value, int | float):
        return ""
    return f"{value:,.2f}" if value == 0 or 0.01 <= abs(value) < 1e12 else f"{value:.3g}"


def _change(now: Value, before: Value) -> str:
    if not isinstance(now, int | float) or not isinstance(before, int | float) or not before:
        return ""
    change = 100 * (now - before) / abs(before)
    return f"{change:+,.0f} %" if math.isfinite(change) else ""


def as_charts(answer: trackd.Table, width: int) -> Iterator[RenderableType]:
    """A chart for each metric: lines over time, if time is a dimension, or else bars."""
    time = time_of(answer)
    for metric in answer.question.metrics:
        if time is None:
            yield _bars(answer, metric)
        else:
            yield from _lines(answer, metric, time, width)


def _bars(answer: trackd.Table, metric: str) -> Table:
    names = list(answer.question.dimensions)
    keys = zip(*([show_key(value) for value in answer[name]] for name in names), strict=True) if names else [()]
    numbers = [float(value) if isinstance(value, int | float) else math.nan for value in answer[metric]]
    rows = [(key, number) for key, number in zip(keys, numbers, strict=True) if math.isfinite(number)]
    return bar_table(names, rows, measure=metric)


def _lines(answer: trackd.Table, metric: str, time: str, width: int) -> Iterator[Text]:
    """One line for each combination of the other dimensions, those with the largest values first."""
    zone = ZoneInfo(answer.question.time_zone)
    instants = _instants(answer, time, zone)
    places = {instant: place for place, instant in enumerate(instants)}
    others = [name for name in answer.question.dimensions if name != time]
    counted = all(isinstance(value, int | None) for value in answer[metric])
    series: dict[str, list[float | None]] = {}
    columns = [metric]
    if not others and f"{PREVIOUS}{metric}" in answer.columns:
        columns.append(f"{PREVIOUS}{metric}")
    for column in columns:
        for row, (instant, value) in enumerate(zip(answer[time], answer[column], strict=True)):
            name = " ".join(show_key(answer[other][row]) for other in others) or column
            line = series.setdefault(name, [0 if counted else None] * len(instants))
            line[places[cast(int, instant)]] = None if value is None else float(value)
    if others:
        series = dict(sorted(series.items(), key=lambda named: -max(value or 0 for value in named[1])))
    drawn = {harmless(name): series[name] for name in list(series)[: len(COLORS)]}
    times = [show_bucket(instant, time, zone) for instant in instants]
    yield from line_chart(harmless(metric), times, drawn, width=width)
    if len(series) > len(drawn):
        yield Text(f"the {len(drawn)} largest of {len(series)} are drawn", style="dim")


def _instants(answer: trackd.Table, time: str, zone: ZoneInfo) -> Sequence[int]:
    """All buckets from the first to the last, so that a line is flat where nothing happened."""
    known = sorted({value for value in answer[time] if isinstance(value, int)})
    if not known:
        return []
    unit = BucketUnit(time.removeprefix(TIME))
    first, last = known[0], known[-1]
    if (last - first) // 900_000 > POINTS_MAX * {BucketUnit.QUARTER_HOUR: 1, BucketUnit.HOUR: 4}.get(unit, 96):
        return known
    return sorted({*known, *buckets(first, last + 1, unit, zone)})
