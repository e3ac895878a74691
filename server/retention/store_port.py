"""The port of retention (retention.port) onto a store: its writer commits, everything long runs on this thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Protocol, TypeVar

from retention.chain import Deed, Head
from retention.facts import Copy, Facts
from retention.hold import Hold
from retention.month import Month
from retention.policy import ArchiveTarget, Policy, Profile
from retention.port import ActionFailed, Evidence, Heard, Outcome
from server.errors import TrackdError
from server.model import MonthState, Rebuilt
from server.retention.stocktaking import Stocktaking
from server.rewriting import Loss, MonthStocks, OnWriter, Rewrite, Rewritten, Selection
from server.storage.contract import Store

T = TypeVar("T")
ATTEMPTS = 3
"""Events may be erased while a month is being rebuilt: then it is begun again."""


class Archives(Protocol):
    """Where copies lie. Methods raise TrackdError."""

    def expire_restored(self) -> None:
        """Removes restored months in the data directory whose time has come."""

    def learn(self, targets: Iterable[ArchiveTarget]) -> None:
        """Where these targets are."""

    def make(
        self, month: Month, counted: MonthStocks, rows: Selection, target: ArchiveTarget, plan_id: str, heard: Heard
    ) -> Copy:
        """Copies such rows of a sealed month to the target, reads them back, compares, and only then returns."""

    def held(self, month: Month, copy: Copy, holds: Sequence[Hold]) -> Copy:
        """The copy with what of it is held."""

    def destroy(self, copy: Copy, month: Month, holds: Sequence[Hold], heard: Heard) -> Copy | None:
        """Destroys a copy; one that has held rows is cut down to them, and what is left is returned."""


class StorePort:
    """See retention.port.Port. Every error of the store becomes ActionFailed with its reason."""

    def __init__(self, store: Store, on_writer: OnWriter, stocktaking: Stocktaking, archives: Archives) -> None:
        self._store = store
        self._on_writer = on_writer
        self._stocktaking = stocktaking
        self._archives = archives

    def facts(self, policy: Policy, now_ms: int) -> Facts:  # noqa: ARG002  # the port's signature
        """See Port."""
        with _failures():
            self._archives.learn(policy.targets)
            return self._stocktaking.facts()

    def head(self) -> Head:
        """See Port."""
        with _failures():
            return self._on_writer(lambda: self._store.records.head)

    def record(self, deed: Deed) -> Head:
        """See Port."""
        with _failures():
            return self._on_writer(lambda: self._store.records.record(deed).head)

    def accept_clock(self, now_ms: int) -> None:
        """See Port."""
        with _failures():
            self._on_writer(lambda: self._store.records.accept_clock(now_ms))

    def seal(self, month: Month, evidence: Evidence, heard: Heard) -> Outcome:
        """See Port."""
        with _failures():
            before = self._stocktaking.stocks(month, ())
            for attempt in range(ATTEMPTS):
                self._on_writer(lambda: self._store.fence(month))
                rebuilt = self._store.rebuild(month, MonthState.SEALED, heard)
                outcome = Outcome(
                    generation=rebuilt.generation,
                    rows_before=rebuilt.rows,
                    rows_after=rebuilt.rows,
                    bytes_before=_bytes(before),
                    bytes_after=_bytes(before),
                    method="rebuild",
                    checks=(("digest", rebuilt.digest),),
                )
                try:
                    return self._adopt(rebuilt, outcome, evidence)
                except TrackdError as problem:
                    if problem.reason != "MONTH_CHANGED" or attempt == ATTEMPTS - 1:
                        raise
        raise AssertionError  # the last attempt returns or raises

    def freeze(self, month: Month, types: tuple[str, ...], evidence: Evidence, heard: Heard) -> Outcome:
        """See Port."""
        with _failures():
            wanted = [name for name in types if name not in self._stocktaking.noted().frozen.get(month, ())]
            counted = self._stocktaking.stocks(month, ())
            outcome = _unchanged(counted, "freeze")
            if wanted:
                with closing(self._store.reader()) as reader:
                    frozen = reader.freeze(month, wanted, heard)
                return self._committed(outcome, lambda: self._store.records.keep(frozen, evidence(outcome)))
            return self._committed(outcome, lambda: self._store.records.record(evidence(outcome)))

    def anonymize(
        self,
        month: Month,
        types: tuple[str, ...],
        forms: tuple[str, ...],
        profile: Profile,
        evidence: Evidence,
        heard: Heard,
    ) -> Outcome:
        """See Port."""
        with _failures():
            return self._rewrite(month, Selection(types, forms), profile, evidence, heard)

    def drop(
        self, month: Month, types: tuple[str, ...], forms: tuple[str, ...], evidence: Evidence, heard: Heard
    ) -> Outcome:
        """See Port. What is held is looked at again: a hold may have been placed since the plan was made."""
        with _failures():
            holds = self._stocktaking.noted().holds
            counted = self._stocktaking.stocks(month, holds)
            everything = all(
                stock.event_type in types and stock.profile in forms and not stock.held.rows for stock in counted.stocks
            )
            if not everything:
                return self._rewrite(month, Selection(types, forms), None, evidence, heard)
            lost = {**self._store.records.losses.get(month, {}), **dict.fromkeys(types, Loss(gone=True))}
            outcome = replace(_unchanged(counted, "unlink"), rows_after=0, bytes_after=0)
            return self._committed(outcome, lambda: self._store.drop(month, lost, evidence(outcome)))

    def _rewrite(
        self, month: Month, rows: Selection, profile: Profile | None, evidence: Evidence, heard: Heard
    ) -> Outcome:
        change = Rewrite(rows, profile, self._stocktaking.noted().holds)
        made = self._store.rewrite(month, change, self._on_writer, heard)
        outcome = Outcome(
            generation=made.rebuilt.generation,
            rows_before=made.rows_before,
            rows_after=made.rebuilt.rows,
            bytes_before=made.bytes_before,
            bytes_after=made.bytes_after,
            method="rewrite",
            checks=made.checks,
            withheld=made.withheld,
        )
        return self._adopt(made, outcome, evidence)

    def archive(
        self,
        month: Month,
        types: tuple[str, ...],
        forms: tuple[str, ...],
        target: ArchiveTarget,
        evidence: Evidence,
        heard: Heard,
    ) -> Outcome:
        """See Port."""
        with _failures():
            counted = self._stocktaking.stocks(month, ())
            outcome = _unchanged(counted, "parquet")
            plan_id = evidence(outcome).plan_id
            copy = self._archives.make(month, counted, Selection(types, forms), target, plan_id, heard)
            outcome = replace(
                outcome, rows_before=0, rows_after=copy.rows, bytes_before=0, bytes_after=copy.bytes,
                checks=(("copy", copy.name), ("read_back", "ok")),
            )  # fmt: skip
            return self._committed(outcome, lambda: self._store.records.put_copy(month, copy, evidence(outcome)))

    def destroy_copy(self, month: Month, name: str, evidence: Evidence, heard: Heard) -> Outcome:
        """See Port."""
        with _failures():
            noted = self._stocktaking.noted()
            copy = next(one for one in noted.copies.get(month, ()) if one.name == name)
            left = self._archives.destroy(copy, month, noted.holds, heard)
            outcome = Outcome(
                generation=0,
                rows_before=copy.rows,
                rows_after=left.rows if left else 0,
                bytes_before=copy.bytes,
                bytes_after=left.bytes if left else 0,
                method="cut_down" if left else "unlink",
                checks=(("copy", name),),
            )
            if left is None:
                return self._committed(outcome, lambda: self._store.records.remove_copy(month, name, evidence(outcome)))
            # Under the same name: it takes the place of what it was.
            return self._committed(outcome, lambda: self._store.records.put_copy(month, left, evidence(outcome)))

    def forget_names(self) -> int:
        """See Port."""
        with _failures():
            return self._store.forget_names(self._on_writer)

    def _adopt(self, made: Rebuilt | Rewritten, outcome: Outcome, evidence: Evidence) -> Outcome:
        return self._committed(outcome, lambda: self._store.adopt(made, evidence(outcome)))

    def _committed(self, outcome: Outcome, commit: Callable[[], object]) -> Outcome:
        """The outcome with the number of the record that was committed with it."""

        def run() -> int:
            commit()
            return self._store.records.head.sequence

        return replace(outcome, sequence=self._on_writer(run))


def counted_rows(counted: MonthStocks) -> int:
    """All rows of a month."""
    return sum(stock.rows for stock in counted.stocks)


def _bytes(counted: MonthStocks) -> int:
    return sum(stock.bytes for stock in counted.stocks)


def _unchanged(counted: MonthStocks, method: str) -> Outcome:
    rows, size = counted_rows(counted), _bytes(counted)
    return Outcome(counted.generation, rows, rows, size, size, method)


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except TrackdError as error:
        raise ActionFailed(error.reason, str(error)) from error
