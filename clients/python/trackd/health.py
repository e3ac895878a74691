"""The one call of grpc.health.v1 that is needed, without its package: both messages have a single small field.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md: HealthCheckRequest{string service = 1},
HealthCheckResponse{ServingStatus status = 1}.
"""

from __future__ import annotations

from enum import StrEnum

METHOD = "/grpc.health.v1.Health/Check"


class Health(StrEnum):
    """What a daemon says of itself or of one of its services."""

    UNKNOWN = "unknown"
    SERVING = "serving"
    NOT_SERVING = "not_serving"


_STATES = (Health.UNKNOWN, Health.SERVING, Health.NOT_SERVING)


def encode_request(service: str) -> bytes:
    """HealthCheckRequest as bytes. ValueError for a name of more than 127 bytes (no service has one)."""
    name = service.encode()
    if len(name) > 127:
        raise ValueError("the name of a service has at most 127 bytes")
    return b"\x0a" + bytes([len(name)]) + name if name else b""


def decode_response(message: bytes) -> Health:
    """The state in a HealthCheckResponse; UNKNOWN for one that this version does not know."""
    if len(message) == 2 and message[0] == 0x08 and message[1] < len(_STATES):
        return _STATES[message[1]]
    return Health.UNKNOWN
