"""What aggregate questions promise about time buckets: the wall clocks of the world, and the days they change on.

Expected instants are written out with their offsets, from the rules of each zone: server.time_buckets is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from server.errors import Invalid
from server.question import Bucket, BucketUnit, Metric, MetricKind, Question, Ranking
from server.storage.contract import Reader, Store
from tests.support.answers import EVENTS, TYPE, USER, USERS, ask, counted, instant
from tests.support.events import Sent, append, make_id

QUARTER, HOUR, DAY, WEEK, MONTH = (Bucket(unit) for unit in BucketUnit)
QUARTER_MS = 900_000


def _at(*moments: str | int, **content: str) -> Iterator[Sent]:
    """Events at these instants, ISO 8601 or milliseconds."""
    for moment in moments:
        timestamp_ms = instant(moment) if isinstance(moment, str) else moment
        yield Sent(make_id(timestamp_ms), timestamp_ms, **content)  # type: ignore[arg-type]


def _quarters(start: str, end: str) -> range:
    """Every quarter-hour from one instant up to another."""
    return range(instant(start), instant(end), QUARTER_MS)


def test_the_units_in_utc(store: Store, reader: Reader) -> None:
    """First and last millisecond of a bucket and the first of the next, over the turn of a year."""
    append(
        store,
        *_at("2025-12-29T00:00Z", "2025-12-31T23:59:59.999Z", "2026-01-01T00:00Z", "2026-01-04T23:59:59.999Z"),
        *_at("2025-12-28T23:59:59.999Z", "2026-01-05T00:00Z", "2025-12-31T23:44:59.999Z", "2025-12-31T23:45Z"),
    )
    expected = {
        QUARTER: {
            "2025-12-28T23:45Z": 1,
            "2025-12-29T00:00Z": 1,
            "2025-12-31T23:30Z": 1,
            "2025-12-31T23:45Z": 2,
            "2026-01-01T00:00Z": 1,
            "2026-01-04T23:45Z": 1,
            "2026-01-05T00:00Z": 1,
        },
        HOUR: {
            "2025-12-28T23:00Z": 1,
            "2025-12-29T00:00Z": 1,
            "2025-12-31T23:00Z": 3,
            "2026-01-01T00:00Z": 1,
            "2026-01-04T23:00Z": 1,
            "2026-01-05T00:00Z": 1,
        },
        DAY: {
            "2025-12-28T00:00Z": 1,
            "2025-12-29T00:00Z": 1,
            "2025-12-31T00:00Z": 3,
            "2026-01-01T00:00Z": 1,
            "2026-01-04T00:00Z": 1,
            "2026-01-05T00:00Z": 1,
        },
        WEEK: {"2025-12-22T00:00Z": 1, "2025-12-29T00:00Z": 6, "2026-01-05T00:00Z": 1},
        MONTH: {"2025-12-01T00:00Z": 5, "2026-01-01T00:00Z": 3},
    }
    for bucket, counts in expected.items():
        assert counted(reader, bucket) == [(instant(key), events) for key, events in counts.items()]


@pytest.mark.parametrize(
    ("zone", "bucket", "moment", "key"),
    [
        # Clocks forward: the hour from 02:00 is skipped.
        ("Europe/Berlin", HOUR, "2025-03-30T00:59:59.999Z", "2025-03-30T01:00+01:00"),
        ("Europe/Berlin", HOUR, "2025-03-30T01:00Z", "2025-03-30T03:00+02:00"),
        ("Europe/Berlin", DAY, "2025-03-29T23:00Z", "2025-03-30T00:00+01:00"),
        ("Europe/Berlin", DAY, "2025-03-30T21:59:59.999Z", "2025-03-30T00:00+01:00"),
        ("Europe/Berlin", DAY, "2025-03-30T22:00Z", "2025-03-31T00:00+02:00"),
        ("Europe/Berlin", WEEK, "2025-03-30T21:59:59.999Z", "2025-03-24T00:00+01:00"),
        ("Europe/Berlin", MONTH, "2025-03-31T21:59:59.999Z", "2025-03-01T00:00+01:00"),
        ("Europe/Berlin", MONTH, "2025-03-31T22:00Z", "2025-04-01T00:00+02:00"),
        # Clocks back: the hour from 02:00 passes twice.
        ("Europe/Berlin", HOUR, "2025-10-26T00:30Z", "2025-10-26T02:00+02:00"),
        ("Europe/Berlin", HOUR, "2025-10-26T01:30Z", "2025-10-26T02:00+01:00"),
        ("Europe/Berlin", QUARTER, "2025-10-26T00:59Z", "2025-10-26T02:45+02:00"),
        ("Europe/Berlin", QUARTER, "2025-10-26T01:59Z", "2025-10-26T02:45+01:00"),
        ("Europe/Berlin", DAY, "2025-10-26T22:59:59.999Z", "2025-10-26T00:00+02:00"),
        ("Europe/Berlin", WEEK, "2025-10-26T22:59:59.999Z", "2025-10-20T00:00+02:00"),
        ("Europe/Berlin", WEEK, "2025-10-26T23:00Z", "2025-10-27T00:00+01:00"),
        ("Europe/Berlin", MONTH, "2025-10-31T22:59Z", "2025-10-01T00:00+02:00"),
        ("America/New_York", HOUR, "2025-03-09T06:59Z", "2025-03-09T01:00-05:00"),
        ("America/New_York", HOUR, "2025-03-09T07:00Z", "2025-03-09T03:00-04:00"),
        ("America/New_York", HOUR, "2025-11-02T05:30Z", "2025-11-02T01:00-04:00"),
        ("America/New_York", HOUR, "2025-11-02T06:30Z", "2025-11-02T01:00-05:00"),
        ("America/New_York", DAY, "2025-11-03T04:59Z", "2025-11-02T00:00-04:00"),
        ("America/New_York", MONTH, "2025-12-01T04:59Z", "2025-11-01T00:00-04:00"),
        # Halves and quarters of an hour ahead, all year.
        ("Asia/Kolkata", HOUR, "2025-11-24T12:29Z", "2025-11-24T17:00+05:30"),
        ("Asia/Kolkata", HOUR, "2025-11-24T12:30Z", "2025-11-24T18:00+05:30"),
        ("Asia/Kolkata", DAY, "2025-11-24T18:30Z", "2025-11-25T00:00+05:30"),
        ("Asia/Kathmandu", QUARTER, "2025-11-24T12:14Z", "2025-11-24T17:45+05:45"),
        ("Asia/Kathmandu", HOUR, "2025-11-24T12:14Z", "2025-11-24T17:00+05:45"),
        ("Asia/Kathmandu", HOUR, "2025-11-24T12:15Z", "2025-11-24T18:00+05:45"),
        ("Asia/Kathmandu", MONTH, "2025-11-30T18:15Z", "2025-12-01T00:00+05:45"),
        # Half an hour back: from 02:00 (+11:00) to 01:30 (+10:30), and forward from 02:00 to 02:30.
        ("Australia/Lord_Howe", HOUR, "2025-04-05T14:59Z", "2025-04-06T01:00+11:00"),
        ("Australia/Lord_Howe", HOUR, "2025-04-05T15:00Z", "2025-04-06T01:00+10:30"),
        ("Australia/Lord_Howe", QUARTER, "2025-04-05T14:30Z", "2025-04-06T01:30+11:00"),
        ("Australia/Lord_Howe", QUARTER, "2025-04-05T15:00Z", "2025-04-06T01:30+10:30"),
        ("Australia/Lord_Howe", HOUR, "2025-04-05T15:30Z", "2025-04-06T02:00+10:30"),
        ("Australia/Lord_Howe", HOUR, "2025-10-04T15:29Z", "2025-10-05T01:00+10:30"),
        ("Australia/Lord_Howe", HOUR, "2025-10-04T15:30Z", "2025-10-05T02:00+11:00"),
        ("Australia/Lord_Howe", QUARTER, "2025-10-04T15:30Z", "2025-10-05T02:30+11:00"),
        ("Australia/Lord_Howe", DAY, "2025-10-05T12:59Z", "2025-10-05T00:00+10:30"),
        # Midnight passes twice (01:00 to 00:00), or is skipped (00:00 to 01:00; 24:00 to 01:00).
        ("America/Havana", DAY, "2025-11-02T04:00Z", "2025-11-02T00:00-04:00"),
        ("America/Havana", DAY, "2025-11-02T05:30Z", "2025-11-02T00:00-04:00"),
        ("America/Havana", HOUR, "2025-11-02T05:30Z", "2025-11-02T00:00-05:00"),
        ("America/Havana", DAY, "2025-03-09T05:00Z", "2025-03-09T01:00-04:00"),
        ("Asia/Beirut", DAY, "2025-03-30T20:00Z", "2025-03-30T01:00+03:00"),
        ("America/Santiago", WEEK, "2025-09-07T04:00Z", "2025-09-01T00:00-04:00"),
        ("America/Santiago", DAY, "2025-09-07T04:00Z", "2025-09-07T01:00-03:00"),
        # Clocks back over midnight: the 5th of April comes to an end twice.
        ("America/Santiago", DAY, "2025-04-06T03:30Z", "2025-04-05T00:00-03:00"),
        ("America/Santiago", DAY, "2025-04-06T04:00Z", "2025-04-06T00:00-04:00"),
        # The 30th of December 2011 never was.
        ("Pacific/Apia", DAY, "2011-12-30T09:59Z", "2011-12-29T00:00-10:00"),
        ("Pacific/Apia", DAY, "2011-12-30T10:00Z", "2011-12-31T00:00+14:00"),
        ("Pacific/Apia", WEEK, "2011-12-30T10:00Z", "2011-12-26T00:00-10:00"),
        # One minute after midnight to one minute after one: two hours of one name.
        ("America/St_Johns", HOUR, "2010-03-14T03:30Z", "2010-03-14T00:00-03:30"),
        ("America/St_Johns", HOUR, "2010-03-14T03:31Z", "2010-03-14T01:00-02:30"),
        # The first instant that is taken by default, west and east.
        ("America/New_York", MONTH, "2000-01-01T00:00Z", "1999-12-01T00:00-05:00"),
        ("Pacific/Kiritimati", MONTH, "2000-01-01T00:00Z", "2000-01-01T00:00+14:00"),
        ("UTC", WEEK, "2000-01-01T00:00Z", "1999-12-27T00:00Z"),
    ],
)
def test_the_bucket_of_an_instant(
    store: Store, reader: Reader, zone: str, bucket: Bucket, moment: str, key: str
) -> None:
    """It is named by the instant its first date began at, or at which the clock showed the hour's begin."""
    append(store, *_at(moment))
    assert counted(reader, bucket, time_zone=zone) == [(instant(key), 1)]


@pytest.mark.parametrize(
    ("zone", "start", "end", "odd"),
    [
        ("Europe/Berlin", "2025-03-30T00:00+01:00", "2025-03-31T00:00+02:00", {}),
        ("Europe/Berlin", "2025-10-26T00:00+02:00", "2025-10-27T00:00+01:00", {}),
        ("America/New_York", "2025-03-09T00:00-05:00", "2025-03-10T00:00-04:00", {}),
        ("America/New_York", "2025-11-02T00:00-04:00", "2025-11-03T00:00-05:00", {}),
        ("Asia/Kolkata", "2025-11-24T00:00+05:30", "2025-11-25T00:00+05:30", {}),
        ("Asia/Kathmandu", "2025-11-24T00:00+05:45", "2025-11-25T00:00+05:45", {}),
        (
            "Australia/Lord_Howe",
            "2025-04-06T00:00+11:00",
            "2025-04-07T00:00+10:30",
            {"2025-04-06T01:00+10:30": 2},
        ),
        (
            "Australia/Lord_Howe",
            "2025-10-05T00:00+10:30",
            "2025-10-06T00:00+11:00",
            {"2025-10-05T02:00+11:00": 2},
        ),
        ("America/Havana", "2025-11-02T00:00-04:00", "2025-11-03T00:00-05:00", {}),
        ("Asia/Beirut", "2025-03-30T01:00+03:00", "2025-03-31T00:00+03:00", {}),
    ],
)
def test_the_hours_of_a_day_on_which_clocks_change(
    store: Store, reader: Reader, zone: str, start: str, end: str, odd: dict[str, int]
) -> None:
    """A day is as long as it was and in one bucket; its hours have four quarters, but for those that clocks cut."""
    quarters = _quarters(start, end)
    append(store, *_at(*quarters, instant(end), instant(start) - 1))
    inside = {"start_ms": instant(start), "end_ms": instant(end), "time_zone": zone}
    assert counted(reader, DAY, **inside) == [(instant(start), len(quarters))]
    assert counted(reader, QUARTER, **inside) == [(quarter, 1) for quarter in quarters]
    hours = counted(reader, HOUR, **inside)
    assert [row for row in hours if row[1] != 4] == [(instant(hour), events) for hour, events in odd.items()]
    assert len(hours) == (len(quarters) + 3) // 4
    assert len(counted(reader, DAY, time_zone=zone)) == 3


def test_a_bucket_has_its_name_where_the_range_begins_within(store: Store, reader: Reader) -> None:
    """A range that cuts a bucket takes part of its events, under the same name."""
    append(store, *_at(*_quarters("2025-10-25T22:00Z", "2025-10-26T23:00Z")))
    inside = {
        "start_ms": instant("2025-10-26T00:20Z"),
        "end_ms": instant("2025-10-26T01:20Z"),
        "time_zone": "Europe/Berlin",
    }
    for bucket in (DAY, WEEK, MONTH):
        assert len(counted(reader, bucket, **inside)) == 1
    assert counted(reader, DAY, **inside) == [(instant("2025-10-26T00:00+02:00"), 4)]
    assert counted(reader, HOUR, **inside) == [
        (instant("2025-10-26T02:00+02:00"), 2),
        (instant("2025-10-26T02:00+01:00"), 2),
    ]


def test_buckets_go_over_months(store: Store, reader: Reader) -> None:
    """Local days, weeks and months gather events of two UTC months; users and numbers are computed over both."""
    append(store, *_at("2025-10-31T23:30Z", "2025-11-01T10:00Z", user_id="ann", metadata='{"n": 1}'))
    append(store, *_at("2025-11-01T22:59:59.999Z", user_id="bob", metadata='{"n": 4}'))
    append(store, *_at("2025-10-31T22:59Z", user_id="eve"))
    metrics = (EVENTS, USERS, Metric(MetricKind.P50, "n"))
    berlin = {"time_zone": "Europe/Berlin"}
    for bucket in (DAY, MONTH):
        earlier = instant("2025-10-31T00:00+01:00" if bucket is DAY else "2025-10-01T00:00+02:00")
        found = ask(reader, Question(metrics, (bucket,), **berlin))  # type: ignore[arg-type]
        assert found == [(earlier, 1, 1, None), (instant("2025-11-01T00:00+01:00"), 3, 2, 1.0)]
    found = ask(reader, Question(metrics, (WEEK,), **berlin))  # type: ignore[arg-type]
    assert found == [(instant("2025-10-27T00:00+01:00"), 4, 3, 1.0)]


def test_time_beside_other_dimensions(store: Store, reader: Reader) -> None:
    """In any place among the dimensions; rows are ordered by the instants, or as the question says, and limited."""
    append(store, *_at("2025-11-01T12:00Z", "2025-11-03T12:00Z", user_id="bob", type="a"))
    append(store, *_at("2025-11-01T13:00Z", "2025-11-02T12:00Z", user_id="ann", type="b"))
    first, second, third = (instant(f"2025-11-0{day}T00:00Z") for day in (1, 2, 3))
    assert counted(reader, DAY, USER) == [(first, "ann", 1), (first, "bob", 1), (second, "ann", 1), (third, "bob", 1)]
    assert counted(reader, TYPE, DAY) == [("a", first, 1), ("a", third, 1), ("b", first, 1), ("b", second, 1)]
    newest = Ranking(0, descending=True)
    assert counted(reader, DAY, order=(newest,), limit=2) == [(third, 1), (second, 1)]
    assert counted(reader, DAY, order=(Ranking(1, descending=True), newest)) == [(first, 2), (third, 1), (second, 1)]


def test_late_events_join_their_bucket(store: Store, reader: Reader) -> None:
    """An event that comes after later ones is counted in the bucket of its own time."""
    append(store, *_at("2025-11-02T12:00Z", "2025-12-02T12:00Z"))
    assert len(counted(reader, DAY)) == 2
    append(store, *_at("2025-11-02T00:00Z", "2025-09-01T00:00Z"))
    assert counted(reader, DAY) == [
        (instant("2025-09-01T00:00Z"), 1),
        (instant("2025-11-02T00:00Z"), 2),
        (instant("2025-12-02T00:00Z"), 1),
    ]


def test_an_unknown_time_zone_is_refused(store: Store, reader: Reader) -> None:
    """Buckets of a zone that there is not are nobody's."""
    append(store, *_at("2025-11-02T12:00Z"))
    with pytest.raises(Invalid) as refusal:
        counted(reader, DAY, time_zone="Europe/Atlantis")
    assert refusal.value.reason == "TIME_ZONE_UNKNOWN"
