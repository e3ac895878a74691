"""What the steps of one class ask for in one month: the chain from what is there to what should be there now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from retention.facts import RAW, Copy, Held, MonthFacts, Stock
from retention.numbers import changed_by_profile
from retention.plan import Action, Because, Kind, Withheld
from retention.policy import Anonymize, Archive, Claim, Drop, EventClass, Step, verb


@dataclass(slots=True)
class ClassMonth:
    """One class in one sealed month, walked through step by step: `stocks` is what would be left so far."""

    one: EventClass
    month: MonthFacts
    stocks: list[Stock]
    now_ms: int
    archives: list[tuple[Copy, float]]
    """copies.standing_archives of the month."""
    backups: bool
    """Whether there are any: they hold what is taken away now."""
    actions: list[Action] = field(default_factory=list)
    withheld: list[Withheld] = field(default_factory=list)
    archived_completely: set[str] = field(default_factory=set)
    """Types with a complete archive, existing or planned, that is kept as long as keep_at_least asks."""

    def walk(self) -> None:
        """Fills `actions` and `withheld` with all that is due, in order."""
        if self.one.keep_at_least:
            least_ms = self.one.keep_at_least.after(self.month.month)
            kept = [copy for copy, until_ms in self.archives if copy.complete and until_ms >= least_ms]
            self.archived_completely = {name for copy in kept for name in copy.types}
        for index, step in self._needed():
            match step:
                case Anonymize():
                    done = self._anonymize(index, step)
                case Archive():
                    done = self._archive(index, step)
                case Drop():
                    done = self._drop(index, step)
            if not done:
                return

    def _needed(self) -> list[tuple[int, Step]]:
        """The steps that are due and not made needless by a later one that is due as well."""
        needed: list[tuple[int, Step]] = []
        replaced = False
        for index, step in reversed(list(enumerate(self.one.steps))):
            if step.after.after(self.month.month) > self.now_ms:
                continue
            match step:
                case Drop():
                    needed.append((index, step))
                    replaced = True
                case Anonymize() if not replaced:
                    needed.append((index, step))
                    replaced = True
                case Archive() if step.keep.after(self.month.month) > self.now_ms and self._unarchived(index, step):
                    needed.append((index, step))
                    replaced = False
                case _:
                    pass
        return needed[::-1]

    def _unarchived(self, index: int, step: Archive) -> list[Stock]:
        """What the archive has to get: of held originals no copy goes where rows were to go anonymized only."""
        there = {name for copy, _ in self.archives if copy.target == step.target.name for name in copy.types}
        after_profile = any(isinstance(other, Anonymize) for other in self.one.steps[:index])
        wanted = [one for one in self.stocks if one.event_type not in there]
        return [one for one in wanted if not (after_profile and one.profile == RAW and one.rows == one.held.rows)]

    def _anonymize(self, index: int, step: Anonymize) -> bool:
        later = {one.profile.digest for one in self.one.steps[index:] if isinstance(one, Anonymize)}
        raw = [one for one in self.stocks if one.profile not in later and one.claim is not Claim.ANONYMOUS]
        if not raw:
            return True
        if not self._may_lose(Kind.ANONYMIZE, raw):
            return False
        honest = step.profile.claim if not self._originals_live(raw) else Claim.PSEUDONYMOUS
        extra = {"profile": step.profile.digest, "claim": str(honest), "numbers": changed_by_profile(step.profile)}
        if self._act(Kind.ANONYMIZE, index, step, raw, extra):
            acted = {one.event_type for one in raw}
            rest = [one for one in self.stocks if one not in raw]
            kept = [replace(one, rows=one.held.rows) for one in raw if one.held.rows]
            through = [_through(name, raw, step.profile.digest) for name in sorted(acted)]
            self.stocks = rest + kept + [one for one in through if one]
        return True

    def _originals_live(self, raw: Sequence[Stock]) -> bool:
        """Whether other copies of these rows are known, so that they cannot be called anonymous yet."""
        types = {one.event_type for one in raw}
        copies = any(not copy.anonymous and types & set(copy.types) for copy in self.month.copies)
        return copies or self.backups or any(one.held.rows for one in raw)

    def _archive(self, index: int, step: Archive) -> bool:
        after_profile = any(isinstance(other, Anonymize) for other in self.one.steps[:index])
        wanted = self._unarchived(index, step)
        if after_profile:
            wanted = [_only_free(one) if one.profile == RAW else one for one in wanted]
        least = self.one.keep_at_least
        if not after_profile and least and least.never_longer_than(step.keep):
            self.archived_completely |= {one.event_type for one in wanted}
        free = [replace(one, held=Held()) for one in wanted]
        self._act(Kind.ARCHIVE, index, step, free, {"target": step.target.name})
        return True

    def _drop(self, index: int, step: Drop) -> bool:
        if not self.stocks or not self._may_lose(Kind.DROP, self.stocks):
            return False
        if self._act(Kind.DROP, index, step, self.stocks, {"numbers": ("rows",)}):
            self.stocks = [replace(one, rows=one.held.rows) for one in self.stocks if one.held.rows]
        return True

    def _may_lose(self, kind: Kind, stocks: Sequence[Stock]) -> bool:
        """Whether keep_at_least lets these go, or has gone by."""
        least = self.one.keep_at_least
        if least is None or least.after(self.month.month) <= self.now_ms:
            return True
        if {one.event_type for one in stocks} <= self.archived_completely:
            return True
        rows = sum(one.rows for one in stocks)
        self.withheld.append(Withheld(kind, self.month.month, self.one.name, Because.KEEP_AT_LEAST, rows))
        return False

    def _act(self, kind: Kind, index: int, step: Step, stocks: Sequence[Stock], extra: Mapping[str, object]) -> bool:
        """Adds the action, and before the first one the freezing of numbers. False if all of it is held."""
        held = together(one.held for one in stocks)
        free = [one for one in stocks if _free(one)]
        if not free:
            if held.rows:
                self.withheld.append(Withheld(kind, self.month.month, self.one.name, Because.HOLD, held.rows, held.by))
            return False
        rule = f'class "{self.one.name}", step {index + 1}: after = "{step.after}", do = "{verb(step)}"'
        due_ms = step.after.after(self.month.month)
        unfrozen = [one for one in self.stocks if one.event_type not in self.month.frozen]
        if unfrozen and not self.actions:  # all at once: what a later step changes is known by then as well
            self._add(Kind.FREEZE, "numbers are frozen before rows change", due_ms, unfrozen, Held(), {})
        self._add(kind, rule, due_ms, free, held, extra)
        return True

    def _add(
        self, kind: Kind, rule: str, due_ms: int, stocks: Sequence[Stock], held: Held, extra: Mapping[str, object]
    ) -> None:
        whole = kind is Kind.FREEZE
        action = Action(
            kind=kind,
            month=self.month.month,
            generation=self.month.generation,
            digest=self.month.digest,
            class_name=self.one.name,
            rule=rule,
            due_ms=due_ms,
            types=tuple(sorted({one.event_type for one in stocks})),
            rows=sum(one.rows if whole else _free(one) for one in stocks),
            bytes=sum(one.bytes if whole else one.bytes * _free(one) // one.rows for one in stocks),
            held=held,
            forms=() if whole else tuple(sorted({one.profile for one in stocks})),
        )
        self.actions.append(replace(action, **extra))  # type: ignore[arg-type]


def together(held: Iterable[Held]) -> Held:
    """What is held of several stocks, which have no row in common."""
    parts = list(held)
    by: dict[str, int] = {}
    for part in parts:
        for code, rows in part.by:
            by[code] = by.get(code, 0) + rows
    return Held(sum(part.rows for part in parts), tuple(sorted(by.items())))


def _only_free(stock: Stock) -> Stock:
    return replace(stock, rows=_free(stock), bytes=stock.bytes * _free(stock) // stock.rows, held=Held())


def _free(stock: Stock) -> int:
    return stock.rows - stock.held.rows


def _through(name: str, raw: Sequence[Stock], profile: str) -> Stock | None:
    """The rows of a type that went through a profile, as one stock."""
    own = [one for one in raw if one.event_type == name and _free(one)]
    if not own:
        return None
    size = sum(one.bytes * _free(one) // one.rows for one in own)
    return Stock(name, sum(map(_free, own)), size, profile)
