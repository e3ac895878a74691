"""Deciding which of the offered events are taken.

A batch is looked at column by column first, with a handful of calls that run in C; nearly every batch passes and no
single event is touched. Only when a column looks odd is each event judged by itself. Both ways come to the same verdict
(a property test compares them).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from retention.month import Month
from server.config import Limits
from server.errors import Precondition
from server.ingest import rules
from server.ingest.event_types import EventTypes
from server.ingest.offered import Offered, OfferedChange
from server.ingest.rules import Fault
from server.model import Absent, Action, Batch, Change, ChangeStatus, Item, Outcome

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Admitted:
    """The verdict on one batch: what goes to the store, and what is rejected before."""

    batch: Batch
    rows: Sequence[int] | None
    """Which offered event each row of `batch` is; None if it is simply all of them."""
    rejected: tuple[Item, ...] = ()


class Admission:
    """Judges batches against the limits and the registry."""

    def __init__(self, limits: Limits, types: EventTypes, now_ms: Callable[[], int]) -> None:
        self._limits = limits
        self._types = types
        self._now_ms = now_ms
        self._oldest_ms = limits.oldest_timestamp_ms

    def admit(self, offered: Offered, *, source: str, atomic: bool, faults: dict[int, Fault] | None = None) -> Admitted:
        """Splits a batch into what is taken and what is rejected. `faults` are known from decoding.

        Raises Precondition if the batch as a whole is refused.
        """
        now_ms = self._now_ms()
        filled = self._fill(offered, now_ms)
        found = dict(faults or {})
        if found or not self._all_well(filled, now_ms):
            found = self._judge_each(filled, now_ms, found)
        if atomic and not found:
            self._refuse_two_months(filled)
        if not found:
            return Admitted(self._batch(filled, source, now_ms, atomic=atomic), None)
        if atomic:
            return Admitted(self._batch(_pick(filled, []), source, now_ms, atomic=True), [], _abort(len(filled), found))
        rows = [row for row in range(len(filled)) if row not in found]
        rejected = tuple(_item(row, fault) for row, fault in sorted(found.items()))
        return Admitted(self._batch(_pick(filled, rows), source, now_ms, atomic=False), rows, rejected)

    # Filling in what the sender left to the server

    def _fill(self, offered: Offered, now_ms: int) -> Offered:
        """Times from UUIDv7 ids or the clock, then ids for events without one (RFC 9562, 5.7)."""
        filled = offered
        if None in offered.timestamps_ms:
            filled = replace(
                filled,
                timestamps_ms=[
                    self._time(event_id, now_ms) if sent is None else sent
                    for event_id, sent in zip(offered.ids, offered.timestamps_ms, strict=True)
                ],
            )
        if b"" in offered.ids:
            filled = replace(
                filled,
                ids=[
                    event_id or rules.new_uuid7(now_ms if timestamp_ms is None else timestamp_ms)
                    for event_id, timestamp_ms in zip(filled.ids, filled.timestamps_ms, strict=True)
                ],
            )
        return filled

    @staticmethod
    def _time(event_id: bytes, now_ms: int) -> int | None:
        if not event_id:
            return now_ms
        return rules.uuid7_time_ms(event_id) if rules.is_uuid7(event_id) else None

    # Column by column

    def _all_well(self, events: Offered, now_ms: int) -> bool:
        """Whether every event is certainly fine. False means: look closer."""
        if not len(events):
            return True
        limits = self._limits
        times = events.timestamps_ms
        return (
            set(map(len, events.ids)) == {16}
            and rules.NIL_ID not in events.ids
            and self._types.known.issuperset(events.types)
            and None not in times
            and min(times) >= self._oldest_ms  # type: ignore[type-var,operator]  # no None is among them
            and max(times) <= now_ms + limits.future_skew_max_ms  # type: ignore[type-var,operator]
            and _texts_fit(events.user_ids, limits.user_id_bytes_max)
            and _texts_fit(events.session_ids, limits.session_id_bytes_max)
            and _texts_fit(events.descriptions, limits.description_bytes_max)
            and (isinstance(events.client_ips, Absent) or all(map(rules.is_address, set(events.client_ips))))
            and self._metadata_fits(events.metadata)
            and not any(map(self._tags_fault, set(events.tags.values())))
            and not any(self._change_fault(change) for change in events.changes.values())
        )

    def _metadata_fits(self, metadata: Sequence[str]) -> bool:
        limits = self._limits
        if not any(metadata):
            return True
        whole = "".join(metadata)
        return (
            max(map(len, metadata)) * 4 <= limits.metadata_bytes_max
            and (
                # Every object has a bracket of its own: as many as objects means that none is nested.
                whole.count("{") + whole.count("[") == len(metadata) - metadata.count("")
                or all(text.count("{") + text.count("[") <= limits.metadata_depth_max for text in metadata)
            )
            and "\\u0000" not in whole
            and rules.are_objects(metadata)
        )

    # Event by event

    def _judge_each(self, events: Offered, now_ms: int, known: dict[int, Fault]) -> dict[int, Fault]:
        found = dict(known)
        for row in range(len(events)):
            if row not in found and (fault := self._fault(events, row, now_ms)):
                found[row] = fault
        return found

    def _fault(self, events: Offered, row: int, now_ms: int) -> Fault | None:
        """The first thing wrong with one event."""
        limits = self._limits
        change = events.changes.get(row)
        return (
            _id_fault(events.ids[row])
            or rules.type_name(events.types[row])
            or self._time_fault(events.timestamps_ms[row], now_ms)
            or rules.plain_text(events.user_ids[row], "user_id", bytes_max=limits.user_id_bytes_max)
            or rules.plain_text(events.session_ids[row], "session_id", bytes_max=limits.session_id_bytes_max)
            or rules.plain_text(events.descriptions[row], "description", bytes_max=limits.description_bytes_max)
            or _address_fault(events.client_ips[row])
            or rules.json_object(
                events.metadata[row],
                "metadata",
                bytes_max=limits.metadata_bytes_max,
                depth_max=limits.metadata_depth_max,
            )
            or self._tags_fault(events.tags.get(row, ()))
            or (self._change_fault(change) if change else None)
            # Last, because passing it registers the type.
            or self._registry_fault(events.types[row])
        )

    def _time_fault(self, timestamp_ms: int | None, now_ms: int) -> Fault | None:
        field = "timestamp_ms"
        if timestamp_ms is None:
            message = (
                "an event whose id is not a UUIDv7 needs a timestamp_ms: there is no other time that a resend keeps"
            )
            return Fault("TIMESTAMP_REQUIRED", message, field)
        if timestamp_ms < self._oldest_ms:
            message = f"{timestamp_ms} is before {self._limits.oldest_month}, the oldest month that is taken"
            return Fault("TIMESTAMP_TOO_OLD", f"{message}; times are milliseconds since 1970", field)
        if timestamp_ms > now_ms + self._limits.future_skew_max_ms:
            message = f"{timestamp_ms} is more than {self._limits.future_skew_max_ms} ms ahead of the server's clock"
            return Fault("TIMESTAMP_IN_FUTURE", f"{message}; times are milliseconds since 1970", field)
        return None

    def _registry_fault(self, name: str) -> Fault | None:
        refusal = self._types.refusal(name)
        return Fault(*refusal, "type") if refusal else None

    def _tags_fault(self, tags: tuple[str, ...]) -> Fault | None:
        limits = self._limits
        if len(tags) > limits.tags_max:
            return Fault("TAG_INVALID", f"{len(tags)} tags; at most {limits.tags_max} are taken", "tags")
        if len(set(tags)) != len(tags):
            return Fault("TAG_INVALID", "a tag is there twice", "tags")
        for tag in tags:
            if not tag:
                return Fault("TAG_INVALID", "a tag is empty", "tags")
            if fault := rules.plain_text(tag, "tags", bytes_max=limits.tag_bytes_max):
                return fault
        return None

    def _change_fault(self, change: OfferedChange) -> Fault | None:
        limits = self._limits
        if not change.table_name:
            return Fault("CHANGE_INVALID", "a change needs a table_name", "change.table_name")
        if not change.row_id and not (change.rows_affected or 0) > 1:
            return Fault("CHANGE_INVALID", "a change needs a row_id unless it affects many rows", "change.row_id")
        if change.action not in tuple(Action):
            return Fault("CHANGE_INVALID", "the action must be CREATE, UPDATE or DELETE", "change.action")
        if change.status not in (0, *ChangeStatus):
            return Fault("CHANGE_INVALID", "the status must be SUCCESS or FAILED", "change.status")
        if change.rows_affected is not None and change.rows_affected < 0:
            return Fault("CHANGE_INVALID", "rows_affected is negative", "change.rows_affected")
        sizes = {"bytes_max": limits.metadata_bytes_max, "depth_max": limits.metadata_depth_max}
        return (
            rules.plain_text(change.table_name, "change.table_name", bytes_max=limits.tag_bytes_max)
            or rules.plain_text(change.row_id, "change.row_id", bytes_max=limits.row_id_bytes_max)
            or rules.json_object(change.old_values, "change.old_values", **sizes)
            or rules.json_object(change.new_values, "change.new_values", **sizes)
        )

    # The result

    def _refuse_two_months(self, events: Offered) -> None:
        times = [timestamp_ms for timestamp_ms in events.timestamps_ms if timestamp_ms is not None]
        if times and Month.of(min(times)) != Month.of(max(times)):
            first, last = Month.of(min(times)), Month.of(max(times))
            raise Precondition(
                "ATOMIC_SPANS_MONTHS",
                f"an atomic batch must be of one month; this one goes from {first} to {last}",
                hint="commits are per month: send one atomic batch a month",
                field="events",
            )

    @staticmethod
    def _batch(events: Offered, source: str, now_ms: int, *, atomic: bool) -> Batch:
        return Batch(
            source,
            now_ms,
            events.ids,
            events.types,
            events.user_ids,
            events.timestamps_ms,  # type: ignore[arg-type]  # no None is left
            events.session_ids,
            events.client_ips,
            events.descriptions,
            events.metadata,
            events.tags,
            {row: _change(change) for row, change in events.changes.items()},
            atomic,
        )


def _texts_fit(texts: Sequence[str], bytes_max: int) -> bool:
    if isinstance(texts, Absent):
        return True
    return max(map(len, texts)) * 4 <= bytes_max and "\0" not in "".join(texts)


def _id_fault(event_id: bytes) -> Fault | None:
    if len(event_id) != 16:
        return Fault("ID_INVALID", f"an id has 16 bytes, this one {len(event_id)}; UUIDv7 is recommended", "id")
    if event_id == rules.NIL_ID:
        return Fault("ID_INVALID", "the id is all zeros; leave it empty to let the server assign one", "id")
    return None


def _address_fault(client_ip: str) -> Fault | None:
    if rules.is_address(client_ip):
        return None
    return Fault("CLIENT_IP_INVALID", "client_ip is neither an IPv4 nor an IPv6 address", "client_ip")


def _change(offered: OfferedChange) -> Change:
    return Change(
        offered.table_name,
        offered.row_id,
        Action(offered.action),
        offered.old_values,
        offered.new_values,
        ChangeStatus(offered.status or ChangeStatus.SUCCESS),
        offered.rows_affected,
    )


def _item(row: int, fault: Fault) -> Item:
    return Item(row, Outcome.REJECTED, fault.reason, fault.message, fault.field)


def _abort(size: int, found: dict[int, Fault]) -> tuple[Item, ...]:
    message = "nothing of this atomic batch was stored because other events of it were rejected"
    return tuple(
        _item(row, found[row])
        if row in found
        else Item(row, Outcome.REJECTED, "ATOMIC_ABORTED", message, retryable=True)
        for row in range(size)
    )


def _pick(events: Offered, rows: Sequence[int]) -> Offered:
    def of(column: Sequence[_T]) -> list[_T]:
        return [column[row] for row in rows]  # `Absent` becomes a list of "": rare enough

    place = {row: new for new, row in enumerate(rows)}
    return Offered(
        of(events.ids),
        of(events.types),
        of(events.user_ids),
        of(events.timestamps_ms),
        of(events.session_ids),
        of(events.client_ips),
        of(events.descriptions),
        of(events.metadata),
        {place[row]: tags for row, tags in events.tags.items() if row in place},
        {place[row]: change for row, change in events.changes.items() if row in place},
    )
