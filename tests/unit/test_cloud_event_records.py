"""CloudEvents as events: attributes, data, identity, and what is no CloudEvent."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from trackd.cloudevents.v1.cloudevents_pb2 import CloudEvent

from server.errors import Invalid
from server.ingest.offered import Offered
from server.rpc.doors import cloud_event_records, cloud_events
from tests.support.cloud_events import cloud_event, request, value

TIME_MS = 1_764_000_000_123
NANOS = TIME_MS * 1_000_000
NAMES = st.from_regex("[a-z0-9]{1,8}", fullmatch=True).filter(
    lambda name: name not in {"id", "source", "type", "specversion", "data", "time", "authid", "sessionid", "clientip"}
)
ATTRIBUTES = st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text() | st.binary()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def read(*events: CloudEvent) -> Offered:
    """The events as columns; none may be at fault."""
    offered, faults = cloud_event_records.offered(events)
    assert faults == {}
    return offered


def metadata(event: CloudEvent) -> dict[str, Any]:
    """The metadata of one event."""
    told: dict[str, Any] = json.loads(read(event).metadata[0])
    return told


def beside_identity(event: CloudEvent) -> dict[str, Any]:
    """The metadata without the two that every event has."""
    told = metadata(event)
    assert (told.pop("ce_id"), told.pop("ce_source")) == (event.id, event.source)
    return told


def only_fault(event: CloudEvent) -> tuple[str, str]:
    """Reason and field of why an event is rejected; one beside it is not."""
    _offered, faults = cloud_event_records.offered([cloud_event(), event, cloud_event()])
    (row,) = faults
    assert row == 1
    assert faults[row].message
    return faults[row].reason, faults[row].field


def test_an_event_has_each_attribute_where_it_belongs() -> None:
    """Type, time and user in their fields, everything else in the metadata."""
    event = cloud_event(
        attributes={
            "authid": "ann",
            "authtype": "user",
            "sessionid": "s-1",
            "clientip": "::1",
            "subject": "orders/7",
            "datacontenttype": "application/json; charset=utf-8",
            "sequence": 7,
            "sampled": True,
            "key": b"\xff",
        },
        data='{"total": 12.50, "items": 9007199254740993}',
    )
    offered = read(event)
    assert (offered.types, offered.user_ids, offered.timestamps_ms) == (
        ["com.example.order.placed"],
        ["ann"],
        [TIME_MS],
    )
    assert (offered.user_ids, offered.session_ids, offered.client_ips) == (["ann"], ["s-1"], ["::1"])
    assert list(offered.descriptions) == [""]
    assert metadata(event) == {
        "ce_id": "A-1",
        "ce_source": "/orders?x=1",
        "ce_authtype": "user",
        "ce_subject": "orders/7",
        "ce_datacontenttype": "application/json; charset=utf-8",
        "ce_sequence": 7,
        "ce_sampled": True,
        "ce_key": "/w==",
        "total": 12.5,
        "items": 9007199254740993,
    }
    assert offered.metadata[0].endswith('"total": 12.50, "items": 9007199254740993}')


@given(
    st.dictionaries(NAMES, st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text() | st.binary(), max_size=4), JSON
)
def test_nothing_that_is_sent_is_lost(attributes: dict[str, Any], data: Any) -> None:
    """Attributes of any kind and JSON of any form are found again, also data with names like ours."""
    attributes["datacontenttype"] = "application/json"
    found = beside_identity(cloud_event(attributes=attributes, data=json.dumps(data)))
    for name, sent in attributes.items():
        assert found.pop(f"ce_{name}") == (base64.b64encode(sent).decode() if isinstance(sent, bytes) else sent)
    if isinstance(data, dict) and not any(name.startswith("ce_") for name in data):
        assert found == data
    else:
        assert found == {"ce_data": data}


@pytest.mark.parametrize(
    ("content_type", "data", "expected"),
    [
        ("", '{"a": 1}', {"a": 1}),
        ("", b' {"a": 1}\n', {"a": 1}),
        ("", "{}", {}),
        ("", "[1]", {"ce_data": "[1]"}),
        ("", "text", {"ce_data": "text"}),
        ("", b"text", {"ce_data_base64": "dGV4dA=="}),
        ("", b"\xff", {"ce_data_base64": "/w=="}),
        ("text/plain", '{"a": 1}', {"ce_data": '{"a": 1}'}),
        ("application/json", "[1, 2.50]", {"ce_data": [1, 2.5]}),
        ("application/json", b"null", {"ce_data": None}),
        ("application/json", "{broken", {"ce_data": "{broken"}),
        ("application/json", b"{broken", {"ce_data_base64": "e2Jyb2tlbg=="}),
        ("application/json", "", {"ce_data": ""}),
        ("application/vnd.x+json", '{"a": 1}', {"a": 1}),
        ("TEXT/JSON ; q=1", '{"a": 1}', {"a": 1}),
        ("application/jsonl", '{"a": 1}', {"ce_data": '{"a": 1}'}),
        ("", '{"ce_id": 1, "b": 2}', {"ce_data": {"ce_id": 1, "b": 2}}),
        ("", '{"\\u0063e_x": 1}', {"ce_data": {"ce_x": 1}}),
        ("", '{"b": "ce_x"}', {"b": "ce_x"}),
        ("", '{"b": {"ce_x": 1}}', {"b": {"ce_x": 1}}),
    ],
)
def test_data_is_metadata_or_wrapped(content_type: str, data: str | bytes, expected: dict[str, Any]) -> None:
    """A JSON object becomes the metadata; all else is in it under one name that tells what it is."""
    attributes = {"datacontenttype": content_type} if content_type else {}
    found = beside_identity(cloud_event(attributes=attributes, data=data))
    assert found.pop("ce_datacontenttype", "") == content_type
    assert found == expected


def test_a_protobuf_message_is_kept_with_its_type() -> None:
    """Nobody here can read it."""
    event = cloud_event()
    event.proto_data.CopyFrom(AnyMessage(type_url="type.example.org/x.Y", value=b"\x01"))
    assert beside_identity(event) == {"ce_data": {"@type": "type.example.org/x.Y", "value": "AQ=="}}


def test_an_event_without_data_has_none() -> None:
    """Only its identity."""
    assert beside_identity(cloud_event()) == {}


@pytest.mark.parametrize("name", ["authid", "sessionid", "clientip"])
@pytest.mark.parametrize("sent", [7, b"x", ""])
def test_what_is_not_text_is_no_user_session_or_address(name: str, sent: Any) -> None:
    """It stays in the metadata."""
    event = cloud_event(attributes={name: sent})
    offered = read(event)
    assert (offered.user_ids, offered.session_ids, offered.client_ips) == ([""], [""], [""])
    assert beside_identity(event) == {f"ce_{name}": "eA==" if sent == b"x" else sent}


def test_an_address_that_is_none_stays_in_the_metadata() -> None:
    """Rather than having the event rejected for a name of our own making."""
    assert beside_identity(cloud_event(attributes={"clientip": "host"})) == {"ce_clientip": "host"}


# Time


@pytest.mark.parametrize(
    ("sent", "time_ms", "finer"),
    [
        (Timestamp(seconds=5, nanos=999_999_999), 5_999, "1970-01-01T00:00:05.999999999Z"),
        (Timestamp(seconds=5, nanos=7_000_000), 5_007, None),
        (Timestamp(seconds=-1, nanos=1_000_000), -999, None),
        ("2025-11-24T16:00:00.123Z", TIME_MS, None),
        ("2025-11-24T17:00:00.1234+01:00", TIME_MS, "2025-11-24T17:00:00.1234+01:00"),
    ],
)
def test_time_is_in_milliseconds_and_what_is_finer_is_kept(sent: Any, time_ms: int, finer: str | None) -> None:
    """As a timestamp or, as some senders have it, as text."""
    event = cloud_event(attributes={"time": sent})
    assert read(event).timestamps_ms == [time_ms]
    assert metadata(event).get("ce_time") == finer
    assert int.from_bytes(read(event).ids[0][:6]) == max(time_ms, 0)


def test_without_a_time_that_of_a_uuid7_counts() -> None:
    """It is the same in a resend; that of the clock is not."""
    event = cloud_event(id=str(UUID(bytes=TIME_MS.to_bytes(6) + b"\x70\0\x80" + bytes(7))), attributes={"time": None})
    assert read(event).timestamps_ms == [TIME_MS]
    assert only_fault(cloud_event(attributes={"time": None})) == ("TIMESTAMP_REQUIRED", "attributes.time")
    assert only_fault(cloud_event(id=str(UUID(int=4 << 76)), attributes={"time": None}))[0] == "TIMESTAMP_REQUIRED"


# Identity


def test_source_and_id_are_the_identity() -> None:
    """The content does not count, and each of both does; the bits are fixed for all versions."""
    first = read(cloud_event()).ids[0]
    assert read(cloud_event(type="other", data="{}")).ids[0] == first
    assert read(cloud_event(id="A-2")).ids[0] != first
    assert read(cloud_event(source="/orders")).ids[0] != first
    assert read(cloud_event(id="1/orders", source="A-")).ids[0] != read(cloud_event(id="/orders", source="A-1")).ids[0]
    assert (UUID(bytes=first).version, first.hex()) == (8, FIXED)


FIXED = "019ab697e87b824abb47faddd430a93c"
"""As the first version made it."""

# What is no CloudEvent


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (cloud_event(spec_version="0.3"), "spec_version"),
        (cloud_event(spec_version=""), "spec_version"),
        (cloud_event(id=""), "id"),
        (cloud_event(source=""), "source"),
        (cloud_event(attributes={"Upper": 1}), "attributes"),
        (cloud_event(attributes={"data": 1}), "attributes"),
        (cloud_event(attributes={"id": "x"}), "attributes"),
        (cloud_event(attributes={"a_b": 1}), "attributes"),
        (cloud_event(attributes={"": 1}), "attributes"),
        (cloud_event(attributes={"time": "yesterday"}), "attributes.time"),
        (cloud_event(attributes={"time": "2025-11-24T16:00:00"}), "attributes.time"),
        (cloud_event(attributes={"time": 5}), "attributes.time"),
        (cloud_event(attributes={"time": Timestamp(seconds=1, nanos=-1)}), "attributes.time"),
        (cloud_event(attributes={"expiry": Timestamp(seconds=2**62)}), "attributes.expiry"),
    ],
)
def test_what_is_no_cloud_event_is_rejected_by_name(event: CloudEvent, field: str) -> None:
    """One reason, and the field at fault."""
    assert only_fault(event) == ("CLOUD_EVENT_INVALID", field)


@pytest.mark.parametrize("seconds", [2**62, -(2**62)])
def test_wild_times_are_left_to_the_admission(seconds: int) -> None:
    """They have an id, whatever it is, and are rejected there."""
    offered = read(cloud_event(attributes={"time": Timestamp(seconds=seconds)}))
    assert offered.timestamps_ms == [seconds * 1_000]
    assert len(offered.ids[0]) == 16


# Requests


def parse(sent: bytes) -> cloud_events.Published:
    """With a limit that nothing here comes near to."""
    return cloud_events.parse(sent, lambda events: None)


def rows(sent: bytes) -> Mapping[str, list[int]]:
    """Which row is of which part."""
    return {part.source: list(part.rows) for part in parse(sent).parts()}


def test_the_request_names_the_source_or_each_event_has_its_own() -> None:
    """In the order of the batch."""
    events = [cloud_event(source="/a"), cloud_event(source="/b"), cloud_event(source="/a")]
    assert rows(request(*events).SerializeToString()) == {"/a": [0, 2], "/b": [1]}
    assert rows(request(*events, source="shop").SerializeToString()) == {"shop": [0, 1, 2]}


def test_events_of_nobody_and_with_broken_text_are_faults() -> None:
    """They are of no part; the others are."""
    sent = request(cloud_event(source=""), cloud_event(type="CAFE"), cloud_event(source="/a"), cloud_event(data="CAFE"))
    published = parse(sent.SerializeToString().replace(b"CAFE", b"caf\xe9"))
    assert {row: (fault.reason, fault.field) for row, fault in published.faults.items()} == {
        0: ("CLOUD_EVENT_INVALID", "source"),
        1: ("TEXT_NOT_UTF8", "type"),
        3: ("TEXT_NOT_UTF8", "text_data"),
    }
    assert [(part.source, list(part.rows)) for part in published.parts()] == [("/a", [2])]


@pytest.mark.parametrize("sent", [b"\xff", b"\x12\x05ab"])
def test_what_is_no_request_is_refused(sent: bytes) -> None:
    """Broken encoding."""
    with pytest.raises(Invalid) as caught:
        parse(sent)
    assert caught.value.reason == "UNDECODABLE"


def test_values_of_a_kind_that_is_not_known_are_null() -> None:
    """The name is kept, at least."""
    assert beside_identity(cloud_event(attributes={"x": CloudEvent.CloudEventAttributeValue()})) == {"ce_x": None}
    assert value(datetime(2025, 1, 1, tzinfo=UTC)).HasField("ce_timestamp")
