"""Whether a text is a cron expression. When it fires next is the scheduler's business."""

from __future__ import annotations

from retention.faults import Misworded

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, ("", *_MONTHS)),
    ("day of the week", 0, 7, _DAYS),
)


def parse_cron(text: str) -> str:
    """The expression with single spaces. Misworded, with the field at fault, if it is none or never fires.

    Five fields as in crontab(5): minute, hour, day of the month, month, day of the week; lists, ranges, steps, and
    English names of three letters.
    """
    fields = text.lower().split()
    if len(fields) != len(_FIELDS):
        raise Misworded(f"{text!r} has {len(fields)} fields and not 5", 'write "minute hour day month weekday"')
    values = [_values(field, *known) for field, known in zip(fields, _FIELDS, strict=True)]
    days, months = values[2], values[3]
    if fields[4] == "*" and all(min(days) > _LONGEST[month - 1] for month in months):
        raise Misworded(f"{text!r} never fires", f"no month in it has a day {min(days)}")
    return " ".join(fields)


def _values(field: str, name: str, least: int, most: int, words: tuple[str, ...]) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, slash, step_text = part.partition("/")
        step = _number(step_text, name, 1, most, ()) if slash else 1
        if span == "*":
            first, last = least, most
        else:
            begin, dash, end = span.partition("-")
            first = _number(begin, name, least, most, words)
            last = _number(end, name, least, most, words) if dash else most if slash else first
        if first > last:
            raise Misworded(f"{name} {span!r} ends before it begins", "write the smaller one first")
        found.update(range(first, last + 1, step))
    return found


def _number(text: str, name: str, least: int, most: int, words: tuple[str, ...]) -> int:
    if text and text in words:
        return words.index(text)
    if not (text.isascii() and text.isdigit()) or not least <= int(text) <= most:
        raise Misworded(f"{name} {text!r} is none", f"write a number from {least} to {most}")
    return int(text)
