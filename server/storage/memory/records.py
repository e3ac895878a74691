"""The records of the reference engine: in memory, like its events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from retention.chain import EMPTY, Deed, Head, Record, append
from retention.facts import NOTHING_HELD, Copy
from retention.hold import Hold
from retention.month import Month
from server.frozen import ANY_TYPE, UTC, Detail, Frozen, FrozenType, KeptMonths, Quarters, coarsened, joined
from server.rewriting import Claimed, Losses
from server.storage.records import Records, check_hold, copy_unknown


class MemoryRecords(Records):
    """See the contract."""

    def __init__(self) -> None:
        self._chain: list[Record] = []
        self._holds: dict[str, Hold] = {}
        self._copies: dict[Month, dict[str, Copy]] = {}
        self._losses: dict[Month, Losses] = {}
        self.told: tuple[KeptMonths, Mapping[Month, Mapping[str, FrozenType]]] = ({}, {})
        """What is frozen, without the numbers and with them (by type; under ANY_TYPE only cells). Replaced at once."""
        self._clock_ms: int | None = None

    @property
    def head(self) -> Head:
        return self._chain[-1].head if self._chain else EMPTY

    def evidence(self, after: int = 0, limit: int = 1_000) -> Sequence[bytes]:
        return [record.line() for record in self._chain[after : after + limit]]

    def record(self, deed: Deed) -> Record:
        self._chain.append(append(self.head, deed))
        return self._chain[-1]

    def holds(self) -> Sequence[Hold]:
        return [self._holds[code] for code in sorted(self._holds)]

    def put_hold(self, hold: Hold, deed: Deed) -> None:
        check_hold(hold, self._holds.get(hold.code))
        self.record(deed)
        self._holds[hold.code] = hold

    def copies(self) -> Mapping[Month, Sequence[Copy]]:
        return {month: [kept[name] for name in sorted(kept)] for month, kept in self._copies.items() if kept}

    def put_copy(self, month: Month, copy: Copy, deed: Deed) -> None:
        self.record(deed)
        self._copies.setdefault(month, {})[copy.name] = replace(copy, held=NOTHING_HELD)

    def remove_copy(self, month: Month, name: str, deed: Deed) -> None:
        if name not in self._copies.get(month, {}):
            raise copy_unknown(month, name)
        self.record(deed)
        del self._copies[month][name]

    def keep(self, frozen: Frozen, deed: Deed) -> None:
        known, numbers_of = self.told
        kept = joined(frozen, known.get(frozen.month))
        self.record(deed)
        numbers = {**numbers_of.get(frozen.month, {}), **frozen.types}
        if frozen.together is not None:
            numbers[ANY_TYPE] = FrozenType(Quarters((), (), ()), frozen.together)
        self.told = ({**known, frozen.month: kept}, {**numbers_of, frozen.month: numbers})

    @property
    def frozen(self) -> KeptMonths:
        return self.told[0]

    @property
    def losses(self) -> Mapping[Month, Losses]:
        return self._losses

    def lose(self, month: Month, lost: Losses, deed: Deed | None, claimed: Claimed | None = None) -> None:
        """What the store does when it adopts a rewrite or drops a month."""
        if deed is not None:
            self.record(deed)
        if claimed and month in self.frozen:
            self._coarsen(month, claimed)
        self._losses = {**self._losses, month: dict(lost)}

    def _coarsen(self, month: Month, claimed: Claimed) -> None:
        kept, every = self.told
        known, numbers = kept[month], every[month]
        details = coarsened(known, {name: one.cells for name, one in numbers.items()}, claimed.types, claimed.k)
        left = replace(known, details={**known.details, **details})
        fewer = {name: _left(numbers[name], detail) for name, detail in details.items()}
        self.told = ({**kept, month: left}, {**every, month: {**numbers, **fewer}})

    @property
    def clock_accepted_ms(self) -> int | None:
        return self._clock_ms

    def accept_clock(self, now_ms: int) -> None:
        self._clock_ms = now_ms


def _left(numbers: FrozenType, detail: Detail) -> FrozenType:
    cells = [cell for cell in numbers.cells if cell.zone == UTC and cell.grain in detail.grains]
    return FrozenType(Quarters((), (), ()), cells if detail.users else [replace(cell, users=0) for cell in cells])
