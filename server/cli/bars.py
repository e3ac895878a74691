"""Tables of counts with a bar for each row, for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from server.cli.terminal import harmless


def bar_table(
    names: Sequence[str],
    rows: Iterable[tuple[Sequence[str], int]],
    *,
    title: str = "",
    color: str = "cyan",
) -> Table:
    """Rows of (values of `names`, count), each with a bar for its share of the largest; they fill the width."""
    listed = list(rows)
    largest = max((count for _, count in listed), default=0)
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
        table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=40)
    table.add_column("events", justify="right", no_wrap=True)
    table.add_column("", ratio=1, min_width=8)
    for key, count in listed:
        cells = [Text(harmless(value) or "(none)") for value in key]
        table.add_row(*cells, f"{count:,}", Bar(size=max(largest, 1), begin=0, end=count, color=color))
    return table
