"""Series as lines in the terminal: eight dots a character (the braille patterns U+2800 to U+28FF)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.text import Text

COLORS = ("cyan", "magenta", "yellow", "green", "red", "blue")
"""One a line; no more lines than these can be told apart."""
HEIGHT = 12
LARGEST = 1e300
"""Beyond it steps of a scale would not be doubles any more."""

_BLANK = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""By row and column within a character (unicode.org/charts/PDF/U2800.pdf)."""
_CELL_WIDTH, _CELL_HEIGHT = 2, 4


class _Canvas:
    """Dots with a color for each character: that of the last line through it."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.dots_wide, self.dots_high = width * _CELL_WIDTH, height * _CELL_HEIGHT
        self._cells = [[0] * width for _ in range(height)]
        self._colors = [[""] * width for _ in range(height)]

    def dot(self, x: int, y: int, color: str) -> None:
        """Sets one dot; y counts from below."""
        row, column = (self.dots_high - 1 - y) // _CELL_HEIGHT, x // _CELL_WIDTH
        self._cells[row][column] |= _DOTS[(self.dots_high - 1 - y) % _CELL_HEIGHT][x % _CELL_WIDTH]
        self._colors[row][column] = color

    def line(self, start: tuple[int, int], end: tuple[int, int], color: str) -> None:
        """All dots between two."""
        (x, y), (x_end, y_end) = start, end
        steps = max(abs(x_end - x), abs(y_end - y), 1)
        for step in range(steps + 1):
            self.dot(round(x + (x_end - x) * step / steps), round(y + (y_end - y) * step / steps), color)

    def row(self, number: int) -> Text:
        """One row of characters."""
        text = Text(no_wrap=True)
        for cell, color in zip(self._cells[number], self._colors[number], strict=True):
            text.append(chr(_BLANK + cell) if cell else " ", style=color)
        return text


def line_chart(
    title: str, times: Sequence[str], series: Mapping[str, Sequence[float | None]], *, width: int, height: int = HEIGHT
) -> list[Text]:
    """The lines of a chart: a value of each series for each of `times`; None leaves a gap.

    The scale begins at 0, or below the smallest value if that is negative.
    """
    drawn = [[_drawable(value) for value in column] for column in series.values()]
    values = [value for column in drawn for value in column if value is not None]
    low, high = _scale(min(values, default=0.0), max(values, default=0.0))
    labels = {height - 1: show_number(low), height // 2: show_number((low + high) / 2), 0: show_number(high)}
    margin = max(map(len, labels.values()))
    canvas = _Canvas(max(width - margin - 2, 10), height)
    for color, column in zip(COLORS, drawn, strict=False):
        _draw(canvas, column, low, high, color)
    lines = [Text(title, style="bold"), *_legend(list(series), width)]
    for number in range(height):
        axis = Text(f"{labels.get(number, ''):>{margin}} ", style="dim")
        axis.append("┤" if number in labels else "│")
        lines.append(axis + canvas.row(number))
    below = " " * (margin + 1) + "└" + "─" * canvas.width
    lines += [Text(below, style="dim"), Text(" " * (margin + 2) + _ticks(times, canvas.width), style="dim")]
    return lines


def _drawable(value: float | None) -> float | None:
    """Without what is no number, and what is too large or small to make a scale of it."""
    if value is None or not abs(value) < LARGEST:
        return None
    return 0.0 if abs(value) < 1 / LARGEST else value


def _scale(low: float, high: float) -> tuple[float, float]:
    """From 0 or a round number below all to a round number above all."""
    if low == high == 0:
        return 0.0, 1.0
    step = 10.0 ** math.floor(math.log10(max(abs(low), abs(high))))
    for part in (0.1, 0.2, 0.5, 1.0, 2.0):
        if max(abs(low), abs(high)) / (step * part) <= 20:
            step *= part
            break
    lower = min(0.0, math.floor(low / step) * step)
    return lower, max(math.ceil(high / step) * step, lower + step)


def _draw(canvas: _Canvas, column: Sequence[float | None], low: float, high: float, color: str) -> None:
    before: tuple[int, int] | None = None
    for place, value in enumerate(column):
        if value is None:
            before = None
            continue
        x = round(place * (canvas.dots_wide - 1) / max(len(column) - 1, 1))
        here = x, round((value - low) * (canvas.dots_high - 1) / (high - low))
        canvas.line(before or here, here, color)
        before = here


def _legend(names: Sequence[str], width: int) -> list[Text]:
    """The names with the colors of their lines, as many beside each other as fit; a single line needs none."""
    if len(names) < 2:
        return []
    lines = [Text()]
    for name, color in zip(names, COLORS, strict=False):
        entry = Text.assemble(("━━ ", color), f"{name}   ")
        if lines[-1] and len(lines[-1]) + len(entry) > width:
            lines.append(Text())
        lines[-1].append_text(entry)
    return lines


def _ticks(times: Sequence[str], width: int) -> str:
    """As many times as fit below the axis, each where its values are."""
    if not times:
        return ""
    widest = max(map(len, times))
    # The texts at both ends stand beside their places and not below them.
    count = max(min(len(times), 1 + 2 * (width - 1) // (3 * widest + 4)), 1)
    line = [" "] * width
    for tick in range(count):
        place = round(tick * (len(times) - 1) / max(count - 1, 1))
        text = times[place]
        at = round(place * (width - 1) / max(len(times) - 1, 1))
        begin = max(0, min(at - len(text) // 2, width - len(text)))
        line[begin : begin + len(text)] = text
    return "".join(line).rstrip()


def show_number(value: float) -> str:
    """A number in few characters."""
    if isinstance(value, int) or (math.isfinite(value) and value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:,.2f}" if 0.01 <= abs(value) < 1e12 else f"{value:.3g}"
