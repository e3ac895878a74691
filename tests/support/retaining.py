"""Retention's work on a store, called as plan application calls it, and profiles for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from retention.chain import Deed
from retention.facts import RAW, Stock
from retention.hold import Hold
from retention.month import Month
from retention.policy import Claim, FieldRule, Profile, Treatment
from server.frozen import Frozen
from server.model import Event, EventFilter, MonthInfo, MonthState, Order
from server.rewriting import Rewrite, Rewritten, Selection
from server.storage.contract import SealedRows, Store
from tests.support.events import pages

T = TypeVar("T")
KEEP, DROP, REKEY = (FieldRule(how) for how in (Treatment.KEEP, Treatment.DROP, Treatment.REKEY))
HOUR = FieldRule(Treatment.ROUND, grain_ms=3_600_000)
NOW_MS = 1_800_000_000_000


def allow(*keys: str) -> FieldRule:
    """Only these."""
    return FieldRule(Treatment.ALLOW, keys=tuple(sorted(keys)))


def profile(claim: Claim = Claim.PSEUDONYMOUS, k: int = 0, **rules: FieldRule) -> Profile:
    """A profile; a double underscore stands for the dot of "change.row_id"."""
    named = {name.replace("__", "."): rule for name, rule in rules.items()}
    return Profile("test", claim, k, tuple(sorted(({"timestamp": KEEP} | named).items())))


def deed(action: str = "anonymize", **fields: Any) -> Deed:
    """What is recorded."""
    plain: dict[str, Any] = {
        "time_ms": NOW_MS, "plan_id": "0" * 64, "policy_digest": "1" * 64, "actor": "test", "action": action,
        "class_name": "reviews", "month": "", "generation": 0, "rows_before": 0, "rows_after": 0, "bytes_before": 0,
        "bytes_after": 0, "method": "rewrite",
    }  # fmt: skip
    return Deed(**plain | fields)


def here(action: Callable[[], T]) -> T:
    """The test's thread is the writer's."""
    return action()


def seal(store: Store, month: Month) -> MonthInfo:
    """All three steps."""
    store.fence(month)
    return store.adopt(store.rebuild(month, MonthState.SEALED))


def freeze(store: Store, month: Month, types: Sequence[str]) -> Frozen:
    """The numbers of some types, counted and kept."""
    reader = store.reader()
    try:
        frozen = reader.freeze(month, types)
    finally:
        reader.close()
    store.records.keep(frozen, deed("freeze"))
    return frozen


def rewrite(
    store: Store,
    month: Month,
    how: Profile | None,
    types: Sequence[str],
    *,
    forms: Sequence[str] = (RAW,),
    holds: Sequence[Hold] = (),
) -> Rewritten:
    """A rewrite, adopted."""
    made = store.rewrite(month, Rewrite(Selection(tuple(types), tuple(forms)), how, tuple(holds)), here)
    store.adopt(made, deed())
    return made


def stocks(store: Store, month: Month, *holds: Hold) -> Mapping[tuple[str, str], Stock]:
    """(type, form) -> what there is."""
    reader = store.reader()
    try:
        return {(one.event_type, one.profile): one for one in reader.stocks(month, holds).stocks}
    finally:
        reader.close()


def events_of(store: Store, month: Month) -> list[Event]:
    """Its events in the order of positions."""
    reader = store.reader()
    try:
        where = EventFilter(start_ms=month.start_ms, end_ms=month.end_ms)
        return [event for page in pages(reader, where, Order.POSITION_ASC, 100, as_of=store.head) for event in page]
    finally:
        reader.close()


@contextmanager
def sealed_rows(store: Store, month: Month, generation: int | None = None) -> Iterator[SealedRows]:
    """The rows of a sealed month."""
    with closing(store.reader()) as reader, reader.sealed(month, generation=generation) as rows:
        yield rows
