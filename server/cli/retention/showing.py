"""Plans, receipts, times and tables of retention, as terminals show them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import trackd
from rich.table import Table
from rich.text import Text

from retention.plan import Plan
from retention.plan_text import Style, plan_lines
from server.cli.lines import show_number
from server.cli.terminal import harmless, out, say

STYLES = {
    Style.HEADING: "bold",
    Style.ADDS: "green",
    Style.CHANGES: "yellow",
    Style.DESTROYS: "bold red",
    Style.DETAIL: "",
    Style.WARNING: "magenta",
}
STATES = {
    "open": "green", "sealed": "cyan", "anonymized": "yellow", "archived": "blue", "dropped": "red", "closed": "dim",
}  # fmt: skip
NUMBERS = frozenset({"#", "events", "rows", "size", "held", "generation", "months", "job", "month's events"})
"""Columns that stand right."""


def show_plan(plan: Plan, *, every_month: bool = False) -> None:
    """The plan for people, in colours where there are any."""
    for line in plan_lines(plan, every_month=every_month):
        show_line(line.text, STYLES[line.style])
    stopping = [one.name for one in plan.guards if not one.accepted]
    if stopping and plan.actions:
        options = " ".join(f"--accept {name}" for name in stopping)
        say(f"if that is how it should be: trackd retention plan {options}", "dim")


def show_line(text: str, style: str = "") -> None:
    """A line that goes on below its own beginning, not below its sign, where the terminal is too narrow for it."""
    text = harmless(text)
    indent = len(text) - len(text.lstrip(" +-~"))
    if len(text) <= out.width or not out.is_terminal:
        out.print(Text(text, style=style), soft_wrap=True)
        return
    grid = Table.grid(padding=0)
    grid.add_column(width=indent, no_wrap=True)
    grid.add_column()
    grid.add_row(Text(text[:indent], style=style), Text(text[indent:], style=style))
    out.print(grid)


def table(*names: str, long: Iterable[str] = ()) -> Table:
    """An empty table in the style of all others; columns in `long` may be wrapped."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        right = "right" if name in NUMBERS else "left"
        made.add_column(name, justify=right, no_wrap=name not in long, overflow="fold")  # type: ignore[arg-type]
    return made


def day(time_ms: int) -> str:
    """2025-11-24, UTC."""
    return minute(time_ms)[:10]


def minute(time_ms: int) -> str:
    """2025-11-24 18:30, UTC; the number itself where the calendar ends."""
    try:
        return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return str(time_ms)


def counted(number: int, what: str) -> str:
    """1 event, 2,000 events."""
    return f"{show_number(number)} {what}{'' if number == 1 else 's'}"


def state(of: trackd.retention.RetentionClass) -> Text:
    """A class in a month: its name and state."""
    name = of.class_name or "(no class)"
    return Text.assemble(harmless(name), " ", (of.state, STATES.get(of.state, "")))


def joined(parts: Iterable[Text], between: str = ", ") -> Text:
    """Texts one behind the other."""
    return Text(between).join(list(parts))
