"""Aggregate questions over gRPC, through the client library and by hand: answers, and each refusal with its field."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import grpc
import pytest
import trackd
from trackd import where
from trackd.v1 import event_type_pb2, query_pb2

from tests.e2e.conftest import DaemonProcess
from tests.support.serving import serving
from tests.support.wire import Refusal, channels, field, refused

BERLIN = ZoneInfo("Europe/Berlin")
DAY_MS = 86_400_000
AGGREGATE = "/trackd.v1.QueryService/Aggregate"
REGISTER = "/trackd.v1.EventTypeService/RegisterEventType"
SETTINGS = "[query]\nanswer_rows_max = 2000\n"


def at(month: int, day: int, hour: int = 0) -> int:
    """An instant of 2025 in Berlin."""
    return int(datetime(2025, month, day, hour, tzinfo=BERLIN).timestamp()) * 1000


def review(month: int, day: int, user: str, ms: float | None, *tags: str, **parts: Any) -> trackd.Event:
    """An event with a number in its metadata."""
    metadata = {"state": "approved"} | ({} if ms is None else {"ms": ms})
    return trackd.new_event(
        parts.get("type", "review"), user_id=user, timestamp_ms=at(month, day, 1), tags=tags, metadata=metadata
    )


EVENTS = [
    review(9, 30, "ann", 5),
    review(10, 1, "ann", 10, "docs"),
    review(10, 1, "ben", 20, "docs", "urgent"),
    review(10, 3, "ann", None),
    review(10, 3, "", 40, type="merge"),
    review(10, 31, "team-x", 80, "urgent", type="merge"),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon for this module, with six events."""
    with serving(tmp_path_factory.mktemp("aggregates"), settings=SETTINGS) as daemon:
        with trackd.Client(daemon.target) as client:
            client.register_event_type("review", "A review.", dimensions=["state", "ms"])
            assert client.append(EVENTS, source="tests").accepted == len(EVENTS)
        yield daemon


@pytest.fixture(scope="module")
def client(served: DaemonProcess) -> Iterator[trackd.Client]:
    """One client."""
    with trackd.Client(served.target) as connected:
        yield connected


@pytest.fixture(scope="module")
def channel(served: DaemonProcess) -> Iterator[grpc.Channel]:
    """One connection."""
    yield from channels(served.target)


OCTOBER = {"start_ms": at(10, 1), "end_ms": at(11, 1), "time_zone": "Europe/Berlin"}


def test_metrics_come_by_dimensions_as_columns_with_names(client: trackd.Client) -> None:
    """Counts are whole, numbers are not, what is absent is None, and the largest first metric comes first."""
    table = client.aggregate(["events", "users", "sum(ms)", "p50(ms)"], "type", **OCTOBER, totals=True)  # type: ignore[arg-type]
    assert list(table) == [
        {"type": "review", "events": 3, "users": 2, "sum(ms)": 30.0, "p50(ms)": 15.0},
        {"type": "merge", "events": 2, "users": 1, "sum(ms)": 120.0, "p50(ms)": 60.0},
    ]
    assert table.totals == {"events": 5, "users": 3, "sum(ms)": 150.0, "p50(ms)": 30.0}
    assert (len(table), table["events"], table.more, table.warnings) == (2, [3, 2], False, [])
    assert table.as_of_position == client.count_events().as_of_position
    assert table.read.milliseconds > 0
    assert [part.column for part in table.question.order_by] == ["events"]
    assert (table.question.order_by[0].descending, table.question.limit) == (True, 2_000)
    nobody = client.aggregate(["events", "avg(ms)"], ["metadata:nothing"], filter=where.is_("user", "ann"))
    assert list(nobody.tuples()) == [(None, 3, 7.5)]


def test_a_series_has_local_days_and_all_of_them_if_asked(client: trackd.Client) -> None:
    """Instants at which days begin in Berlin; the day with 25 hours is one."""
    series = client.aggregate("events", "time:day", **OCTOBER)  # type: ignore[arg-type]
    assert [(moment.day, moment.hour) for moment in series.moments()] == [(1, 0), (3, 0), (31, 0)]
    assert series["events"] == [2, 2, 1]
    full = client.aggregate("events", "time:day", **OCTOBER, empty_buckets=True)  # type: ignore[arg-type]
    assert [(moment.day, moment.hour) for moment in full.moments()] == [(day, 0) for day in range(1, 32)]
    assert sum(int(count or 0) for count in full["events"]) == 5
    busy = client.aggregate("events", "time:day", **OCTOBER, order_by=["-events", "-time:day"], limit=2)  # type: ignore[arg-type]
    assert ([moment.day for moment in busy.moments()], busy.more) == ([3, 1], True)
    with pytest.raises(KeyError):
        client.aggregate("events", "type").moments()


def test_a_period_is_compared_with_the_one_before(client: trackd.Client) -> None:
    """October with September: by month, though they are not equally long."""
    table = client.aggregate(
        ["events", "max(ms)"], ["user"], **OCTOBER, limit=1, totals=True, compare_previous_period=True  # type: ignore[arg-type]
    )  # fmt: skip
    assert list(table) == [{"user": "ann", "events": 2, "max(ms)": 10.0, "previous:events": 1, "previous:max(ms)": 5.0}]
    assert table.totals == {"events": 5, "max(ms)": 80.0, "previous:events": 1, "previous:max(ms)": 5.0}
    alone = client.aggregate("events", "time:day", **OCTOBER, compare_previous_period=True)  # type: ignore[arg-type]
    assert alone["previous:events"] == [0, 0, None]
    assert "last 1 are compared with nothing" in alone.warnings[0]


FILTERS: dict[str, tuple[trackd.Predicate, int]] = {
    "is": (where.is_("user", "ann", "ben"), 4),
    "nobody": (where.is_("user", ""), 1),
    "starts with": (where.starts_with("user", "team-", "b"), 2),
    "present": (where.present("tag"), 3),
    "absent": (where.not_(where.present("metadata:ms")), 1),
    "a number as text": (where.is_("metadata:ms", "10", "80"), 2),
    "all": (where.all_(where.is_("type", "review"), where.is_("tag", "docs"), where.present("user")), 2),
    "any": (where.any_(where.is_("type", "merge"), where.is_("tag", "docs")), 4),
    "deep": (where.not_(where.any_(where.all_(where.is_("user", "ann")), where.not_(where.present("tag")))), 2),
    "a source": (where.is_("source", "nobody"), 0),
}


@pytest.mark.parametrize("name", FILTERS)
def test_filters_of_any_depth_choose_events(client: trackd.Client, name: str) -> None:
    """As their builders say."""
    predicate, expected = FILTERS[name]
    assert client.aggregate("events", filter=predicate)["events"] == [expected]


def test_a_question_is_told_and_read_as_json(client: trackd.Client) -> None:
    """The protobuf mapping, there and back; what is no question says so."""
    question = trackd.new_question("events", ["tag"], filter=where.is_("type", "review"), limit=3, start_ms=1)
    assert trackd.question_from_json(trackd.question_to_json(question)) == question
    assert client.ask(question)["tag"] == ["docs", None, "urgent"]
    for text in ("", "[]", '{"colour": 1}', '{"metrics": 1}', "[" * 100_000):
        with pytest.raises(trackd.Invalid) as caught:
            trackd.question_from_json(text)
        assert caught.value.reason == "QUESTION_INVALID"


def test_types_keep_their_dimensions(client: trackd.Client) -> None:
    """By name, as the last registration has them."""
    assert list(client.describe_event_type("review").dimensions) == ["ms", "state"]
    client.register_event_type("other", dimensions=["b", "a"])
    client.register_event_type("other", "Described.", dimensions=["c"])
    assert list(client.describe_event_type("other").dimensions) == ["c"]


def test_own_writes_can_be_waited_for(client: trackd.Client) -> None:
    """A position that the daemon gave is answered, a later one refused."""
    head = client.count_events().as_of_position
    assert client.aggregate("events", at_least_position=head).as_of_position >= head
    with pytest.raises(trackd.OutOfRange) as caught:
        client.aggregate("events", at_least_position=head + 1)
    assert caught.value.reason == "POSITION_AHEAD"


# Refusals


def question(**parts: Any) -> query_pb2.AggregateRequest:
    """A question for events with these other parts."""
    return query_pb2.AggregateRequest(**{"metrics": ["events"], **parts})


def compare(name: str, operator: int, *values: str) -> query_pb2.Predicate:
    """One comparison."""
    return query_pb2.Predicate(compare=query_pb2.Comparison(field=name, operator=operator, values=values))  # type: ignore[arg-type]


def nested(depth: int) -> query_pb2.Predicate:
    """A comparison below so many `not`."""
    made = where.present("tag")
    for _ in range(depth):
        made = where.not_(made)
    return made


def by_days(**parts: Any) -> query_pb2.AggregateRequest:
    """A series."""
    return question(dimensions=["time:day"], **parts)


TAG = where.present("tag")
OVERFLOWING = query_pb2.Predicate(any=query_pb2.PredicateList(parts=[TAG] * 200))
REFUSALS: dict[str, tuple[query_pb2.AggregateRequest | bytes, str, str]] = {
    "a broken request": (b"\xff\xff", "UNDECODABLE", ""),
    "text that is not UTF-8": (field(1, b"\xff"), "UNDECODABLE", ""),
    "a filter that is nested without end": (question(filter=nested(40)), "FILTER_TOO_LARGE", "filter" + ".not" * 16),
    "nothing": (b"", "METRIC_INVALID", "metrics"),
    "an unknown metric": (question(metrics=["events", "p42(ms)"]), "METRIC_INVALID", "metrics[1]"),
    "an unknown dimension": (question(dimensions=["type", "session"]), "DIMENSION_INVALID", "dimensions[1]"),
    "an empty range": (question(start_ms=1, end_ms=1), "RANGE_INVALID", "start_ms"),
    "an unknown zone": (question(time_zone="Mars/Olympus"), "TIME_ZONE_UNKNOWN", "time_zone"),
    "an unknown order": (question(order_by=[{"column": "users"}]), "ORDER_INVALID", "order_by[0].column"),
    "a negative limit": (question(limit=-1), "LIMIT_INVALID", "limit"),
    "a limit above the daemon's": (question(limit=2_001), "LIMIT_INVALID", "limit"),
    "empty buckets without a range": (by_days(include_empty_buckets=True), "RANGE_INVALID", "start_ms"),
    "a comparison without an end": (by_days(compare_previous_period=True, start_ms=0), "RANGE_INVALID", "end_ms"),
    "an empty filter": (question(filter=query_pb2.Predicate()), "FILTER_INVALID", "filter"),
    "no parts": (question(filter=where.all_()), "FILTER_INVALID", "filter.all.parts"),
    "a part that says nothing": (
        question(filter=where.any_(TAG, query_pb2.Predicate())), "FILTER_INVALID", "filter.any.parts[1]",
    ),
    "an unknown field": (
        question(filter=where.not_(where.present("colour"))), "FILTER_INVALID", "filter.not.compare.field",
    ),
    "no operator": (question(filter=compare("type", 0, "a")), "FILTER_INVALID", "filter.compare.operator"),
    "an unknown operator": (question(filter=compare("type", 9, "a")), "FILTER_INVALID", "filter.compare.operator"),
    "no values": (question(filter=where.is_("type")), "FILTER_INVALID", "filter.compare.values"),
    "presence with values": (question(filter=compare("tag", 3, "a")), "FILTER_INVALID", "filter.compare.values"),
    "too many parts": (question(filter=OVERFLOWING), "FILTER_TOO_LARGE", "filter.any.parts[199]"),
    "too many values": (
        question(filter=where.is_("user", *["x"] * 1_001)), "FILTER_TOO_LARGE", "filter.compare.values",
    ),
}  # fmt: skip


def asked(channel: grpc.Channel, request: query_pb2.AggregateRequest | bytes, method: str = AGGREGATE) -> bytes:
    """The raw answer."""
    raw = request if isinstance(request, bytes) else request.SerializeToString()
    call: Any = channel.unary_unary(method)
    answered: bytes = call(raw, timeout=10)
    return answered


@pytest.mark.parametrize("name", REFUSALS)
def test_a_question_is_refused_and_the_next_is_answered(channel: grpc.Channel, name: str) -> None:
    """INVALID_ARGUMENT with reason and field; the connection stays good."""
    request, reason, path = REFUSALS[name]
    expected = Refusal(grpc.StatusCode.INVALID_ARGUMENT, reason, "trackd", path)
    assert refused(lambda: asked(channel, request)) == expected
    answer = query_pb2.AggregateResponse.FromString(asked(channel, question()))
    assert list(answer.columns[0].integers) == [6]


TOO_LARGE = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "ANSWER_TOO_LARGE", "trackd")
"""Without a delay: the same question fails again."""


def test_an_answer_that_would_have_too_many_rows_is_refused(channel: grpc.Channel) -> None:
    """Before anything is asked of the storage."""
    months = {"start_ms": at(1, 1), "end_ms": at(12, 1), "include_empty_buckets": True}
    assert refused(lambda: asked(channel, question(dimensions=["time:hour"], **months))) == TOO_LARGE


def test_an_answer_that_would_have_too_many_bytes_is_refused(daemon: DaemonProcess) -> None:
    """Sixty groups named by texts of 64,000 characters: with a limit they can be had."""
    with trackd.Client(daemon.target) as client:
        events = [trackd.new_event("blob", metadata={"text": f"{n:02}" + "x" * 64_000}) for n in range(60)]
        for place in range(0, 60, 20):
            client.append(events[place : place + 20], source="tests")
        with pytest.raises(trackd.Exhausted) as caught:
            client.aggregate("events", "metadata:text")
        assert (caught.value.reason, "limit" in caught.value.hint) == ("ANSWER_TOO_LARGE", True)
        assert not caught.value.retryable
        assert len(client.aggregate("events", "metadata:text", limit=50)) == 50


def dimensions_refused(channel: grpc.Channel, *keys: str) -> Refusal:
    """How a registration with these dimensions is refused."""
    request = event_type_pb2.RegisterEventTypeRequest(name="a", dimensions=keys)
    return refused(lambda: asked(channel, request.SerializeToString(), REGISTER))


def test_dimensions_of_types_are_metadata_keys_each_once(channel: grpc.Channel) -> None:
    """At most eight, of 1 to 128 characters; nothing is registered otherwise."""

    def invalid(path: str) -> Refusal:
        return Refusal(grpc.StatusCode.INVALID_ARGUMENT, "DIMENSION_INVALID", "trackd", path)

    assert dimensions_refused(channel, *"abcdefghi") == invalid("dimensions")
    assert dimensions_refused(channel, "a", "") == invalid("dimensions[1]")
    assert dimensions_refused(channel, "a", "b", "a") == invalid("dimensions[2]")
    assert dimensions_refused(channel, "k" * 129) == invalid("dimensions[0]")
    assert dimensions_refused(channel, "a\0b") == invalid("dimensions[0]")


FILTER, ANY, PART = 6, 2, 1


@pytest.mark.parametrize(
    "sent",
    [
        field(FILTER, field(ANY, field(PART, b"")) * 300_000),
        field(FILTER, field(ANY, field(PART, where.present("tag").SerializeToString()) * 300_000)),
        field(FILTER, b"") * 1_000_000,
    ],
    ids=["merged", "wide", "empty"],
)
def test_a_filter_of_megabytes_is_refused_at_once(channel: grpc.Channel, sent: bytes) -> None:
    """Its parts are counted while they are read."""
    start = time.monotonic()
    told = refused(lambda: asked(channel, field(1, b"events") + sent))
    assert told.code is grpc.StatusCode.INVALID_ARGUMENT
    assert told.reason in ("FILTER_INVALID", "FILTER_TOO_LARGE")
    assert time.monotonic() - start < 2
