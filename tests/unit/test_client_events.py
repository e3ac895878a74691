"""Builders, errors and health of the client library."""

from __future__ import annotations

from uuid import UUID

import pytest
import trackd
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.code_pb2 import FAILED_PRECONDITION, RESOURCE_EXHAUSTED
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from trackd.errors import breaks_for_good, from_status
from trackd.health import decode_response, encode_request


def test_an_event_gets_a_time_and_a_uuid7_of_that_time() -> None:
    """Ids of later events are larger, so the store's index stays in order."""
    early, late = (trackd.new_event("t", timestamp_ms=time_ms) for time_ms in (1_000_000_000_000, 1_700_000_000_000))
    assert early.id < late.id
    assert UUID(bytes=late.id).version == 7
    assert int.from_bytes(late.id[:6], "big") == 1_700_000_000_000
    now = trackd.new_event("t")
    assert int.from_bytes(now.id[:6], "big") == now.timestamp_ms


def test_ids_are_never_the_same() -> None:
    """Also for the same time, and for times that no id can carry."""
    ids = {trackd.new_id(time_ms) for time_ms in (5, 5, -1, 1 << 60, None) for _ in range(1_000)}
    assert len(ids) == 5_000
    assert {len(one) for one in ids} == {16}


def test_a_clock_that_was_ahead_and_is_set_right_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event happens when the clock says so, not when it last said something later."""
    trackd.new_event("t")
    for jumped_ms in (86_400_000, 0, -86_400_000, 0):
        clock_ns = (1_700_000_000_000 + jumped_ms) * 1_000_000
        monkeypatch.setattr("time.time_ns", lambda clock_ns=clock_ns: clock_ns)
        event = trackd.new_event("t")
        assert event.timestamp_ms == int.from_bytes(event.id[:6], "big") == 1_700_000_000_000 + jumped_ms


def test_metadata_is_taken_as_mapping_or_text() -> None:
    """A mapping becomes compact JSON, text goes as it stands."""
    assert trackd.new_event("t", metadata={"ä": [1, None]}).metadata == '{"ä":[1,null]}'
    assert trackd.new_event("t", metadata='{ "a": 1 }').metadata == '{ "a": 1 }'
    with pytest.raises(ValueError, match="JSON compliant"):
        trackd.new_event("t", metadata={"a": float("nan")})


def test_an_id_of_ones_own_without_a_time_leaves_the_time_to_the_daemon() -> None:
    """The daemon takes the time inside a UUIDv7."""
    event = trackd.new_event("t", id=trackd.new_id(1_700_000_000_000))
    assert not event.HasField("timestamp_ms")


def test_a_change_with_an_unknown_action_is_refused() -> None:
    """With the ones that exist."""
    with pytest.raises(ValueError, match="create, update, delete"):
        trackd.new_change("t", "1", "upsert")  # type: ignore[arg-type]


def refusal(code: int, *details: ErrorInfo | RetryInfo) -> trackd.TrackdError:
    """The error of a status with these details."""
    packed = []
    for detail in details:
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    return from_status(Status(code=code, message="no", details=packed))


def test_an_error_carries_reason_hint_and_retry() -> None:
    """ErrorInfo and RetryInfo become attributes; the kind follows the code."""
    info = ErrorInfo(reason="MONTH_SEALED", domain="trackd", metadata={"hint": "import it elsewhere"})
    error = refusal(FAILED_PRECONDITION, info)
    assert isinstance(error, trackd.Precondition)
    assert (error.reason, error.hint, error.retryable) == ("MONTH_SEALED", "import it elsewhere", False)
    assert str(error) == "MONTH_SEALED: no (import it elsewhere)"
    assert breaks_for_good(error)


def test_a_quota_with_a_time_to_retry_is_retryable_and_without_is_not() -> None:
    """RESOURCE_EXHAUSTED alone does not say that waiting helps."""
    later = refusal(RESOURCE_EXHAUSTED, RetryInfo(retry_delay=Duration(seconds=2)))
    assert (later.retryable, later.retry_after_ms, breaks_for_good(later)) == (True, 2_000, False)
    never = refusal(RESOURCE_EXHAUSTED)
    assert (never.retryable, breaks_for_good(never)) == (False, True)


def test_details_that_are_garbled_leave_the_code() -> None:
    """They come from who knows where: nothing but the error that they belong to may come of them."""
    garbled = [
        AnyMessage(type_url=f"type.googleapis.com/google.rpc.{name}", value=b"\xff")
        for name in ("ErrorInfo", "RetryInfo")
    ]
    error = from_status(Status(code=RESOURCE_EXHAUSTED, message="full", details=garbled))
    assert (error.code, error.message, error.reason, error.retryable) == ("RESOURCE_EXHAUSTED", "full", "", False)


def test_a_code_of_the_future_is_an_error_like_any_other() -> None:
    """No KeyError from an unknown number."""
    assert isinstance(refusal(99), trackd.TrackdError)


@pytest.mark.parametrize("service", ["", "trackd.v1.IngestService"])
def test_the_health_request_is_what_the_real_package_would_send(service: str) -> None:
    """The hand-made bytes are those of grpc.health.v1."""
    assert encode_request(service) == HealthCheckRequest(service=service).SerializeToString()


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (HealthCheckResponse.UNKNOWN, trackd.Health.UNKNOWN),
        (HealthCheckResponse.SERVING, trackd.Health.SERVING),
        (HealthCheckResponse.NOT_SERVING, trackd.Health.NOT_SERVING),
        (HealthCheckResponse.SERVICE_UNKNOWN, trackd.Health.UNKNOWN),
    ],
)
def test_the_health_response_of_the_real_package_is_understood(status: int, state: trackd.Health) -> None:
    """Whatever it says, also nothing (UNKNOWN is the default and takes no bytes)."""
    assert decode_response(HealthCheckResponse(status=status).SerializeToString()) is state
