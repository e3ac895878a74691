"""Stores whose sealed months lose rows: numbers frozen before, as retention does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from retention.chain import Deed
from retention.month import Month
from server.frozen import Frozen
from server.model import Event, EventFilter, MonthInfo, MonthState, Order
from server.rewriting import Loss, Losses
from server.storage.contract import Store
from tests.support.events import Sent, append, make_id, pages, positions, sent_part

NOW_MS = 1_800_000_000_000


def deed(action: str = "freeze", **fields: Any) -> Deed:
    plain: dict[str, Any] = {
        "time_ms": NOW_MS, "plan_id": "0" * 64, "policy_digest": "1" * 64, "actor": "test", "action": action,
        "class_name": "reviews", "month": "", "generation": 0, "rows_before": 0, "rows_after": 0, "bytes_before": 0,
        "bytes_after": 0, "method": "rewrite",
    }  # fmt: skip
    return Deed(**plain | fields)


def seal(store: Store, month: Month) -> MonthInfo:
    store.fence(month)
    return store.adopt(store.rebuild(month, MonthState.SEALED))


def events_of(store: Store, month: Month) -> list[Event]:
    reader = store.reader()
    try:
        where = EventFilter(start_ms=month.start_ms, end_ms=month.end_ms)
        return [event for page in pages(reader, where, Order.POSITION_ASC, 1000, as_of=store.head) for event in page]
    finally:
        reader.close()


def freeze(store: Store, month: Month, types: Sequence[str]) -> Frozen:
    reader = store.reader()
    try:
        return reader.freeze(month, types)
    finally:
        reader.close()


def lose(
    store: Store, month: Month, gone: Mapping[str, Callable], treated: Mapping[str, Loss], number: int = 10**9
) -> None:
    types = sorted(gone.keys() | treated.keys())
    frozen = freeze(store, month, types)
    store.adopt(store.rebuild(month, MonthState.OPEN))
    events = events_of(store, month)
    out = [e for e in events if e.type in gone and gone[e.type](e)]
    changed = [e for e in events if e.type in treated]
    store.remove(month, positions(out + changed))
    for e in changed:
        loss = treated[e.type]
        number += 1
        time = e.timestamp_ms // loss.grain_ms * loss.grain_ms if loss.grain_ms else e.timestamp_ms
        append(
            store,
            replace(
                sent_part(e),
                id=make_id(number),
                user_id="" if loss.users else e.user_id,
                timestamp_ms=max(time, month.start_ms),
            ),
            source=e.source,
        )
    seal(store, month)
    store.records.keep(frozen, deed())
    lost = {**{name: Loss(gone=True) for name in gone}, **treated}
    info = next(i for i in store.months() if i.month == month)
    if hasattr(store.records, "lose"):
        store.records.lose(month, lost, deed("anonymize"))
    else:
        store.records.become(info, lost, deed("anonymize"))
