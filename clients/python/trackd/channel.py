"""How this package connects: one place for the options of its gRPC channels."""

from __future__ import annotations

import ipaddress
import os

import grpc

DEFAULT_TARGET = "127.0.0.1:7077"

_OPTIONS: tuple[tuple[str, int], ...] = (
    # gRPC waits between attempts to connect, too. Its default of up to 120 s would outlast every backoff of ours.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # The daemon takes a ping every 30 s; a host that vanished without a word is noticed after 60 s.
    ("grpc.keepalive_time_ms", 40_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # The daemon ends its pages before 3.5 MiB; events as large as its limits allow still have to come through.
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)


def default_target() -> str:
    """HOST:PORT of the environment variable TRACKD_TARGET, else DEFAULT_TARGET."""
    return os.environ.get("TRACKD_TARGET") or DEFAULT_TARGET


def open_channel(target: str) -> grpc.Channel:
    """A channel without TLS to HOST:PORT. It connects when it is first used; the caller closes it."""
    return grpc.insecure_channel(target, options=channel_options(target))


def channel_options(target: str) -> list[tuple[str, int]]:
    """The options of a channel to a target, of grpc or grpc.aio."""
    options = list(_OPTIONS)
    if _loopback(target):
        # A proxy named by the environment cannot know this machine's loopback address.
        options.append(("grpc.enable_http_proxy", 0))
    return options


def _loopback(target: str) -> bool:
    host = target.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
