"""Questions as the surface sees them: pages of events, counts, the registry of types."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from server.errors import Invalid, NotFound, PositionOutOfRange
from server.model import Count, Dimension, Event, EventFilter, EventType, Keyset, Order
from server.query import aggregate, page_token
from server.query.aggregate import Aggregated
from server.query.counts import counts_of, question_of
from server.query.page_token import PageToken
from server.query.question_plan import Asked, plan_of
from server.query.readers import Readers
from server.storage.contract import Reader, Store

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1_000
PAGE_BYTES_MAX = 3 * 1024 * 1024
"""Go, Java and Node take messages of 4 MiB by default."""
FETCH_EVENTS = 200
"""Read at a time, so that a page of huge events does not have to fit into memory before it is cut."""
FILTER_VALUES_MAX = 1_000
"""In one repeated part of a filter."""

_T = TypeVar("_T")


class QueryService:
    """Answers questions, each cut at the head of the moment it is asked."""

    def __init__(self, store: Store, readers: Readers, *, answer_rows_max: int, open_registry: bool) -> None:
        self._store = store
        self._readers = readers
        self._answer_rows_max = answer_rows_max
        self.open_registry = open_registry

    async def list_events(
        self,
        where: EventFilter,
        order: Order,
        *,
        page_size: int,
        token: str,
        at_least: int | None,
        encode: Callable[[Sequence[Event], str, int], _T],
    ) -> _T:
        """One page as `encode` makes it of its events, the token of the next page ("" at the end), and the head.

        That is done on the reader's thread: a large page must not hold up the event loop.
        """
        judge_filter(where)
        size = _page_size(page_size)
        asked = page_token.digest("events", where, order)
        after: Keyset | None = None
        if token:
            place = page_token.decode(token, asked)
            if not isinstance(place.place, tuple) or len(place.place) != 2:
                raise Invalid("PAGE_TOKEN_INVALID", "this is not a page token of a list of events", field="page_token")
            after, as_of = Keyset(*place.place), min(place.as_of, self._store.head)
        else:
            as_of = self._cut(at_least)

        def page(reader: Reader) -> _T:
            events, more = _read_page(reader, where, order, size, after, as_of)
            if not more:
                return encode(events, "", as_of)
            place = (events[-1].timestamp_ms, events[-1].position)
            return encode(events, page_token.encode(PageToken(asked, as_of, place)), as_of)

        return await self._readers.ask("list_events", page)

    async def count_events(
        self, where: EventFilter, by: Sequence[Dimension], *, at_least: int | None
    ) -> tuple[Sequence[Count], int]:
        """The counts, and the head that they are cut at."""
        judge_filter(where)
        if len(set(by)) != len(by):
            raise Invalid("DIMENSION_INVALID", "each dimension at most once", field="by")
        as_of = self._cut(at_least)
        question = question_of(where, by)
        if question is None:
            counts = await self._readers.ask("count_events", lambda reader: reader.count_events(where, by, as_of=as_of))
            return counts, as_of
        answer = await self._readers.ask("count_events", lambda reader: reader.aggregate([question]))
        return counts_of(answer.tables[0], by), answer.as_of

    async def aggregate(self, asked: Asked, *, at_least: int | None, encode: Callable[[Aggregated, float], _T]) -> _T:
        """The answer to an aggregate question, as `encode` makes it of the answer and the milliseconds it took.

        That is done on the reader's thread: a large answer must not hold up the event loop.
        """
        start = time.perf_counter()
        plan = plan_of(asked, answer_rows_max=self._answer_rows_max)
        self._cut(at_least)

        def answer(reader: Reader) -> _T:
            answered = aggregate.answer(reader, plan)
            return encode(answered, (time.perf_counter() - start) * 1000)

        return await self._readers.ask("aggregate", answer)

    def _cut(self, at_least: int | None) -> int:
        head = self._store.head
        if at_least is not None and at_least > head:
            raise PositionOutOfRange(
                "POSITION_AHEAD",
                f"position {at_least} is asked for and the head is {head}",
                hint="ask with a position that an answer of this daemon gave",
                field="at_least_position",
            )
        return head

    def list_types(self, *, page_size: int, token: str) -> tuple[Sequence[EventType], str]:
        """One page of the registry, by name, and the token of the next page."""
        size = _page_size(page_size)
        asked = page_token.digest("types")
        behind = ""
        if token:
            place = page_token.decode(token, asked).place
            behind = place if isinstance(place, str) else ""
        entries = [entry for entry in self._store.event_types() if entry.name > behind]
        if len(entries) <= size:
            return entries, ""
        return entries[:size], page_token.encode(PageToken(asked, 0, entries[size - 1].name))

    def describe_type(self, name: str) -> EventType:
        """One entry of the registry; NotFound if there is none."""
        for entry in self._store.event_types():
            if entry.name == name:
                return entry
        raise NotFound(
            "TYPE_UNKNOWN",
            f"there is no event type {name!r}",
            hint="list the types to see which there are",
            field="name",
        )


def _read_page(
    reader: Reader, where: EventFilter, order: Order, size: int, after: Keyset | None, as_of: int
) -> tuple[list[Event], bool]:
    """At most `size` events and PAGE_BYTES_MAX bytes, and whether there are more."""
    page: list[Event] = []
    page_bytes = 0
    while True:
        wanted = min(size + 1 - len(page), FETCH_EVENTS + 1)
        found = reader.list_events(where, order, wanted, after=after, as_of=as_of)
        for event in found:
            page_bytes += _bytes_of(event)
            if len(page) == size or (page and page_bytes > PAGE_BYTES_MAX):
                return page, True
            page.append(event)
        if len(found) < wanted:
            return page, False
        after = Keyset(page[-1].timestamp_ms, page[-1].position)


def _bytes_of(event: Event) -> int:
    """About how many bytes the event has on the wire, never much less."""
    texts = [event.type, event.user_id, event.source, event.session_id, event.client_ip, event.description]
    texts += (*event.tags, event.metadata)
    if change := event.change:
        texts += [change.table_name, change.row_id, change.old_values, change.new_values]
    return 80 + 4 * len(texts) + len("".join(texts).encode())


def _page_size(asked: int) -> int:
    if asked < 0:
        raise Invalid("PAGE_SIZE_INVALID", "page_size is negative", hint="0 takes the default", field="page_size")
    return min(asked or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def judge_filter(where: EventFilter) -> None:
    """Raises Invalid if a filter is larger than one may be, or contradicts itself."""
    for name in ("types", "user_ids", "sources", "session_ids", "tags"):
        values = getattr(where, name)
        if len(values) > FILTER_VALUES_MAX:
            raise Invalid(
                "FILTER_TOO_LARGE",
                f"{len(values)} values; at most {FILTER_VALUES_MAX} are taken",
                field=f"filter.{name}",
            )
    if where.start_ms is not None and where.end_ms is not None and where.start_ms >= where.end_ms:
        raise Invalid("RANGE_INVALID", "start_ms must be before end_ms", field="filter.start_ms")
