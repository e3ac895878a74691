"""The facts that a plan is made of, taken from a store: months, holds, copies, what is frozen and what is gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import structlog

from retention.facts import RAW, Copy, Facts, MonthFacts, Stock
from retention.hold import Hold
from retention.month import Month
from retention.policy import Claim
from server.model import MonthInfo, MonthState
from server.rewriting import Losses, MonthStocks, OnWriter
from server.storage.contract import Reader, Store

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Noted:
    """What the records of the store say at one moment."""

    holds: tuple[Hold, ...]
    copies: Mapping[Month, Sequence[Copy]]
    losses: Mapping[Month, Losses]
    frozen: Mapping[Month, frozenset[str]]
    clock_accepted_ms: int | None


@dataclass(frozen=True, slots=True)
class _Seen:
    """All that the facts of a month are made of."""

    info: MonthInfo
    counted: MonthStocks
    copies: tuple[Copy, ...]
    lost: Losses
    frozen: frozenset[str]


class Stocktaking:
    """Takes stock again and again; sealed months that are what they were are not counted again. For one thread."""

    def __init__(
        self,
        store: Store,
        on_writer: OnWriter,
        *,
        held_copy: Callable[[Month, Copy, Sequence[Hold]], Copy],
        is_importing: Callable[[], bool],
        is_ingesting: Callable[[], bool],
    ) -> None:
        """`held_copy` says how much of a copy is held."""
        self._store = store
        self._on_writer = on_writer
        self._held_copy = held_copy
        self._is_importing = is_importing
        self._is_ingesting = is_ingesting
        self._known: dict[MonthInfo, tuple[tuple[Hold, ...], MonthStocks]] = {}
        self._made: dict[Month, tuple[_Seen, MonthFacts]] = {}
        """The facts of a month, and what they were made of: most months are what they were."""

    def noted(self) -> Noted:
        """The records, as of one moment."""
        records = self._store.records

        def read() -> Noted:
            return Noted(
                holds=tuple(hold for hold in records.holds() if hold.active),
                copies=records.copies(),
                losses=records.losses,
                frozen=records.frozen_types,
                clock_accepted_ms=records.clock_accepted_ms,
            )

        return self._on_writer(read)

    def facts(self) -> Facts:
        """All of it. A month that cannot be read is left out: nothing may happen to it."""
        noted = self.noted()
        months = []
        with closing(self._store.reader()) as reader:
            for info in self._store.months():
                if info.state is MonthState.DAMAGED:
                    log.warning("month_without_retention", month=str(info.month), reason="MONTH_DAMAGED")
                    continue
                months.append(self._month(reader, info, noted))
        return Facts(
            months=tuple(months),
            clock_accepted_ms=noted.clock_accepted_ms,
            ingest_active=self._is_ingesting(),
            importing=self._is_importing(),
        )

    def stocks(self, month: Month, holds: Sequence[Hold]) -> MonthStocks:
        """What one month has right now."""
        with closing(self._store.reader()) as reader:
            return reader.stocks(month, holds)

    def _month(self, reader: Reader, info: MonthInfo, noted: Noted) -> MonthFacts:
        month = info.month
        seen = _Seen(
            info,
            self._counted(reader, info, noted.holds),
            # Asked each time: an archive may be out of reach now, and in reach the next time.
            tuple(self._held_copy(month, copy, noted.holds) for copy in noted.copies.get(month, ())),
            noted.losses.get(month, {}),
            noted.frozen.get(month, frozenset()),
        )
        before, made = self._made.get(month, (None, None))
        if made is None or before != seen:
            made = _facts_of(seen)
            self._made[month] = (seen, made)
        return made

    def _counted(self, reader: Reader, info: MonthInfo, holds: tuple[Hold, ...]) -> MonthStocks:
        if info.state is MonthState.DROPPED:
            return MonthStocks(info.month, info.generation, info.state, "", (), None, None)
        known = self._known.get(info)
        if known is not None and known[0] == holds:
            return known[1]
        counted = reader.stocks(info.month, holds)
        if info.state is MonthState.SEALED:
            self._known[info] = (holds, counted)
        return counted


def _facts_of(seen: _Seen) -> MonthFacts:
    info, counted = seen.info, seen.counted
    return MonthFacts(
        month=info.month,
        generation=info.generation,
        digest=counted.digest,
        sealed=bool(counted.digest),
        stocks=tuple(_labelled(stock, counted.stocks, seen.copies) for stock in counted.stocks),
        min_ms=counted.first_ms if counted.stocks else None,
        max_ms=counted.last_ms if counted.stocks else None,
        late_events=info.state is MonthState.OPEN and info.generation > 1,
        frozen=seen.frozen,
        gone=tuple(sorted((name, loss.since_ms) for name, loss in seen.lost.items() if loss.gone)),
        copies=seen.copies,
    )


def _labelled(stock: Stock, others: Sequence[Stock], copies: Sequence[Copy]) -> Stock:
    """Rows are anonymous only while nothing has their originals: no copy, and no row under a hold."""
    name = stock.event_type
    originals = any(name in copy.types and not copy.anonymous for copy in copies) or any(
        other.event_type == name and other.profile == RAW and other.held.rows for other in others
    )
    return replace(stock, claim=Claim.PSEUDONYMOUS) if originals else stock
