"""A store of retention's facts: months whose rows belong to users, as numbers only. It does what a plan says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from retention.facts import RAW, Copy, CopyKind, Facts, Held, MonthFacts, Stock
from retention.hold import Hold, holding
from retention.month import Month
from retention.plan import Action, Kind, Plan
from retention.policy import Claim, Policy

SOURCE = "reviews"
ROW_BYTES = 100

Cells = Counter[tuple[str, str, str]]
"""(type, user, form) -> rows, all of them above 0."""


@dataclass
class KeptCopy:
    """A copy of rows of a month."""

    kind: CopyKind
    name: str
    cells: Cells
    created_ms: int
    target: str = ""
    verified: bool = True
    until_ms: int | None = None
    whole: bool = True


@dataclass
class KeptMonth:
    """One month."""

    month: Month
    cells: Cells = field(default_factory=Counter)
    generation: int = 1
    sealed: bool = False
    late_events: bool = False
    frozen: dict[str, int] = field(default_factory=dict)
    """Type -> the number of its rows when it was frozen."""
    gone: dict[str, int] = field(default_factory=dict)
    copies: list[KeptCopy] = field(default_factory=list)
    accepted: Counter[str] = field(default_factory=Counter)
    """Type -> all rows that ever came."""
    version: int = 0
    """Counts what happened to it."""


class Store:
    """Months, holds, backups and the clock that was accepted."""

    def __init__(self) -> None:
        self.months: dict[Month, KeptMonth] = {}
        self.holds: list[Hold] = []
        self.backups: list[int] = []
        self.clock_accepted_ms: int | None = None
        self.importing = False
        self.ingest_active = False
        self._copies = 0
        self._holding: tuple[tuple[Hold, ...], dict[tuple[Month, str, str], tuple[str, ...]]] = ((), {})
        self._known: dict[Month, tuple[object, MonthFacts]] = {}

    def add(self, month: Month, event_type: str, user: str, rows: int, *, form: str = RAW) -> None:
        """Rows that come in, or are there already in some form."""
        kept = self.months.setdefault(month, KeptMonth(month))
        kept.cells[event_type, user, form] += rows
        kept.accepted[event_type] += rows
        kept.version += 1

    def late(self, policy: Policy, month: Month, event_type: str, user: str, rows: int) -> bool:
        """Events that are late: stored where the month is open or may be opened again; whether they were stored."""
        kept = self.months.get(month)
        if kept and kept.sealed:
            one = policy.class_of(event_type)
            if one is None or one.late != "reopen" or kept.frozen or kept.copies or kept.gone:
                return False
            kept.sealed, kept.late_events = False, True
            kept.generation += 1
        self.add(month, event_type, user, rows)
        return True

    def held_by(self, month: Month, event_type: str, user: str) -> tuple[str, ...]:
        """The holds that these rows are under."""
        holds = tuple(self.holds)
        if holds != self._holding[0]:
            self._holding = (holds, {})
        key = (month, event_type, user)
        if key not in self._holding[1]:
            self._holding[1][key] = holding(holds, user=user, event_type=event_type, source=SOURCE, month=month)
        return self._holding[1][key]

    # Facts

    def facts(self, policy: Policy) -> Facts:
        """What a plan is made of. The policy tells which claims its profiles make."""
        return Facts(
            months=tuple(self._known_month(kept, policy) for kept in self.months.values()),
            clock_accepted_ms=self.clock_accepted_ms,
            ingest_active=self.ingest_active,
            importing=self.importing,
            oldest_backup_ms=min(self.backups, default=None),
        )

    def _known_month(self, kept: KeptMonth, policy: Policy) -> MonthFacts:
        """Read anew only if something changed: ten years of days ask for the same months again and again."""
        state = (kept.version, policy.digest, bool(self.backups), tuple(self.holds))
        known = self._known.get(kept.month)
        if known is None or known[0] != state:
            known = self._known[kept.month] = (state, self._month(kept, policy))
        return known[1]

    def _month(self, kept: KeptMonth, policy: Policy) -> MonthFacts:
        return MonthFacts(
            month=kept.month,
            generation=kept.generation,
            digest=f"{kept.generation:064x}" if kept.sealed else "",
            sealed=kept.sealed,
            stocks=tuple(self._stock(kept, *form, policy) for form in sorted({key[::2] for key in kept.cells})),
            min_ms=kept.month.start_ms if kept.cells else None,
            max_ms=kept.month.end_ms - 1 if kept.cells else None,
            late_events=kept.late_events,
            frozen=frozenset(kept.frozen),
            gone=tuple(sorted(kept.gone.items())),
            copies=tuple(self._copy(kept, copy) for copy in kept.copies),
        )

    def _stock(self, kept: KeptMonth, event_type: str, form: str, policy: Policy) -> Stock:
        cells: Cells = Counter({key: rows for key, rows in kept.cells.items() if key[::2] == (event_type, form)})
        profile = policy.profiles.get(form)
        originals = self.backups or any(key[0] == event_type for copy in kept.copies for key in copy.cells)
        anonymous = profile and profile.claim is Claim.ANONYMOUS and not originals
        return Stock(
            event_type=event_type,
            rows=cells.total(),
            bytes=cells.total() * ROW_BYTES,
            profile=form,
            claim=Claim.ANONYMOUS if anonymous else Claim.PSEUDONYMOUS,
            held=self._held(kept.month, cells),
        )

    def _copy(self, kept: KeptMonth, copy: KeptCopy) -> Copy:
        return Copy(
            kind=copy.kind,
            name=copy.name,
            types=tuple(sorted({key[0] for key in copy.cells})),
            rows=copy.cells.total(),
            bytes=copy.cells.total() * ROW_BYTES,
            created_ms=copy.created_ms,
            target=copy.target,
            complete=all(form == RAW for _, _, form in copy.cells),
            whole=copy.whole,
            verified=copy.verified,
            until_ms=copy.until_ms,
            held=self._held(kept.month, copy.cells),
        )

    def _held(self, month: Month, cells: Cells) -> Held:
        """Rows that went through a profile are nobody's any more as far as a hold can tell."""
        by: Counter[str] = Counter()
        union = 0
        for (event_type, user, form), rows in cells.items():
            codes = self.held_by(month, event_type, user) if form == RAW else ()
            union += rows if codes else 0
            for code in codes:
                by[code] += rows
        return Held(union, tuple(sorted(by.items())))

    def evidence_problems(self) -> list[object]:
        """It keeps no evidence."""
        return []

    # Doing what a plan says

    def apply(self, plan: Plan, *, failing: Collection[str] = ()) -> list[Action]:
        """Does what no guard stops, chain by chain. Archives to `failing` targets fail. What was done."""
        done = []
        broken: set[tuple[Month, str]] = set()
        for action in plan.actions:
            chain = (action.month, action.copy or action.class_name)
            if action.blocked or chain in broken:
                continue
            if action.kind is Kind.ARCHIVE and action.target in failing:
                broken.add(chain)
                continue
            self._do(self.months[action.month], action, plan.now_ms)
            self.months[action.month].version += 1
            done.append(action)
        self.clock_accepted_ms = plan.clock_to_record_ms
        return done

    def _do(self, kept: KeptMonth, action: Action, now_ms: int) -> None:
        free = self._free(kept.month, kept.cells, action.types, action.forms)
        match action.kind:
            case Kind.SEAL:
                kept.sealed, kept.late_events = True, False
                kept.generation += 1
            case Kind.FREEZE:
                for name in action.types:
                    assert name not in kept.frozen, "a frozen month is never frozen again"
                    kept.frozen[name] = sum(rows for key, rows in kept.cells.items() if key[0] == name)
            case Kind.ANONYMIZE:
                kept.cells = kept.cells - free
                for (event_type, user, _), rows in free.items():
                    kept.cells[event_type, user, action.profile] += rows
                kept.generation += 1
            case Kind.ARCHIVE:
                self._copies += 1
                everything = _chosen(kept.cells, action.types, action.forms)
                assert everything.total() == action.rows
                kept.copies.append(
                    KeptCopy(CopyKind.ARCHIVE, f"archive-{self._copies}", everything, now_ms, action.target)
                )
            case Kind.DROP:
                assert free.total() == action.rows
                kept.cells = kept.cells - free
                kept.gone |= dict.fromkeys(action.types, now_ms)
                kept.generation += 1
                assert action.ends_month is not bool(kept.cells)
            case Kind.DESTROY_ARCHIVE | Kind.EXPIRE:
                (copy,) = (one for one in kept.copies if one.name == action.copy)
                copy.whole = False
                copy.cells = copy.cells - self._free(kept.month, copy.cells, action.types, None)
                kept.copies = [one for one in kept.copies if one.cells]

    def _free(self, month: Month, cells: Cells, types: Iterable[str], forms: Iterable[str] | None) -> Cells:
        chosen = _chosen(cells, types, forms)
        return Counter(
            {key: rows for key, rows in chosen.items() if key[2] != RAW or not self.held_by(month, key[0], key[1])}
        )


def _chosen(cells: Cells, types: Iterable[str], forms: Iterable[str] | None) -> Cells:
    wanted, of_forms = set(types), None if forms is None else set(forms)
    return Counter(
        {key: rows for key, rows in cells.items() if key[0] in wanted and (of_forms is None or key[2] in of_forms)}
    )


# What tests measure


class Counted(Protocol):
    """A store whose months can be seen as numbers."""

    @property
    def months(self) -> Mapping[Month, KeptMonth]:
        """By month."""

    def held_by(self, month: Month, event_type: str, user: str) -> tuple[str, ...]:
        """The holds that rows as they were sent are under."""


def complete_rows(store: Counted) -> dict[tuple[Month, str, str], int]:
    """(month, type, user) -> complete rows in the copy that has most of them."""
    found: dict[tuple[Month, str, str], int] = {}
    for month, kept in store.months.items():
        for cells in (kept.cells, *(copy.cells for copy in kept.copies if copy.kind is CopyKind.ARCHIVE)):
            for (event_type, user, form), rows in cells.items():
                if form == RAW:
                    key = (month, event_type, user)
                    found[key] = max(found.get(key, 0), rows)
    return found


def held_rows(store: Counted) -> Counter[tuple[Month, str, str, str]]:
    """(month, copy, type, user) -> rows under holds, copy by copy as far as they were there before."""
    found: Counter[tuple[Month, str, str, str]] = Counter()
    for month, kept in store.months.items():
        for name, cells in (("", kept.cells), *((copy.name, copy.cells) for copy in kept.copies)):
            for (event_type, user, form), rows in cells.items():
                if form == RAW and store.held_by(month, event_type, user):
                    found[month, name, event_type, user] += rows
    return found


def late_classes(policy: Policy, facts: Facts, now_ms: int) -> set[str]:
    """The classes with rows beyond keep_at_most, counted anew: held and anonymous ones aside."""
    found = set()
    for month in facts.months:
        for stock in month.stocks:
            one = policy.class_of(stock.event_type)
            free = stock.rows > stock.held.rows
            if one and free and stock.claim is not Claim.ANONYMOUS and one.keep_at_most.after(month.month) <= now_ms:
                found.add(one.name)
    return found
