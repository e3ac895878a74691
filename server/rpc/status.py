"""How errors look on the wire: the one table from kinds of errors to gRPC statuses, and their standard details.

Details: google.rpc.ErrorInfo always (reason, domain "trackd", the hint in its metadata), RetryInfo where a later try
can succeed, BadRequest with the field, PreconditionFailure, QuotaFailure (AIP-193).
"""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from server import errors

DOMAIN = "trackd"

CODES: dict[type[errors.TrackdError], grpc.StatusCode] = {
    errors.Invalid: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Precondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.PositionOutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Corrupt: grpc.StatusCode.INTERNAL,
    errors.StoreFailed: grpc.StatusCode.INTERNAL,
    errors.Internal: grpc.StatusCode.INTERNAL,
    errors.ConfigurationError: grpc.StatusCode.INTERNAL,
}

RETRY_AFTER_MS = 1_000
"""For errors that can be retried and name no time of their own."""


def code_of(error: errors.TrackdError) -> grpc.StatusCode:
    """The gRPC status of an error."""
    return CODES[type(error)]


def status_of(error: errors.TrackdError) -> status_pb2.Status:
    """The error as google.rpc.Status."""
    metadata = {"hint": error.hint} if error.hint else {}
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    details: list[message.Message] = [info]
    retry_after_ms = retry_after(error)
    if retry_after_ms is not None:
        details.append(retry_info(retry_after_ms))
    if isinstance(error, errors.Invalid) and error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.message, reason=error.reason
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, errors.Precondition):
        unmet = error_details_pb2.PreconditionFailure.Violation(
            type=error.reason, subject=error.field, description=error.message
        )
        details.append(error_details_pb2.PreconditionFailure(violations=[unmet]))
    if isinstance(error, errors.Exhausted):
        quota = error_details_pb2.QuotaFailure.Violation(subject=error.field, description=error.message)
        details.append(error_details_pb2.QuotaFailure(violations=[quota]))
    status = status_pb2.Status(code=code_of(error).value[0], message=str(error))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def retry_info(retry_after_ms: int) -> error_details_pb2.RetryInfo:
    """A delay as its standard message."""
    delay = duration_pb2.Duration()
    delay.FromMilliseconds(retry_after_ms)
    return error_details_pb2.RetryInfo(retry_delay=delay)


def retry_after(error: errors.TrackdError) -> int | None:
    """After how many milliseconds the same request may succeed; None if it will not."""
    if isinstance(error, errors.Unavailable):
        return RETRY_AFTER_MS if error.retry_after_ms is None else error.retry_after_ms
    return error.retry_after_ms


def trailers_of(error: errors.TrackdError) -> tuple[tuple[str, str | bytes], ...]:
    """The trailing metadata that carries the details, and the delay in two other forms.

    One is for gRPC's own retries (gRFC A6), one is where the OpenTelemetry SDK for Python looks for it.
    """
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status_of(error).SerializeToString())]
    retry_after_ms = retry_after(error)
    if retry_after_ms is not None:
        trailers.append(("grpc-retry-pushback-ms", str(retry_after_ms)))
        trailers.append(("google.rpc.retryinfo-bin", retry_info(retry_after_ms).SerializeToString()))
    return tuple(trailers)
