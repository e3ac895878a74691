"""Some thousand events that are hard to count: around changes of clocks, in bursts, tied, late, with odd metadata."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from retention.month import Month
from server.question import Field
from tests.support.answers import SESSION, SOURCE, TAG, TYPE, USER, instant, metadata
from tests.support.events import Sent, make_id
from tests.support.questions import Vocabulary

CLOCK_CHANGES = {
    "Europe/Berlin": ("2025-03-30T01:00Z", "2025-10-26T01:00Z"),
    "America/New_York": ("2025-03-09T07:00Z", "2025-11-02T06:00Z"),
    "Asia/Kolkata": ("2025-10-31T18:30Z",),
    "Asia/Kathmandu": ("2025-10-31T18:15Z",),
    "Australia/Lord_Howe": ("2025-04-05T15:00Z", "2025-10-04T15:30Z"),
    "Pacific/Chatham": ("2025-04-05T14:00Z", "2025-09-27T14:00Z"),
    "Antarctica/Troll": ("2025-03-30T01:00Z", "2025-10-26T01:00Z"),
    "Africa/Casablanca": ("2025-04-06T02:00Z",),
    "America/Havana": ("2025-03-09T05:00Z", "2025-11-02T05:00Z"),
    "America/Santiago": ("2025-04-06T03:00Z", "2025-09-07T04:00Z"),
    "Asia/Beirut": ("2025-03-29T22:00Z", "2025-10-25T21:00Z"),
    "Africa/Cairo": ("2025-04-24T22:00Z", "2025-10-30T21:00Z"),
    "America/St_Johns": ("2010-03-14T03:31Z", "2010-11-07T02:31Z"),
    "Pacific/Apia": ("2011-12-30T10:00Z",),
    "UTC": ("2025-10-01T00:00Z",),
}
"""Instants at which clocks change, midnight among them; where they never do, midnight between two months."""

MONTHS = ("2010-03", "2010-11", "2011-12", "2025-03", "2025-04", "2025-09", "2025-10", "2025-11")
TYPES = ("pr_opened", "pr_merged", "pr", "review", "review/x", "Review", "deploy", "a.b")
SOURCES = ("web", "ci", "ci/x", "mail")
SESSIONS = ("", "s-1", "s-2", "S-1")
TAGS = ("auth", "auth/x", "Auth", "ui", "%", "_", "été", "😀")
USERS = (
    "",
    "ann",
    "Ann",
    "annabel",
    "李雷",
    "李",
    "\uffee",
    "😀",
    "%",
    "o'hara",
    *(f"u{number}" for number in range(90)),
)
EXACT = ("quarters", "count")
ROUNDED = ("price", "mixed", "plain", "missing")
PLAIN = (
    "",
    "red",
    "Red",
    "reddish",
    "rouge 🟥",
    "1",
    "1.5",
    "true",
    "null",
    "o'red",
    're"d',
    "re\\d",
    "line\nbreak",
    "%",
)
ODD_KEYS = ("a.b", 'q"uote', "it's", "ключ", "", "$.plain")


class Member(NamedTuple):
    """One key of a metadata object, and what it means: known here because it was made here."""

    key: str
    json: str
    text: str | None
    """As a dimension sees it."""
    number: float | None = None
    """As a metric sees it."""


@dataclass(frozen=True)
class Made:
    """An event, its source, and what its metadata means: each key once."""

    sent: Sent
    source: str
    members: Sequence[Member]


def make_events(chance: random.Random, size: int) -> list[Made]:
    """Events in no order of time, each with its own id."""
    changes = [instant(text) for texts in CLOCK_CHANGES.values() for text in texts]
    bursts = [chance.choice(changes) + chance.randrange(-8, 8) * 900_000 for _ in range(6)]
    ties = [chance.choice(changes) + chance.choice((0, 1, -1, 900_000)) for _ in range(6)]
    return [_made(chance, number + 1, _time(chance, changes, bursts, ties)) for number in range(size)]


def told_anew(chance: random.Random, made: Made) -> Made:
    """Another event of the same identity: id and time."""
    again = _made(chance, 1, made.sent.timestamp_ms)
    return replace(again, sent=replace(again.sent, id=made.sent.id))


def vocabulary(events: Sequence[Made]) -> Vocabulary:
    """What can be asked about these events."""
    members = [member for made in events for member in made.members]
    values: dict[Field, Sequence[str]] = {
        TYPE: TYPES,
        SOURCE: SOURCES,
        USER: USERS[:20],
        SESSION: SESSIONS,
        TAG: TAGS,
    }
    for key in (*EXACT, *ROUNDED, *ODD_KEYS):
        # In the order of their first appearance: sets of texts have another in each process.
        known = dict.fromkeys(member.text for member in members if member.key == key and member.text is not None)
        values[metadata(key)] = [*known][:40] or ["nothing"]
    changes = [instant(text) for texts in CLOCK_CHANGES.values() for text in texts]
    edges = [Month.parse(month).start_ms for month in (*MONTHS, "2000-01", "2025-01", "2026-02")]
    times = [made.sent.timestamp_ms for made in events[:60]]
    return Vocabulary(values, EXACT, ROUNDED, [*changes, *edges, *times], list(CLOCK_CHANGES))


def _time(chance: random.Random, changes: Sequence[int], bursts: Sequence[int], ties: Sequence[int]) -> int:
    kind = chance.random()
    if kind < 0.3:
        return chance.choice(changes) + chance.randrange(-100, 100) * 900_000 + chance.choice((0, 1, -1, 450_000))
    if kind < 0.5:
        return chance.choice(bursts) + chance.randrange(3_600_000)
    if kind < 0.6:
        return chance.choice(ties)
    month = Month.parse(chance.choice(MONTHS))
    return chance.choice((month.start_ms, month.end_ms - 1, *[chance.randrange(*_span(month)) for _ in range(20)]))


def _span(month: Month) -> tuple[int, int]:
    return month.start_ms, month.end_ms


def _made(chance: random.Random, number: int, timestamp_ms: int) -> Made:
    members = _members(chance)
    sent = Sent(
        id=make_id(number),
        timestamp_ms=timestamp_ms,
        type=TYPES[min(int(chance.expovariate(0.5)), len(TYPES) - 1)],
        user_id=USERS[min(int(chance.expovariate(0.06)), len(USERS) - 1)],
        session_id=chance.choice(SESSIONS),
        tags=tuple(chance.sample(TAGS, chance.choice((0, 0, 1, 1, 2, 5)))),
        metadata=_object(chance, members),
    )
    return Made(sent, chance.choice(SOURCES), members)


def _members(chance: random.Random) -> list[Member]:
    """Each key at most once; often none."""
    members = []
    if chance.random() < 0.6:
        members.append(_quarters(chance))
    if chance.random() < 0.5:
        number = chance.choice((0, 1, 2, 3, chance.randrange(1_000)))
        members.append(Member("count", str(number), str(number), float(number)))
    if chance.random() < 0.5:
        text = f"{chance.randrange(1, 10_000) / 100:.{chance.choice((2, 3, 6))}f}"
        members.append(Member("price", text, text, float(text)))
    if chance.random() < 0.5:
        members.append(_text(chance, "plain", chance.choice(PLAIN)))
    if chance.random() < 0.5:
        members.append(_mixed(chance))
    members += [_text(chance, key, chance.choice("xyz")) for key in ODD_KEYS if chance.random() < 0.2]
    chance.shuffle(members)
    return members


def _quarters(chance: random.Random) -> Member:
    """A multiple of 1/4, told in one of several ways."""
    number = chance.randrange(-2_000, 2_000) / 4
    text = chance.choice(
        (f"{number}", f"{number:.2f}", f"{number * 100:.0f}e-2", f"{number:.3E}" if number < 10 else f"{number}")
    )
    return Member("quarters", text, text, float(text))


def _mixed(chance: random.Random) -> Member:
    """A value of any kind."""
    members = [
        Member("mixed", "true", "true"),
        Member("mixed", "false", "false"),
        Member("mixed", "null", None),
        Member("mixed", '{"mixed": 7, "plain": "red"}', None),
        Member("mixed", "[7]", None),
        Member("mixed", '"7"', "7"),
        Member("mixed", "7", "7", 7.0),
        Member("mixed", "7.0", "7.0", 7.0),
        Member("mixed", "0.7e1", "0.7e1", 7.0),
        Member("mixed", "12345678901234567890", "12345678901234567890", 12345678901234567890.0),
        Member("mixed", "1e999", "1e999"),
        _text(chance, "mixed", "true"),
        _text(chance, "mixed", ""),
    ]
    return chance.choice(members)


def _text(chance: random.Random, key: str, text: str) -> Member:
    return Member(key, json.dumps(text, ensure_ascii=chance.random() < 0.5), text)


def _object(chance: random.Random, members: Sequence[Member]) -> str:
    """The members as JSON, spaced and escaped at random; now and then a key once more behind them, which is nothing."""
    if not members:
        return chance.choice(("", "", "{}", " { } "))
    told = [*members]
    if chance.random() < 0.1:
        told.append(Member(chance.choice(members).key, chance.choice(('"red"', "7", "null")), None))
    colon, comma = chance.choice((":", ": ", " :\t")), chance.choice((",", ", ", "\n,"))
    keys = [json.dumps(member.key, ensure_ascii=chance.random() < 0.5) for member in told]
    return "{" + comma.join(key + colon + member.json for key, member in zip(keys, told, strict=True)) + "}"
