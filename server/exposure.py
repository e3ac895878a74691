"""Where a daemon may listen: beyond loopback only with TLS and permissions, unless it is told otherwise."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.config import Access, Listen, Tls

PORT_MAX = 65_535

NO_TLS = "set tls.certificate and tls.key"
NO_PERMISSIONS = "set access.tokens (or tls.client_ca and access.client_roles)"
NO_HTTPS = "set tls.metrics = true with tls.certificate and tls.key"
TRUSTED_NETWORK = {
    "grpc": "or, where the network keeps others away, say so with --allow-insecure (listen.allow_insecure = true)",
    "metrics": "or say that this may be with --allow-insecure-metrics (listen.allow_insecure_metrics = true)",
}

_HARM = {"grpc": "so strangers could write and read", "metrics": "so metrics could be read and changed on their way"}


def judge(listen: Listen, tls: Tls, access: Access) -> Iterator[tuple[str, str]]:
    """What is wrong with these sections together: (key, problem)."""
    yield from _judge_guards(tls, access)
    yield from _judge_addresses(listen, tls, access)


def _judge_guards(tls: Tls, access: Access) -> Iterator[tuple[str, str]]:
    if bool(tls.certificate) != bool(tls.key):
        missing = "key" if tls.certificate else "certificate"
        yield f"tls.{missing}", "is missing: certificate and key go together"
    for key in ("client_ca", "metrics"):
        if getattr(tls, key) and not tls.certificate:
            yield f"tls.{key}", "needs tls.certificate and tls.key"
    if access.client_roles and not tls.client_ca:
        yield "access.client_roles", "needs tls.client_ca: without it clients show no certificate"
    for name, roles in access.client_roles.items():
        if not name or not roles:
            yield "access.client_roles", f"{name!r} must be a name with at least one role"


def _judge_addresses(listen: Listen, tls: Tls, access: Access) -> Iterator[tuple[str, str]]:
    missing: dict[str, list[str]] = {"grpc": [], "metrics": []}
    if not tls.certificate and not listen.allow_insecure:
        missing["grpc"].append(NO_TLS)
    if not access.tokens and not access.client_roles and not listen.allow_insecure:
        missing["grpc"].append(NO_PERMISSIONS)
    if not tls.metrics and not listen.allow_insecure and not listen.allow_insecure_metrics:
        missing["metrics"].append(NO_HTTPS)
    for key, wanted in missing.items():
        address = getattr(listen, key)
        host = _host(address)
        if host is None:
            yield f"listen.{key}", f"{address!r} is not HOST:PORT (an IPv6 address in brackets)"
        elif wanted and not _loopback(host):
            yield (
                f"listen.{key}",
                f"{address} is not a loopback address, {_HARM[key]}: {' and '.join(wanted)}; {TRUSTED_NETWORK[key]}",
            )
    if listen.grpc == listen.metrics and not listen.grpc.endswith(":0"):
        yield "listen.metrics", f"{listen.metrics} is taken by listen.grpc"


def _host(address: str) -> str | None:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > PORT_MAX:
        return None
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1]
    return None if ":" in host else host


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
