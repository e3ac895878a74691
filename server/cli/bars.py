"""Tables of counts with a bar for each row, for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from server.cli.lines import show_number
from server.cli.terminal import harmless


def bar_table(
    names: Sequence[str],
    rows: Iterable[tuple[Sequence[str], float]],
    *,
    measure: str = "events",
    title: str = "",
    color: str = "cyan",
) -> Table:
    """Rows of (values of `names`, number), each with a bar for its share of the largest; they fill the width."""
    listed = list(rows)
    largest = max((count for _, count in listed if math.isfinite(count)), default=0)
    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        title=title or None,
        title_justify="left",
        title_style="bold",
        expand=True,
    )
    for name in names:
        table.add_column(Text(harmless(name)), no_wrap=True, overflow="ellipsis", max_width=40)
    table.add_column(Text(harmless(measure)), justify="right", no_wrap=True)
    table.add_column("", ratio=1, min_width=8)
    for key, count in listed:
        cells = [Text(harmless(value) or "(none)") for value in key]
        table.add_row(*cells, show_number(count), Bar(size=largest or 1, begin=0, end=max(count, 0), color=color))
    return table
