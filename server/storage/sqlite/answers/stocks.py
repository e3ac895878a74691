"""What a month has by type and form, for planning: as the file of a sealed month says, else as it is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from retention.facts import NOTHING_HELD, RAW, Stock
from retention.hold import Hold
from retention.policy import Claim
from server.model import MonthInfo
from server.question import Answer, Bucket, BucketUnit, Field, FieldKind, Metric, MetricKind, Question
from server.rewriting import MonthStocks
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite.answers.files import Files
from server.storage.sqlite.held_rows import held_by_type
from server.time_buckets import QUARTER_MS


def sealed_stocks(files: Files, info: MonthInfo, holds: Iterable[Hold], size_bytes: int) -> MonthStocks:
    """Of a sealed month: counted when it was sealed, or rewritten."""
    connection = files.truth(info)
    about = dict(sqlite.fetch(connection, "SELECT key, value FROM about"))
    counted = sqlite.fetch(
        connection,
        # The weakest claim of a form: its rows may have gone through the profile twice, and kept the claim only once.
        "SELECT s.type, t.name, coalesce(f.profile, ''), max(coalesce(f.claim, '')), sum(s.rows) FROM stocks s "
        "JOIN types t ON t.key = s.type LEFT JOIN forms f ON f.key = s.form GROUP BY 1, 3 ORDER BY 2, 3",
    )
    held = held_by_type(connection, info.month, holds)
    total = sum(rows for *_words, rows in counted)
    stocks = tuple(
        Stock(
            event_type=name,
            rows=rows,
            bytes=size_bytes * rows // total,
            profile=profile,
            claim=Claim(claim) if claim else Claim.PSEUDONYMOUS,
            held=held.get(key, NOTHING_HELD) if profile == RAW else NOTHING_HELD,
        )
        for key, name, profile, claim, rows in counted
    )
    return MonthStocks(
        info.month, info.generation, info.state, str(about["digest"]), stocks, about["first_ms"], about["last_ms"]
    )


def open_stocks(
    files: Files, ask: Callable[[Question], Answer], info: MonthInfo, holds: Iterable[Hold], size_bytes: int
) -> MonthStocks:
    """Of a month that takes events, or is about to be sealed. Its first and last times are known to a quarter-hour."""
    events = Metric(MetricKind.EVENTS)
    start_ms, end_ms = info.month.start_ms, info.month.end_ms
    by_type = _counts(ask(Question((events,), (Field(FieldKind.TYPE),), start_ms=start_ms, end_ms=end_ms)))
    quarters = _counts(ask(Question((events,), (Bucket(BucketUnit.QUARTER_HOUR),), start_ms=start_ms, end_ms=end_ms)))
    starts = [int(start) for start in quarters]
    with files.question():
        connection = files.truth(info)
        keys = dict(sqlite.fetch(connection, "SELECT name, key FROM types"))
        held = held_by_type(connection, info.month, holds, sealed=False)
    total = sum(by_type.values())
    stocks = tuple(
        Stock(name, rows, size_bytes * rows // total, held=held.get(keys.get(name, 0), NOTHING_HELD))
        for name, rows in sorted(by_type.items())
    )
    first, last = (min(starts), max(starts) + QUARTER_MS - 1) if starts else (None, None)
    return MonthStocks(info.month, info.generation, info.state, "", stocks, first, last)


def _counts(answer: Answer) -> dict[str, int]:
    (table,) = answer.tables
    return {str(key): int(events or 0) for key, events in zip(table.keys[0], table.values[0], strict=True)}
