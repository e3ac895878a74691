"""CloudEvents, made with their own SDK, against a real daemon."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from cloudevents.core.v1.event import CloudEvent as SdkEvent
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from trackd.client import Client
from trackd.cloudevents.v1 import publish_pb2_grpc
from trackd.cloudevents.v1.cloudevents_pb2 import CloudEvent
from trackd.health import Health
from trackd.v1.event_pb2 import StoredEvent
from trackd.v1.ingest_pb2 import APPEND_OUTCOME_DUPLICATE, APPEND_OUTCOME_REJECTED, AppendResult
from trackd.v1.query_pb2 import EventFilter

from tests.e2e.conftest import DaemonProcess
from tests.support.cloud_events import PUBLISH, cloud_event, request, value
from tests.support.serving import assert_no_defect, serving
from tests.support.wire import TIMEOUT_S, channels, refused

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon for this module."""
    with serving(tmp_path_factory.mktemp("cloud-events")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def channel(served: DaemonProcess) -> Iterator[grpc.Channel]:
    """One connection."""
    yield from channels(served.target)


def in_protobuf(event: SdkEvent) -> CloudEvent:
    """An event of the SDK in the protobuf format, which the SDK does not have: attributes one by one, data as it is."""
    made = CloudEvent(
        id=event.get_id(), source=event.get_source(), spec_version=event.get_specversion(), type=event.get_type()
    )
    for name, sent in event.get_attributes().items():
        if name not in ("id", "source", "specversion", "type"):
            made.attributes[name].CopyFrom(value(sent))
    data = event.get_data()
    if isinstance(data, bytes):
        made.binary_data = data
    elif data is not None:
        made.text_data = data if isinstance(data, str) else json.dumps(data)
    return made


def publish(channel: grpc.Channel, *events: CloudEvent, source: str = "", **options: Any) -> AppendResult:
    """Publishes a batch with the generated stub."""
    stub: Any = publish_pb2_grpc.CloudEventServiceStub(channel)  # type: ignore[no-untyped-call]
    answer = stub.Publish(request(*events, source=source), timeout=TIMEOUT_S, **options)
    assert answer.result.accepted + answer.result.duplicate + answer.result.rejected == len(events)
    result: AppendResult = answer.result
    return result


def stored(daemon: DaemonProcess, source: str) -> list[StoredEvent]:
    """What was stored of one source, in the order of positions."""
    with Client(daemon.target) as client:
        return list(client.list_events(EventFilter(sources=[source]), order="position_asc"))


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_events_of_the_sdk_are_stored_once(
    served: DaemonProcess, channel: grpc.Channel, compression: grpc.Compression | None
) -> None:
    """With an object, text and bytes for data; published three times; plain and with gzip."""
    source, moment = f"/sdk/{compression}", datetime(2025, 11, 24, 18, 30, tzinfo=UTC)
    made = [
        SdkEvent(
            {
                "type": "com.example.order.placed", "source": source, "id": str(uuid.uuid4()), "time": moment,
                "subject": f"orders/{number}", "datacontenttype": "application/json", "authid": "ann",
                "sequence": number,
            },
            {"order": number, "pad": "x" * 500},
        )
        for number in range(50)
    ]  # fmt: skip
    made.append(SdkEvent({"type": "t", "source": source, "datacontenttype": "text/plain"}, "words"))
    made.append(SdkEvent({"type": "t", "source": source}, b"\xff"))
    events = [in_protobuf(event) for event in made]
    assert publish(channel, *events, compression=compression).accepted == 52
    for _turn in range(2):
        result = publish(channel, *events, compression=compression)
        assert (result.duplicate, result.rejected) == (52, 0)
        assert {item.outcome for item in result.items} == {APPEND_OUTCOME_DUPLICATE}
    found = stored(served, source)
    assert len(found) == 52
    first = found[0].event
    assert (first.type, first.user_id) == ("com.example.order.placed", "ann")
    assert first.timestamp_ms == int(moment.timestamp() * 1_000)
    assert json.loads(first.metadata) == {
        "ce_id": made[0].get_id(),
        "ce_source": source,
        "ce_subject": "orders/0",
        "ce_datacontenttype": "application/json",
        "ce_sequence": 0,
        "order": 0,
        "pad": "x" * 500,
    }
    assert json.loads(found[50].event.metadata)["ce_data"] == "words"
    assert json.loads(found[51].event.metadata)["ce_data_base64"] == "/w=="


def test_every_event_has_its_outcome(served: DaemonProcess, channel: grpc.Channel) -> None:
    """Good, repeated, conflicting and bad ones of several sources in one batch: each is told of under its number."""
    good = cloud_event(source="/mixed", id="1")
    events = [
        good,
        cloud_event(source="/mixed/other", id="1"),
        good,
        cloud_event(source="/mixed", id="1", data='{"a": 1}'),
        cloud_event(source="/mixed", id="2", type="no spaces"),
        cloud_event(source="/mixed?", id="3"),
        cloud_event(source="/mixed", id="4", spec_version="0.3"),
        cloud_event(source="/mixed", id="5", attributes={"time": None}),
        cloud_event(source="/mixed", id="6", attributes={"time": Timestamp(seconds=-1)}),
        cloud_event(source="/mixed", id="7", attributes={"time": Timestamp(seconds=2**40)}),
        cloud_event(source="/mixed", id="8", data='{"a": ' * 40 + "1" + "}" * 40),
        cloud_event(source="/mixed", id="9", data="x" * 70_000),
        cloud_event(source="", id="10"),
        cloud_event(source="/mixed", id="11"),
    ]
    result = publish(channel, *events)
    assert (result.accepted, result.duplicate, result.rejected) == (3, 1, 10)
    assert [(item.index, item.outcome, item.reason) for item in result.items] == [
        (2, APPEND_OUTCOME_DUPLICATE, ""),
        *(
            (index, APPEND_OUTCOME_REJECTED, reason)
            for index, reason in (
                (3, "ID_CONFLICT"), (4, "TYPE_INVALID"), (5, "SOURCE_INVALID"), (6, "CLOUD_EVENT_INVALID"),
                (7, "TIMESTAMP_REQUIRED"), (8, "TIMESTAMP_TOO_OLD"), (9, "TIMESTAMP_IN_FUTURE"),
                (10, "METADATA_TOO_DEEP"), (11, "METADATA_TOO_LARGE"), (12, "CLOUD_EVENT_INVALID"),
            )
        ),
    ]  # fmt: skip
    assert all(item.message for item in result.items if item.reason)
    assert Counter(one.source for one in stored(served, "/mixed") + stored(served, "/mixed/other")) == {
        "/mixed": 2,
        "/mixed/other": 1,
    }


def test_the_sender_can_name_the_source(served: DaemonProcess, channel: grpc.Channel) -> None:
    """For sources of CloudEvents that are no names of services, and those that are too many."""
    result = publish(
        channel, cloud_event(source="https://a.example/?x=1"), cloud_event(source="urn:x:@"), source="shop"
    )
    assert result.accepted == 2
    assert [json.loads(one.event.metadata)["ce_source"] for one in stored(served, "shop")] == [
        "https://a.example/?x=1", "urn:x:@",
    ]  # fmt: skip


def test_an_empty_batch_is_answered(channel: grpc.Channel) -> None:
    """With nothing."""
    assert publish(channel) == AppendResult(durability=publish(channel).durability)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\xff", "UNDECODABLE"),
        (request(*[CloudEvent()] * 10_001).SerializeToString(), "BATCH_TOO_LARGE"),
        (request(cloud_event(data=b"x" * 5 * MIB)).SerializeToString(), "BATCH_TOO_LARGE"),
    ],
    ids=["garbage", "too many", "too large"],
)
def test_bad_requests_are_refused(channel: grpc.Channel, raw: bytes, reason: str) -> None:
    """As those of Append are."""
    method: Any = channel.unary_unary(PUBLISH)
    told = refused(lambda: method(raw, timeout=TIMEOUT_S))
    assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)


def test_reflection_and_health_know_the_doors(served: DaemonProcess, channel: grpc.Channel) -> None:
    """With all that a tool needs to call them: the files of other packages, too."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    services = ("trackd.cloudevents.v1.CloudEventService", "opentelemetry.proto.collector.logs.v1.LogsService")
    asked += [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in services]
    listed, *files = stub.ServerReflectionInfo(iter(asked), timeout=TIMEOUT_S)
    assert set(services) <= {service.name for service in listed.list_services_response.service}
    assert all(one.file_descriptor_response.file_descriptor_proto for one in files)
    with Client(served.target) as client:
        for name in services:
            assert client.health(name) is Health.SERVING
    assert_no_defect(served)
