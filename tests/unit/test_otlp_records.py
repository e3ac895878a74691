"""Log records of OpenTelemetry as events: what becomes of each part, and which records are the same event."""

from __future__ import annotations

import base64
import json
import math
import random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from server.ingest import rules
from server.ingest.offered import Offered
from server.rpc.doors import any_value, otlp_records
from tests.support.otlp import any_value as value_of
from tests.support.otlp import attributes, logs, record

NANOS = 1_764_000_000_123_456_789
TIME_MS = 1_764_000_000_123
REJECTING = otlp_records.Mapping("", 4_096)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def as_json(value: Any) -> Any:
    """What JSON should say of a value, by the plainest rules."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, list):
        return [as_json(one) for one in value]
    if isinstance(value, dict):
        return {key: as_json(one) for key, one in value.items()}
    return value


def read(*groups: ResourceLogs, mapping: otlp_records.Mapping = REJECTING) -> Offered:
    """The records as columns; none may be at fault."""
    offered, faults = otlp_records.offered(groups, mapping)
    assert faults == {}
    assert len({len(column) for column in (offered.types, offered.timestamps_ms, offered.metadata, offered.ids)}) == 1
    return offered


def metadata(*groups: ResourceLogs, row: int = 0) -> dict[str, Any]:
    """The metadata of one record, without the time that every one of these has."""
    told: dict[str, Any] = json.loads(read(*groups).metadata[row])
    assert told.pop("otel.time_unix_nano") == NANOS
    return told


def made(**parts: Any) -> LogRecord:
    """A record of a fixed time."""
    return record(**{"time_unix_nano": NANOS} | parts)


def the_id(*groups: ResourceLogs) -> bytes:
    """The id of the only record."""
    (found,) = read(*groups).ids
    return found


@given(VALUES)
def test_a_value_is_what_json_knows(value: Any) -> None:
    """Numbers of 64 bits exactly, bytes in base64, infinities in words, nothing as null, at any depth."""
    told = metadata(logs(made(told={"key": value})))
    assert told == {"key": as_json(value)}


@given(st.dictionaries(st.text(max_size=12), VALUES, max_size=5), VALUES)
def test_nothing_that_is_sent_is_lost(told: dict[str, Any], body: Any) -> None:
    """Attributes with any names, also with ours, and any body are found again in the event."""
    names = ("otel.body", "otel.x", "user.id", "client.address", "session.id", "event.name", "enduser.id")
    sent = (
        dict(zip(names, random.Random(len(told)).choices([*told.values(), "10.0.0.1", 7, ""], k=7), strict=True)) | told
    )
    offered = read(logs(made(told=sent, body=body)))
    found = json.loads(offered.metadata[0])
    aside = found.pop("otel.attributes", {})
    seen = {key: value for key, value in found.items() if not key.startswith("otel.")} | aside
    lifted = {key: value for key, value in sent.items() if key not in seen}
    assert seen == {key: as_json(value) for key, value in sent.items() if key in seen}
    fields = {"user.id": offered.user_ids, "enduser.id": offered.user_ids, "session.id": offered.session_ids}
    fields |= {"client.address": offered.client_ips}
    assert {key: str(value) for key, value in lifted.items()} == {key: fields[key][0] for key in lifted}
    if body not in (None, ""):
        assert as_json(body) in (found.get("otel.body"), offered.descriptions[0])


def test_a_record_becomes_an_event() -> None:
    """Each part where it belongs."""
    told = {
        "user.id": "ann", "session.id": "s-1", "client.address": "10.0.0.1", "order.total": 12.5, "order.items": 2**62
    }  # fmt: skip
    sent = made(
        told=told, body="an order", severity_number=9, severity_text="INFO", trace_id=bytes(range(16)),
        span_id=bytes(range(8)), flags=1, dropped_attributes_count=3, observed_time_unix_nano=NANOS + 1,
    )  # fmt: skip
    scope = InstrumentationScope(name="shop", version="1.2", attributes=attributes({"a": 1}))
    group = logs(sent, **{"service.version": "7"})
    group.schema_url = "https://example.org/r"
    group.scope_logs[0].scope.CopyFrom(scope)
    group.scope_logs[0].schema_url = "https://example.org/s"
    offered = read(group)
    assert otlp_records.source_of(group) == "checkout"
    assert (offered.types, offered.user_ids, offered.timestamps_ms) == (["order.placed"], ["ann"], [TIME_MS])
    assert (offered.session_ids, offered.client_ips, offered.descriptions) == (["s-1"], ["10.0.0.1"], ["an order"])
    assert metadata(group) == {
        "order.total": 12.5,
        "order.items": 2**62,
        "otel.observed_time_unix_nano": NANOS + 1,
        "otel.severity_number": 9,
        "otel.severity_text": "INFO",
        "otel.trace_id": "000102030405060708090a0b0c0d0e0f",
        "otel.span_id": "0001020304050607",
        "otel.flags": 1,
        "otel.dropped_attributes_count": 3,
        "otel.resource.service.version": "7",
        "otel.resource_schema_url": "https://example.org/r",
        "otel.scope.name": "shop",
        "otel.scope.version": "1.2",
        "otel.scope.attributes": {"a": 1},
        "otel.scope_schema_url": "https://example.org/s",
    }
    assert UUID(bytes=offered.ids[0]).version == 8
    assert int.from_bytes(offered.ids[0][:6]) == TIME_MS


def test_ids_of_a_trace_that_are_all_zeros_are_none() -> None:
    """As W3C's Trace Context has it."""
    assert metadata(logs(made(trace_id=bytes(16), span_id=bytes(8)))) == {}


@pytest.mark.parametrize(
    ("told", "user", "left"),
    [
        ({"user.id": "ann", "enduser.id": "ben"}, "ann", {"enduser.id": "ben"}),
        ({"enduser.id": "ben"}, "ben", {}),
        ({"user.id": "", "enduser.id": "ben"}, "ben", {"user.id": ""}),
        ({"user.id": 42}, "42", {}),
        ({"user.id": True}, "", {"user.id": True}),
        ({"user.id": 1.5}, "", {"user.id": 1.5}),
        ({"user.id": ["ann"]}, "", {"user.id": ["ann"]}),
    ],
)
def test_the_user_is_text_or_a_whole_number(told: dict[str, Any], user: str, left: dict[str, Any]) -> None:
    """`user.id` comes before `enduser.id`; what cannot be a user stays in the metadata."""
    group = logs(made(told=told))
    assert read(group).user_ids == [user]
    assert metadata(group) == left


@pytest.mark.parametrize(
    ("address", "fits"), [("::1", True), ("10.1.2.3", True), ("pc.example.org", False), ("/s", False)]
)
def test_an_address_that_is_a_name_stays_in_the_metadata(address: str, fits: bool) -> None:
    """OpenTelemetry allows names and paths there; they would be rejected as an address."""
    group = logs(made(told={"client.address": address}))
    assert list(read(group).client_ips) == [address if fits else ""]
    assert metadata(group) == ({} if fits else {"client.address": address})


@pytest.mark.parametrize("body", ["x" * 4_097, "é" * 2_049, {"a": [1]}, 5, False])
def test_a_body_that_is_no_description_is_metadata(body: Any) -> None:
    """Long text, and whatever is no text."""
    group = logs(made(body=body))
    assert list(read(group).descriptions) == [""]
    assert metadata(group) == {"otel.body": body}


def test_the_longest_description_is_one() -> None:
    """4,096 bytes of UTF-8."""
    assert read(logs(made(body="é" * 2_048))).descriptions == ["é" * 2_048]


@pytest.mark.parametrize(
    ("resource", "source"),
    [({}, "unknown_service"), ({"service.name": ""}, "unknown_service"), ({"service.name": "a b"}, "a b")],
)
def test_the_service_is_the_source(resource: dict[str, Any], source: str) -> None:
    """Whatever it is called: names that no source can have are for the admission to reject."""
    assert otlp_records.source_of(logs(service=None, **resource)) == source


def test_the_type_is_the_event_name_wherever_it_is_said() -> None:
    """In the field, or, as before there was one, in the attribute."""
    group = logs(
        made(),
        made(name="", told={"event.name": "old"}),
        made(name="new", told={"event.name": "old"}),
    )
    assert read(group).types == ["order.placed", "old", "new"]
    assert "old" not in read(group).metadata[1]
    assert json.loads(read(group).metadata[2])["event.name"] == "old"


def test_plain_logs_are_rejected_or_have_the_type_of_the_operator() -> None:
    """Without an event name; its neighbours are not troubled."""
    group = logs(made(), made(name="", body="a line"), made())
    _offered, faults = otlp_records.offered([group], REJECTING)
    assert {row: (fault.reason, fault.field) for row, fault in faults.items()} == {
        1: ("EVENT_NAME_MISSING", "event_name")
    }
    assert read(group, mapping=otlp_records.Mapping("log", 4_096)).types == ["order.placed", "log", "order.placed"]


def test_the_time_is_that_of_the_event_or_of_its_observation() -> None:
    """Milliseconds, cut off; without any the record is rejected."""
    later = NANOS + 10**9
    group = logs(
        made(observed_time_unix_nano=later),
        made(time_unix_nano=0, observed_time_unix_nano=later),
        made(time_unix_nano=0),
    )
    offered, faults = otlp_records.offered([group], REJECTING)
    assert list(offered.timestamps_ms)[:2] == [TIME_MS, TIME_MS + 1_000]
    assert {row: (fault.reason, fault.field) for row, fault in faults.items()} == {
        2: ("TIMESTAMP_REQUIRED", "time_unix_nano")
    }


def test_the_largest_time_has_an_id() -> None:
    """2^64 - 1 nanoseconds, in the year 2554: for the admission to reject."""
    offered = read(logs(made(time_unix_nano=2**64 - 1)))
    assert offered.timestamps_ms == [(2**64 - 1) // 10**6]


# Which records are the same


def test_the_same_export_has_the_same_ids_and_the_ids_are_fixed() -> None:
    """In any process and version: an export that is sent again after an upgrade of the daemon must be recognised."""
    group = logs(made(told={"n": 1}), made(told={"n": 2}), **{"host.name": "h"})
    assert read(group).ids == read(ResourceLogs.FromString(group.SerializeToString())).ids
    assert [UUID(bytes=made_id).hex for made_id in read(group).ids] == FIXED


FIXED = ["019ab697e87b805fb6db625573128a78", "019ab697e87b8c238e093e8e83e45107"]
"""As the first version made them."""


@pytest.mark.parametrize(
    "other",
    [
        logs(made(told={"n": 2})),
        logs(made(told={"n": 1}, time_unix_nano=NANOS + 1)),
        logs(made(told={"n": 1}, name="order.paid")),
        logs(made(told={"n": 1}, body="x")),
        logs(made(told={"n": 1}), service="other"),
        logs(made(told={"n": 1}), **{"host.name": "h"}),
        ResourceLogs(
            schema_url="u", resource=logs().resource, scope_logs=[ScopeLogs(log_records=[made(told={"n": 1})])]
        ),
    ],
)
def test_what_differs_in_anything_is_another_event(other: ResourceLogs) -> None:
    """In an attribute, a nanosecond, the name, the body, the service, the resource."""
    assert the_id(other) != the_id(logs(made(told={"n": 1})))


def test_equal_records_of_one_export_are_told_apart() -> None:
    """Each has an id, the same at the next try; in an export of its own the first one's."""
    same = [made() for _ in range(3)]
    ids = read(logs(*same, made(body="x"))).ids
    assert len(set(ids)) == 4
    assert read(logs(*same, made(body="x"))).ids == ids
    assert the_id(logs(same[0])) == ids[0]


def test_a_uid_is_the_identity() -> None:
    """With `log.record.uid` the content does not count, the service and the time do. It stays in the metadata."""
    first = logs(made(told={otlp_records.UID: "01H", "n": 1}), made(told={otlp_records.UID: "01H", "n": 2}))
    ids = read(first).ids
    assert ids[0] == ids[1]
    assert metadata(first) == {otlp_records.UID: "01H", "n": 1}
    assert the_id(logs(made(told={otlp_records.UID: "01H"}), **{"host.name": "h"})) == ids[0]
    assert the_id(logs(made(told={otlp_records.UID: "01J"}))) != ids[0]
    assert the_id(logs(made(told={otlp_records.UID: "01H"}), service="other")) != ids[0]
    later = the_id(logs(made(told={otlp_records.UID: "01H"}, time_unix_nano=NANOS + 10**6)))
    assert (later[6:], int.from_bytes(later[:6])) == (ids[0][6:], TIME_MS + 1)


@given(st.lists(st.integers(0, 3), max_size=8))
def test_ids_are_what_the_store_takes(numbers: list[int]) -> None:
    """Sixteen bytes that are not all zero, in the order of time."""
    ids = read(logs(*[made(time_unix_nano=NANOS + number * 10**6) for number in numbers])).ids
    assert all(len(one) == 16 and one != rules.NIL_ID for one in ids)
    assert len(set(ids)) == len(ids)
    assert [one[:6] for one in sorted(ids)] == sorted(one[:6] for one in ids)


def test_a_key_that_comes_twice_has_its_last_value() -> None:
    """OpenTelemetry forbids it and leaves open what becomes of it; JSON cannot say both."""
    pairs = attributes({"a": 1}) + attributes({"a": "two"})
    assert any_value.mapping(pairs) == {"a": "two"}


def test_a_value_of_a_kind_that_is_not_known_says_nothing() -> None:
    """Later versions of OTLP may add kinds."""
    assert any_value.plain(type(value_of(1)).FromString(b"\x7a\x01x")) is None
