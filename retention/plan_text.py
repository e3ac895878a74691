"""A plan as a person reads it: lines with a style each. Colours are the terminal's business."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from retention.guards import CLOCK, IMPORT, moment
from retention.month import Month
from retention.numbers import NUMBERS
from retention.period import DAY_MS
from retention.plan import DESTRUCTIVE, Action, Because, Kind, Plan, Withheld

_SIGNS = {Kind.DROP: "-", Kind.DESTROY_ARCHIVE: "-", Kind.EXPIRE: "-", Kind.ANONYMIZE: "~"}
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_KIB = 1024


class Style(StrEnum):
    """What a line is, so that a terminal can colour it."""

    HEADING = "heading"
    ADDS = "adds"
    CHANGES = "changes"
    DESTROYS = "destroys"
    DETAIL = "detail"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Line:
    """One line, without its end."""

    text: str
    style: Style = Style.DETAIL


def plan_lines(plan: Plan, *, every_month: bool = False) -> list[Line]:
    """The whole plan. Months that the same happens to are one entry, unless each shall have its own."""
    lines = [
        Line(f"Plan {plan.id[:12]} at {moment(plan.now_ms)} UTC, policy {plan.policy[:12]}", Style.HEADING),
    ]
    for group in _groups(plan.actions, every_month=every_month):
        lines += ["", *_entry(group, plan.now_ms)]  # type: ignore[list-item]
    lines = [Line("") if isinstance(line, str) else line for line in lines]
    lines += _section("Not done, although it is due:", _withheld_lines(plan.withheld))
    lines += _section("Stopped:", (Line(f"  {text}", Style.WARNING) for text in _guard_texts(plan)))
    lines += _section("Overdue:", (Line(f"  {text}", Style.WARNING) for text in _overdue_texts(plan)))
    lines += _section(
        "Reported numbers (totals by type and month stay as they are):",
        (Line(f"  {NUMBERS[name]}") for name in _changed(plan)),
    )
    if plan.without_policy:
        names = ", ".join(plan.without_policy)
        lines += _section("Without a class:", [Line(f"  {names}: nothing ever happens to them", Style.WARNING)])
    return [*lines, Line(""), Line(summary(plan), Style.HEADING)]


def summary(plan: Plan) -> str:
    """What it comes to, in one line."""
    if not plan.actions:
        rows = sum(one.rows for one in plan.withheld)
        return f"Nothing to do; {rows:,} events are due and withheld." if rows else "Nothing to do."
    parts = []
    for kind in Kind:
        ones = [one for one in plan.actions if one.kind is kind]
        if ones:
            months = len({one.month for one in ones})
            size = "" if kind is Kind.FREEZE else f" ({_events(sum(one.rows for one in ones))})"
            parts.append(f"{_counted(months, 'month')} to {kind.replace('_', ' ')}{size}")
    blocked = sum(bool(one.blocked) for one in plan.actions)
    stopped = f" {blocked:,} of {len(plan.actions):,} actions are stopped." if blocked else ""
    return f"{', '.join(parts)}.{stopped}"


def _groups(actions: Iterable[Action], *, every_month: bool) -> list[list[Action]]:
    """Actions that differ in their month only, in the order of their first month."""
    groups: dict[object, list[Action]] = {}
    for one in actions:
        copy = one.copy if every_month else bool(one.copy)
        same = (one.kind, one.class_name, one.rule, one.profile, one.claim, one.target, copy, one.blocked)
        groups.setdefault((same, one.month if every_month else None), []).append(one)
    return list(groups.values())


def _entry(group: list[Action], now_ms: int) -> Iterator[Line]:
    first, rows = group[0], sum(one.rows for one in group)
    sign = _SIGNS.get(first.kind, "+")
    style = {"-": Style.DESTROYS, "~": Style.CHANGES}.get(sign, Style.ADDS)
    what = first.kind.replace("_", " ")
    name = f" {first.class_name}" if first.class_name else ""
    size = f"{_events(rows)}, {_bytes(sum(one.bytes for one in group))}"
    stopped = f"  [stopped: {', '.join(first.blocked)}]" if first.blocked else ""
    yield Line(f"{sign} {what}{name}: {_months(one.month for one in group)}, {size}{stopped}", style)
    dues = sorted(one.due_ms for one in group)
    since = f"due {_day(dues[0])}" if len(set(dues)) == 1 else f"due {_day(dues[0])} to {_day(dues[-1])}"
    yield Line(f"    {first.rule}; {since}, the oldest month is {_age(group, now_ms)} old")
    if first.claim:
        yield Line(f'    afterwards "{first.claim}"')
    if first.target:
        yield Line(f"    archive {first.target}{': ' + first.copy if len(group) == 1 and first.copy else ''}")
    held = sum(one.held.rows for one in group)
    if held:
        codes = sorted({code for one in group for code, _ in one.held.by})
        yield Line(f"    leaves {_events(held)} alone, held by {', '.join(codes)}", Style.WARNING)
    if any(one.two_person for one in group):
        yield Line("    needs a second person")
    whole = sum(one.ends_month for one in group)
    if whole:
        months = "the month is" if whole == 1 else f"{whole:,} months are"
        yield Line(f"    with it {months} gone as a whole")


def _section(title: str, lines: Iterable[Line]) -> list[Line]:
    found = list(lines)
    return [Line(""), Line(title, Style.HEADING), *found] if found else []


def _withheld_lines(withheld: Iterable[Withheld]) -> Iterator[Line]:
    groups: dict[tuple[str, str, str, tuple[str, ...]], list[Withheld]] = {}
    for one in withheld:
        codes = tuple(code for code, _ in one.by)
        groups.setdefault((one.kind, one.class_name, one.because, codes), []).append(one)
    for (kind, name, because, codes), ones in groups.items():
        size = _events(sum(one.rows for one in ones))
        why = f"held by {', '.join(codes)}" if because is Because.HOLD else "keep_at_least, and no complete archive"
        months = _months(one.month for one in ones)
        yield Line(f"  {kind.replace('_', ' ')} {name}: {months}, {size}: {why}", Style.WARNING)


def _guard_texts(plan: Plan) -> Iterator[str]:
    for one in plan.guards:
        waiting = "nothing is done" if one.name == CLOCK else "nothing is destroyed"
        end = "accepted" if one.accepted else f"{waiting} until an operator accepts it"
        yield f"{one.name}: {one.problem}; {end}"
    if any(IMPORT in one.blocked for one in plan.actions):
        yield "import: a history is being imported; its months are sealed when that is done"


def _overdue_texts(plan: Plan) -> Iterator[str]:
    for one in plan.overdue:
        if one.class_name:
            where = ", ".join(one.where)
            size = f"{_events(one.rows)}, {_counted(one.months, 'month')}"
            yield f"{one.class_name}: {size} ({where}), since {_day(one.since_ms)}"
        else:
            yield f"the oldest backup is older than backups.max_age, since {_day(one.since_ms)}"


def _changed(plan: Plan) -> list[str]:
    changed = {name for one in plan.actions for name in one.numbers if one.kind in DESTRUCTIVE}
    return [name for name in NUMBERS if name in changed]


def _months(months: Iterable[Month]) -> str:
    """`2004-11`, `2004-11 to 2005-03 (5 months)`, `... (4 months, with gaps)`."""
    found = sorted(set(months))
    if len(found) == 1:
        return str(found[0])
    span = (found[-1].year - found[0].year) * 12 + found[-1].month - found[0].month + 1
    gaps = ", with gaps" if len(found) < span else ""
    return f"{found[0]} to {found[-1]} ({len(found):,} months{gaps})"


def _age(group: list[Action], now_ms: int) -> str:
    """Since the end of the oldest month, in whole months, or days below two."""
    oldest, now = min(one.month for one in group), Month.of(now_ms)
    months = (now.year - oldest.year) * 12 + now.month - oldest.month - 1
    if months >= 24:
        years, rest = divmod(months, 12)
        return f"{years} years" + (f" {_counted(rest, 'month')}" if rest else "")
    return f"{months} months" if months >= 2 else _counted((now_ms - oldest.end_ms) // DAY_MS, "day")


def _day(time_ms: int) -> str:
    return moment(time_ms)[:10]


def _events(rows: int) -> str:
    return _counted(rows, "event")


def _counted(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count:,} {what}s"


def _bytes(size: int) -> str:
    amount, unit = float(size), 0
    while amount >= _KIB and unit < len(_UNITS) - 1:
        amount, unit = amount / _KIB, unit + 1
    return f"{size:,} bytes" if unit == 0 else f"{amount:,.1f} {_UNITS[unit]}"
