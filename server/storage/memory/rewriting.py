"""Rewriting and counting rows, event by event: what the contract says about `rewrite` and `stocks`, and no more."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import SystemRandom

from retention.facts import NOTHING_HELD, RAW, Held, Stock
from retention.hold import Hold, holding
from retention.month import Month
from retention.policy import Claim
from server.model import Event
from server.rewriting import Rewrite
from server.storage.digest import line_of
from server.storage.treatment import Treatments

EVENT_BYTES = 100
"""About so many an event takes."""

Forms = Mapping[int, tuple[str, Claim]]
"""Position -> the profile that its event went through, and what may be claimed of it; those as sent are absent."""


@dataclass(frozen=True, slots=True)
class Made:
    """A month after a rewrite."""

    events: list[Event]
    forms: Forms
    treated: int
    withheld: tuple[tuple[str, int], ...]
    anonymous: bool


def rewrite_rows(month: Month, events: Sequence[Event], forms: Forms, change: Rewrite) -> Made:
    """The month's events, in the order of positions, after the change."""
    kept: list[Event] = []
    mine: list[Event] = []
    withheld: Counter[str] = Counter()
    for event in events:
        form = forms.get(event.position, (RAW, Claim.PSEUDONYMOUS))[0]
        selected = event.type in change.rows.types and form in change.rows.forms
        codes = _codes(month, event, change.holds) if selected and form == RAW else ()
        withheld.update(codes)
        (mine if selected and not codes else kept).append(event)
    result, anonymous = kept, False
    left = {event.position: forms[event.position] for event in kept if event.position in forms}
    if change.profile is not None:
        rules = Treatments(change.profile)
        pairs = _dealt([(event, rules.event(event)) for event in mine], rules)
        anonymous = rules.deals_anew and _claim_holds(pairs, rules)
        claim = Claim.ANONYMOUS if anonymous else Claim.PSEUDONYMOUS
        left |= {made.position: (change.profile.digest, claim) for _before, made in pairs}
        result = sorted([*kept, *(made for _before, made in pairs)], key=lambda event: event.position)
    return Made(result, left, len(mine), tuple(sorted(withheld.items())), anonymous)


def _dealt(pairs: list[tuple[Event, Event]], rules: Treatments) -> list[tuple[Event, Event]]:
    if not rules.deals_anew:
        return pairs
    positions = [event.position for event, _made in pairs]
    SystemRandom().shuffle(positions)
    return [
        (event, replace(made, position=position, id=secrets.token_bytes(16)))
        for (event, made), position in zip(pairs, positions, strict=True)
    ]


def _claim_holds(pairs: Sequence[tuple[Event, Event]], rules: Treatments) -> bool:
    def cell(event: Event) -> bytes:
        return line_of(replace(event, position=0, id=b"", user_id="", session_id=""))

    users: dict[bytes, set[str]] = {}
    for before, made in pairs:
        users.setdefault(cell(made), set()).add(before.user_id)
    if any(len(sharing) < rules.profile.k for sharing in users.values()):
        return False
    for field in ("user_id", "session_id"):
        traces: dict[str, list[bytes]] = {}
        for _before, made in pairs:
            if getattr(made, field):
                traces.setdefault(getattr(made, field), []).append(cell(made))
        shared = Counter(tuple(sorted(trace)) for trace in traces.values())
        if any(count < rules.profile.k for count in shared.values()):
            return False
    return True


def stocks(month: Month, events: Iterable[Event], forms: Forms, holds: Iterable[Hold]) -> tuple[Stock, ...]:
    """The events by type and form."""
    rows: Counter[tuple[str, str]] = Counter()
    claims: dict[tuple[str, str], Claim] = {}
    union: Counter[str] = Counter()
    by: dict[str, Counter[str]] = {}
    for event in events:
        form, claim = forms.get(event.position, (RAW, Claim.PSEUDONYMOUS))
        key = (event.type, form)
        rows[key] += 1
        claims[key] = max(claims.get(key, claim), claim)  # "pseudonymous" is the weaker one, and the later word
        codes = _codes(month, event, holds) if form == RAW else ()
        union[event.type] += bool(codes)
        by.setdefault(event.type, Counter()).update(codes)
    return tuple(
        Stock(
            event_type=name,
            rows=rows[name, form],
            bytes=rows[name, form] * EVENT_BYTES,
            profile=form,
            claim=claims[name, form],
            held=Held(union[name], tuple(sorted(by[name].items()))) if form == RAW and union[name] else NOTHING_HELD,
        )
        for name, form in sorted(rows)
    )


def _codes(month: Month, event: Event, holds: Iterable[Hold]) -> tuple[str, ...]:
    return holding(holds, user=event.user_id, event_type=event.type, source=event.source, month=month)
