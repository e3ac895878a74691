"""Budgets in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from server.objectives import DAY_S
from server.slo.status import Budget, Found

BAR_WIDTH = 16
WARN_BELOW = 0.25
"""Less than a quarter of a budget is yellow."""


def budget_table(budgets: Sequence[Budget]) -> Table:
    """A row a budget, with a bar for what is left."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("objective", "promise", "window"):
        table.add_column(name, no_wrap=True)
    for name in ("requests", "bad", "left"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("burn 1h", justify="right", no_wrap=True)
    for budget in budgets:
        style = "red" if budget.remaining <= 0 else "yellow" if budget.remaining < WARN_BELOW else "green"
        table.add_row(
            name_of(budget, budgets),
            promise(budget),
            f"{budget.window_seconds / DAY_S:.0f}d",
            f"{budget.requests:,.0f}",
            f"{budget.bad:,.0f}",
            Text(f"{budget.remaining:.1%}" if budget.remaining > -10 else f"{budget.remaining:,.0%}", style=style),
            ProgressBar(
                total=1.0,
                completed=min(max(budget.remaining, 0.0), 1.0),
                width=BAR_WIDTH,
                complete_style=style,
                finished_style=style,
            ),
            "-" if budget.burn_1h is None else f"{budget.burn_1h:.1f}x",
        )
    return table


def name_of(budget: Budget, budgets: Sequence[Budget]) -> str:
    """Its objective, and the daemon where there are several."""
    several = len({one.instance for one in budgets}) > 1
    return f"{budget.objective} @ {budget.instance}" if several else budget.objective


def firing(budgets: Sequence[Budget]) -> Iterator[str]:
    """A line for each budget that alerts fire about; a column for them would be too narrow for their names."""
    for budget in budgets:
        if budget.firing:
            yield f"firing for {name_of(budget, budgets)}: {', '.join(budget.firing)}"


def promise(budget: Budget) -> str:
    """What is promised, in a few words."""
    share = f"{budget.target * 100:.4f}".rstrip("0").rstrip(".")
    return f"{share} % " + ("ok" if budget.threshold_seconds is None else f"in {budget.threshold_seconds * 1000:g} ms")


def notes(found: Found) -> Iterator[str]:
    """What a reader must know to trust the table."""
    for window in found.windows_cut:
        yield (
            f"Prometheus keeps {found.retention}: what is older is missing from windows of {window / DAY_S:.0f}d. "
            f"Start it with --storage.tsdb.retention.time={window / DAY_S:.0f}d or more."
        )
