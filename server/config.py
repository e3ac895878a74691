"""The daemon's settings: frozen, checked once at start, every problem reported at once with its file and key.

A TOML file has one table a section, with the field names below as keys; the command line overrides single keys.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from retention.month import Month
from server.errors import ConfigurationError

MIB = 1024 * 1024


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the daemon can be reached. Port 0 takes a free one (and prints it)."""

    grpc: str = "127.0.0.1:7077"
    metrics: str = "127.0.0.1:9077"
    allow_insecure: bool = False
    """Listen beyond loopback although there is no TLS."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much is taken at once. Whatever a client can send has its bound here."""

    batch_events_max: int = 10_000
    batch_bytes_max: int = 4 * MIB
    """Above it a batch is refused in-band. The transport takes 8 MiB; beyond that gRPC itself ends the call."""
    in_flight_batches_max: int = 64
    in_flight_bytes_max: int = 16 * MIB
    """Both per stream: sent and not answered."""
    queue_events_max: int = 100_000
    queue_bytes_max: int = 64 * MIB
    """Both over all senders: waiting for the writer. Streams are not read while it is full, unary calls refused."""
    user_id_bytes_max: int = 256
    session_id_bytes_max: int = 256
    description_bytes_max: int = 4_096
    metadata_bytes_max: int = 65_536
    metadata_depth_max: int = 32
    """Of nested objects and arrays; also for the values of changes."""
    tags_max: int = 32
    tag_bytes_max: int = 128
    row_id_bytes_max: int = 1_024
    types_max: int = 10_000
    sources_max: int = 1_000
    months_max: int = 1_200
    """Months that the store may hold: wild timestamps cannot create more."""
    future_skew_max_ms: int = 24 * 3_600_000
    oldest_month: str = "2000-01"
    """Events before it are rejected."""

    @property
    def oldest_timestamp_ms(self) -> int:
        """The oldest event time that is taken."""
        return Month.parse(self.oldest_month).start_ms


class Ingest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How batches become commits."""

    linger_max_ms: float = 3.0
    """How long a commit waits for batches that usually come together. A lone sender never waits."""
    group_events_max: int = 16_000
    group_bytes_max: int = 8 * MIB
    """The most that one commit takes."""
    allow_accepted: bool = False
    """Whether senders may ask for answers before the disk has the events."""
    open_registry: bool = True
    """Whether the first event of an unknown type registers it."""


class Storage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The embedded engine."""

    page_cache_bytes: int = 64 * MIB
    """Over all open months, for the writer."""
    open_months_max: int = 32
    """Month files that the writer keeps open, and as many again per reader."""
    wal_bytes_max: int = 64 * MIB
    """Above it the writer itself checkpoints before it goes on."""
    disk_free_bytes_min: int = 64 * MIB
    """Writes are refused while the file system has less room."""


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Questions."""

    readers: int = 2
    """Questions answered at the same time; others wait."""
    waiting_max: int = 64
    """Questions that may wait; more are refused."""
    timeout_max_ms: int = 60_000
    """A question without a nearer deadline is stopped after this."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it."""

    data: str = "./trackd-data"
    listen: Listen = Listen()
    limits: Limits = Limits()
    ingest: Ingest = Ingest()
    storage: Storage = Storage()
    query: Query = Query()


def load(path: Path | None, overrides: Mapping[str, Any]) -> Config:
    """Reads the file, if any, lays `overrides` ("section.key" -> value, None ignored) over it and checks everything.

    Raises ConfigurationError that lists every problem.
    """
    tree: dict[str, Any] = {}
    origin = str(path) if path else "command line"
    if path:
        try:
            tree = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError("CONFIG_UNREADABLE", f"{path}: {error}") from error
    for dotted, value in overrides.items():
        if value is None:
            continue
        *sections, key = dotted.split(".")
        table = tree
        for section in sections:
            table = table.setdefault(section, {})
        table[key] = value
    problems: list[str] = []
    config = _convert(tree, problems)
    problems += _judge(config)
    if problems:
        raise ConfigurationError(
            "CONFIG_INVALID",
            "\n".join(f"{origin}: {problem}" for problem in problems),
            hint="every key is explained in deploy/trackd.toml",
        )
    return config


def _convert(tree: Mapping[str, Any], problems: list[str]) -> Config:
    """Takes over key by key, so that one wrong key does not hide the next; a wrong one keeps its default."""
    fields: dict[str, Any] = {}
    known = {field.name: field.type for field in msgspec.structs.fields(Config)}
    for name, value in tree.items():
        kind = known.get(name)
        if kind is None:
            problems.append(f"{name}: no such section; known are {', '.join(known)}")
        elif not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            fields[name] = _value(name, value, kind, problems)
        elif not isinstance(value, dict):
            problems.append(f"{name}: must be a table")
        else:
            keys = {field.name: field.type for field in msgspec.structs.fields(kind)}
            section = {}
            for key, inner in value.items():
                if key not in keys:
                    problems.append(f"{name}.{key}: no such key; known are {', '.join(keys)}")
                else:
                    section[key] = _value(f"{name}.{key}", inner, keys[key], problems)
            fields[name] = kind(**{key: inner for key, inner in section.items() if inner is not None})
    return Config(**{name: value for name, value in fields.items() if value is not None})


def _value(name: str, value: Any, kind: Any, problems: list[str]) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problems.append(f"{name}: {error}")
        return None


def _judge(config: Config) -> list[str]:
    """What types cannot say."""
    problems = []
    for name in ("limits", "ingest", "storage", "query"):
        section = getattr(config, name)
        for key in section.__struct_fields__:
            value = getattr(section, key)
            if isinstance(value, int | float) and not isinstance(value, bool) and value < (key == "linger_max_ms" and 0 or 1):
                problems.append(f"{name}.{key}: must be positive, not {value}")
    try:
        Month.parse(config.limits.oldest_month)
    except ValueError:
        problems.append(f"limits.oldest_month: {config.limits.oldest_month!r} is not a month written YYYY-MM")
    if config.limits.batch_bytes_max > 7 * MIB:
        problems.append("limits.batch_bytes_max: at most 7 MiB, since the transport takes 8 MiB")
    if config.limits.batch_events_max > config.limits.queue_events_max:
        problems.append("limits.batch_events_max: must fit into limits.queue_events_max")
    if config.limits.batch_bytes_max > config.limits.queue_bytes_max:
        problems.append("limits.batch_bytes_max: must fit into limits.queue_bytes_max")
    for key in ("grpc", "metrics"):
        address = getattr(config.listen, key)
        host = _host(address)
        if host is None:
            problems.append(f"listen.{key}: {address!r} is not HOST:PORT")
        elif not config.listen.allow_insecure and not _loopback(host):
            problems.append(
                f"listen.{key}: {address} is not a loopback address and there is no TLS: anybody who reaches it can "
                "write and read; if the network is trusted say so with --allow-insecure (listen.allow_insecure)"
            )
    return problems


def _host(address: str) -> str | None:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        return None
    return host.removeprefix("[").removesuffix("]")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
