"""Where a subscription begins that is asked to begin with a time of receipt.

Times of receipt rise with positions, as long as the machine's clock does: so a month is searched by halves. Where the
clock was set back the times fall once; then the search finds one of the places where they pass the time asked for. What
was received before the clock was set back and lies in front of that place does not come, whatever its time of receipt
says. To be certain of everything, begin with a position.
"""

from __future__ import annotations

from collections.abc import Sequence

from retention.month import Month
from server.errors import Corrupt
from server.model import Event, EventFilter, Keyset, Order
from server.storage.contract import Reader
from server.subscribe.missing import Missing


def before_received(reader: Reader, missing: Missing, received_ms: int, head: int) -> int:
    """The position behind which the first event lies that was received at or after a time; the head if there is none.

    Asks a month once if it has nothing earlier to offer than what is known already, about 30 times if it has.
    """
    first = head + 1
    newest_first = sorted(missing.survey().items(), key=lambda entry: entry[1], reverse=True)
    for month, _last in newest_first:
        if month not in missing.months:
            try:
                first = _first_in(reader, month, received_ms, first)
            except Corrupt:
                missing.note_damage(month)
    return first - 1


def _first_in(reader: Reader, month: Month, received_ms: int, first: int) -> int:
    """The first position of the month with such a time, or `first` if that is not behind it."""
    where = EventFilter(month.start_ms, month.end_ms)

    def ask(order: Order, after: int | None) -> Sequence[Event]:
        return reader.list_events(where, order, 1, after=None if after is None else Keyset(0, after), as_of=first - 1)

    last = ask(Order.POSITION_DESC, None)
    if not last or last[0].received_ms < received_ms:
        return first
    # All up to `low` was received too early; the event at `first` was not; between `high` and `first` there is none.
    low, first = 0, last[0].position
    high = first - 1
    while low < high:
        middle = (low + high) // 2
        found = ask(Order.POSITION_ASC, middle)
        if not found:
            high = middle
        elif found[0].received_ms < received_ms:
            low = found[0].position
        else:
            first, high = found[0].position, middle
    return first
