"""Twins read the same bytes as the message they are of, also where its text is broken."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trackd.cloudevents.v1.cloudevents_pb2 import CloudEvent
from trackd.cloudevents.v1.publish_pb2 import PublishRequest

from server.rpc import twins

TWIN = twins.twin(PublishRequest)
TEXT = st.text(max_size=4)
VALUES = st.builds(CloudEvent.CloudEventAttributeValue, ce_string=TEXT) | st.builds(
    CloudEvent.CloudEventAttributeValue, ce_boolean=st.booleans()
)
EVENTS = st.builds(
    CloudEvent, id=TEXT, source=TEXT, type=TEXT, attributes=st.dictionaries(TEXT, VALUES, max_size=2), text_data=TEXT
) | st.builds(CloudEvent, binary_data=st.binary(max_size=4))


@given(TEXT, st.lists(EVENTS, max_size=3))
def test_a_message_survives_its_twin(source: str, events: list[CloudEvent]) -> None:
    """Maps and alternatives, too; and good text is found good."""
    sent = PublishRequest(source=source)
    sent.batch.events.extend(events)
    twin = TWIN.FromString(sent.SerializeToString())
    assert twins.bad_text(twin, PublishRequest) == ""
    assert PublishRequest.FromString(twin.SerializeToString()) == sent


@pytest.mark.parametrize(
    ("event", "path"),
    [
        (CloudEvent(type="CAFE"), "type"),
        (CloudEvent(text_data="CAFE"), "text_data"),
        (CloudEvent(attributes={"CAFE": CloudEvent.CloudEventAttributeValue(ce_integer=1)}), "attributes.key"),
        (
            CloudEvent(attributes={"a": CloudEvent.CloudEventAttributeValue(ce_uri="CAFE")}),
            "attributes.value.ce_uri",
        ),
    ],
)
def test_broken_text_is_found_and_bytes_are_not_text(event: CloudEvent, path: str) -> None:
    """The path names it; the same bytes in a field of bytes are fine."""
    sent = PublishRequest()
    sent.batch.events.extend([CloudEvent(binary_data=b"caf\xe9"), event])
    twin: Any = TWIN.FromString(sent.SerializeToString().replace(b"CAFE", b"caf\xe9"))
    assert twins.bad_text(twin, PublishRequest) == f"batch.events.{path}"


def test_in_a_large_message_it_is_not_searched_for() -> None:
    """That would hold the event loop; the name of the message has to do."""
    sent = CloudEvent(id="x" * twins.SEARCHED_BYTES_MAX, type="CAFE")
    twin = twins.twin(CloudEvent).FromString(sent.SerializeToString().replace(b"CAFE", b"caf\xe9"))
    assert twins.bad_text(twin, CloudEvent) == "CloudEvent"
