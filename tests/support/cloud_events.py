"""CloudEvents in the protobuf format, built by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from trackd.cloudevents.v1.cloudevents_pb2 import CloudEvent, CloudEventBatch
from trackd.cloudevents.v1.publish_pb2 import PublishRequest

Value = CloudEvent.CloudEventAttributeValue
PUBLISH = "/trackd.cloudevents.v1.CloudEventService/Publish"
NOTHING: Mapping[str, Any] = {}


def value(sent: Any) -> Value:
    """The value of an attribute."""
    if isinstance(sent, Value):
        return sent
    if isinstance(sent, datetime):
        moment = Timestamp()
        moment.FromDatetime(sent)
        return Value(ce_timestamp=moment)
    kinds: dict[type, str] = {
        bool: "ce_boolean", int: "ce_integer", str: "ce_string", bytes: "ce_bytes", Timestamp: "ce_timestamp"
    }  # fmt: skip
    given: dict[str, Any] = {kinds[type(sent)]: sent}
    return Value(**given)


def cloud_event(
    *, attributes: Mapping[str, Any] = NOTHING, data: str | bytes | None = None, **parts: str
) -> CloudEvent:
    """A good event of a fixed time, but for `parts`; an attribute that is None is left out."""
    given: dict[str, Any] = {
        "id": "A-1", "source": "/orders?x=1", "spec_version": "1.0", "type": "com.example.order.placed"
    } | parts  # fmt: skip
    made = CloudEvent(**given)
    told = {"time": Timestamp(seconds=1_764_000_000, nanos=123_000_000), **attributes}
    for name, sent in told.items():
        if sent is not None:
            made.attributes[name].CopyFrom(value(sent))
    if isinstance(data, str):
        made.text_data = data
    elif data is not None:
        made.binary_data = data
    return made


def request(*events: CloudEvent, source: str = "") -> PublishRequest:
    """The request that carries them."""
    return PublishRequest(source=source, batch=CloudEventBatch(events=events))
