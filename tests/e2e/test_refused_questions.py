"""Questions that are refused: a typed status each, and the next question is answered."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import msgspec
import pytest
from google.protobuf.message import Message
from trackd.client import Client
from trackd.v1 import event_type_pb2 as types
from trackd.v1 import event_type_pb2_grpc, query_pb2, query_pb2_grpc

from tests.e2e.conftest import DaemonProcess
from tests.support.serving import serving
from tests.support.wire import Refusal, channels, event, field, refused

INVALID = grpc.StatusCode.INVALID_ARGUMENT
LIST = "/trackd.v1.QueryService/ListEvents"
COUNT = "/trackd.v1.QueryService/CountEvents"
INT64_MAX = 2**63 - 1


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon for this module, with ten events of two types."""
    with serving(tmp_path_factory.mktemp("questions")) as daemon:
        with Client(daemon.target) as client:
            client.append([event(type=f"t{n % 2}") for n in range(10)], source="tests")
        yield daemon


@pytest.fixture(scope="module")
def channel(served: DaemonProcess) -> Iterator[grpc.Channel]:
    """One connection."""
    yield from channels(served.target)


def asked(channel: grpc.Channel, method: str, request: Message | bytes) -> Any:
    """The raw answer to a question."""
    raw = request if isinstance(request, bytes) else request.SerializeToString()
    call: Any = channel.unary_unary(method)
    return call(raw, timeout=10)


def listing(**parts: Any) -> query_pb2.ListEventsRequest:
    """A request for a list."""
    return query_pb2.ListEventsRequest(**parts)


def counting(**parts: Any) -> query_pb2.CountEventsRequest:
    """A request for counts."""
    return query_pb2.CountEventsRequest(**parts)


def where(**parts: Any) -> query_pb2.EventFilter:
    """A filter."""
    return query_pb2.EventFilter(**parts)


def invalid(reason: str, name: str = "") -> Refusal:
    """INVALID_ARGUMENT with its details."""
    return Refusal(INVALID, reason, "trackd", name)


AHEAD = Refusal(grpc.StatusCode.OUT_OF_RANGE, "POSITION_AHEAD", "trackd")

QUESTIONS: dict[str, tuple[str, Message | bytes, Refusal]] = {
    "a broken request": (LIST, b"\xff\xff", invalid("UNDECODABLE")),
    "a filter that is not UTF-8": (COUNT, field(1, field(3, b"\xff")), invalid("UNDECODABLE")),
    "a negative page size": (LIST, listing(page_size=-1), invalid("PAGE_SIZE_INVALID", "page_size")),
    "the most negative page size": (LIST, listing(page_size=-(2**31)), invalid("PAGE_SIZE_INVALID", "page_size")),
    "an unknown order": (LIST, listing(order=77), invalid("ORDER_INVALID", "order")),
    "a negative order": (LIST, listing(order=-1), invalid("ORDER_INVALID", "order")),
    "an unknown dimension": (COUNT, counting(by=[1, 9]), invalid("DIMENSION_INVALID", "by")),
    "the unspecified dimension": (COUNT, counting(by=[0]), invalid("DIMENSION_INVALID", "by")),
    "a dimension twice": (COUNT, counting(by=[1, 1]), invalid("DIMENSION_INVALID", "by")),
    "a position ahead, listed": (LIST, listing(at_least_position=INT64_MAX), AHEAD),
    "a position ahead, counted": (COUNT, counting(at_least_position=INT64_MAX), AHEAD),
}
for _text in ("hello", "%&é\0", "A" * 1_000_000):
    QUESTIONS[f"the token {_text[:5]!a}"] = LIST, listing(page_token=_text), invalid("PAGE_TOKEN_INVALID", "page_token")
for _method, _make in ((LIST, listing), (COUNT, counting)):
    _name = _method.rpartition("/")[2]
    QUESTIONS |= {
        f"{_name}: an inverted range": (
            _method, _make(filter=where(start_ms=2, end_ms=1)), invalid("RANGE_INVALID", "filter.start_ms"),
        ),
        f"{_name}: an empty range": (
            _method, _make(filter=where(start_ms=2, end_ms=2)), invalid("RANGE_INVALID", "filter.start_ms"),
        ),
    } | {
        f"{_name}: too many {part}": (
            _method, _make(filter=where(**{part: ["x"] * 1_001})), invalid("FILTER_TOO_LARGE", f"filter.{part}"),
        )
        for part in ("types", "user_ids", "sources", "session_ids", "tags")
    }  # fmt: skip


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_refused_and_the_next_is_answered(channel: grpc.Channel, name: str) -> None:
    """The code, the reason and the field; the connection stays good."""
    method, request, expected = QUESTIONS[name]
    assert refused(lambda: asked(channel, method, request)) == expected
    answer = query_pb2.CountEventsResponse.FromString(asked(channel, COUNT, counting()))
    assert answer.events == 10


def first_token(channel: grpc.Channel, **parts: Any) -> str:
    """The token of the second page."""
    page = query_pb2.ListEventsResponse.FromString(asked(channel, LIST, listing(page_size=3, **parts)))
    assert page.next_page_token
    return page.next_page_token


@pytest.mark.parametrize(
    ("other", "order"), [(where(types=["t0"]), 0), (where(end_ms=INT64_MAX), 0), (None, 1), (None, 4)]
)
def test_a_token_of_another_list_is_refused(
    channel: grpc.Channel, other: query_pb2.EventFilter | None, order: int
) -> None:
    """Another filter or order; with its own list it still works, with other page sizes too."""
    token = first_token(channel)
    request = listing(page_token=token, filter=other, order=order)
    assert refused(lambda: asked(channel, LIST, request)) == invalid("PAGE_TOKEN_INVALID", "page_token")
    page = query_pb2.ListEventsResponse.FromString(asked(channel, LIST, listing(page_token=token, page_size=100)))
    assert len(page.events) == 7


def altered(change: Callable[[list[Any]], object]) -> Callable[[str], str]:
    """Takes a token apart, changes it and puts it together again."""

    def alter(token: str) -> str:
        parts = msgspec.msgpack.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        change(parts)
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(parts)).decode().rstrip("=")

    return alter


FORGERIES = {
    "one character less": lambda token: token[:-1],
    "twice": lambda token: token + token,
    "one place less": altered(lambda parts: parts[2].pop()),
    "a text for a place": altered(lambda parts: parts.__setitem__(2, "t")),
    "no place": altered(lambda parts: parts.__setitem__(2, None)),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_token_is_refused(channel: grpc.Channel, name: str) -> None:
    """INVALID_ARGUMENT and never INTERNAL, whichever order leads."""
    for order in (1, 2, 3, 4):
        forged = FORGERIES[name](first_token(channel, order=order))
        request = listing(page_token=forged, order=order)
        assert refused(lambda request=request: asked(channel, LIST, request)) == invalid(  # type: ignore[misc]
            "PAGE_TOKEN_INVALID", "page_token"
        )


def test_a_forged_head_shows_nothing_that_is_not_there(channel: grpc.Channel) -> None:
    """A token that claims a later head is cut at the real one."""
    ahead = altered(lambda parts: parts.__setitem__(1, 2**63 - 1))(first_token(channel))
    page = query_pb2.ListEventsResponse.FromString(asked(channel, LIST, listing(page_token=ahead)))
    assert (len(page.events), page.as_of_position) == (7, 10)


def test_odd_filters_find_nothing_and_harm_nothing(channel: grpc.Channel) -> None:
    """Ranges at the ends of 64 bits, positions that cross, texts with NUL and quotes: an empty answer."""
    for odd in (
        where(start_ms=INT64_MAX),
        where(end_ms=-INT64_MAX - 1),
        where(start_ms=-INT64_MAX - 1, end_ms=0),
        where(after_position=INT64_MAX),
        where(after_position=5, up_to_position=5),
        where(up_to_position=-1),
        where(types=["'; DROP TABLE events --", "a\0b", "", "%"]),
        where(tags=["'", '"', "\0", "%", "a"]),
        where(user_ids=["x" * 100_000], sources=["\U0010ffff"], session_ids=["\n"]),
    ):
        counted = query_pb2.CountEventsResponse.FromString(asked(channel, COUNT, counting(filter=odd, by=[1, 2, 3, 4])))
        assert (counted.events, len(counted.rows)) == (0, 0), odd
        listed = query_pb2.ListEventsResponse.FromString(asked(channel, LIST, listing(filter=odd)))
        assert (len(listed.events), listed.next_page_token) == (0, ""), odd


def test_questions_about_types_are_refused_by_reason(channel: grpc.Channel) -> None:
    """Names that cannot be registered, descriptions too long, unknown types, wrong pages."""
    stub: Any = event_type_pb2_grpc.EventTypeServiceStub(channel)  # type: ignore[no-untyped-call]
    register, described = types.RegisterEventTypeRequest, types.DescribeEventTypeRequest
    not_found = Refusal(grpc.StatusCode.NOT_FOUND, "TYPE_UNKNOWN", "trackd")
    for call, request, expected in (
        (stub.RegisterEventType, register(), invalid("TYPE_INVALID", "name")),
        (stub.RegisterEventType, register(name="a b"), invalid("TYPE_INVALID", "name")),
        (stub.RegisterEventType, register(name="a\n"), invalid("TYPE_INVALID", "name")),
        (stub.RegisterEventType, register(name="a" * 129), invalid("TYPE_INVALID", "name")),
        (stub.RegisterEventType, register(name="a", description="x" * 4_097), invalid("FIELD_TOO_LONG", "description")),
        (stub.RegisterEventType, register(name="a", description="\0"), invalid("TEXT_HAS_NUL", "description")),
        (stub.DescribeEventType, described(name="nope"), not_found),
        (stub.DescribeEventType, described(), not_found),
        (stub.ListEventTypes, types.ListEventTypesRequest(page_size=-1), invalid("PAGE_SIZE_INVALID", "page_size")),
        (
            stub.ListEventTypes,
            types.ListEventTypesRequest(page_token=first_token(channel)),
            invalid("PAGE_TOKEN_INVALID", "page_token"),
        ),
    ):
        assert refused(lambda call=call, request=request: call(request, timeout=10)) == expected  # type: ignore[misc]
    listed = stub.ListEventTypes(types.ListEventTypesRequest(), timeout=10)
    assert [entry.name for entry in listed.event_types] == ["t0", "t1"]


def test_methods_that_do_not_exist_are_unimplemented(channel: grpc.Channel) -> None:
    """For all services, ours included."""
    for method in ("/trackd.v1.QueryService/DropEvents", "/trackd.v9.IngestService/Append", "/x/y"):
        unknown = Refusal(grpc.StatusCode.UNIMPLEMENTED)
        assert refused(lambda method=method: asked(channel, method, b"")) == unknown  # type: ignore[misc]


def test_page_sizes_beyond_the_limit_are_coerced(channel: grpc.Channel) -> None:
    """AIP-158: not refused."""
    stub: Any = query_pb2_grpc.QueryServiceStub(channel)  # type: ignore[no-untyped-call]
    assert len(stub.ListEvents(listing(page_size=2**31 - 1), timeout=10).events) == 10
