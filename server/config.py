"""The daemon's settings: frozen, checked once at start, every problem reported at once with its file and key.

A TOML file has one table a section, with the field names below as keys; the command line overrides single keys.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from retention.month import Month
from server import exposure, objectives
from server.errors import ConfigurationError
from server.model import NAME, Role
from server.objectives import Objective

_Section = TypeVar("_Section", bound=msgspec.Struct)

MIB = 1024 * 1024

MAY_BE_ZERO = frozenset(
    {
        "linger_max_ms",
        "future_skew_max_ms",
        "disk_free_bytes_min",
        "seal_after_days",
        "quiet_minutes",
        "rows_per_second_max",
    }
)
"""Numbers for which none is a setting that makes sense; all others start at 1."""


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the daemon can be reached. Port 0 takes a free one (and prints it)."""

    grpc: str = "127.0.0.1:7077"
    metrics: str = "127.0.0.1:9077"
    allow_insecure: bool = False
    """Listen beyond loopback although TLS or tokens are missing, for gRPC and for metrics."""
    allow_insecure_metrics: bool = False
    """The same for metrics alone: there is nothing of anybody in them."""
    control: str = ""
    """The daemon's Unix socket, for its own user and root, who may do everything there. "": DATA/control.sock."""


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the wire is protected. Files are PEM and are read again when they change."""

    certificate: str = ""
    """The daemon's certificate, followed by those of its issuers. With it and `key` gRPC is TLS and nothing else."""
    key: str = ""
    client_ca: str = ""
    """Whose signature the certificates of clients must have. With it a client without one gets no connection."""
    metrics: bool = False
    """HTTPS, with the same certificate, for metrics and health. Never asks for client certificates."""


class Access(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may do what. Without any of it whoever connects may do everything."""

    tokens: str = ""
    """The file that `trackd token` writes; read again when it changes."""
    client_roles: dict[str, tuple[Role, ...]] = {}
    """Roles of client certificates, by common name or any subject alternative name, for calls without a token."""


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Log lines."""

    level: Literal["debug", "info", "warning", "error"] = "info"


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

    linger_max_ms: float = 10.0
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
    """Over all open months, for the writer. Each reader has at most as much."""
    open_months_max: int = 32
    """Month files that the writer keeps open, and as many again per reader."""
    wal_bytes_max: int = 64 * MIB
    """Above it the writer itself checkpoints before it goes on."""
    disk_free_bytes_min: int = 64 * MIB
    """Writes are refused while the file system has less room."""
    index_cache_bytes: int = 64 * MIB
    """Parts of indexes that questions used last, for all readers together."""
    tail_events_max: int = 262_144
    """Events, over all months, that the index may lag behind. Beyond it the writer waits for the index."""
    reporting_time_zones: tuple[str, ...] = ()
    """At most four IANA names: local days with exact users are kept for these as they are for UTC."""


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Questions."""

    readers: int = 2
    """Questions answered at the same time; others wait."""
    waiting_max: int = 64
    """Questions that may wait; more are refused."""
    timeout_max_ms: int = 60_000
    """A question without a nearer deadline is stopped after this."""
    rows_max: int = 50_000_000
    """Rows that a question may have to look at, beyond what rollups answer; more is refused before it starts."""
    groups_max: int = 1_000_000
    """Groups that a question may make."""
    answer_rows_max: int = 20_000
    """Rows of an answer; the limit of a question that names none."""


class Subscribe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Following the store."""

    streams_max: int = 64
    """Subscribers at the same time; more are refused."""
    readers: int = 2
    """Threads that read for subscribers, beside those of questions."""


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When months are sealed."""

    seal_after_days: int = 0
    """Days after its end that a month is sealed; 0: never."""
    quiet_minutes: int = 60
    """So long no event must have come for it: an import of history is not cut off."""


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of months by policy."""

    policy: str = ""
    """The policy file; see deploy/retention.toml. It says when months are sealed, too. Read again for every plan."""
    rows_per_second_max: int = 0
    """How fast retention works beside events; 0: as fast as it goes."""


class Doors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Services of other protocols that take events, on the same port."""

    otlp: bool = True
    """Logs and events of OpenTelemetry: opentelemetry.proto.collector.logs.v1.LogsService."""
    otlp_plain_logs_type: str = ""
    """The type of log records that have no event name; "" rejects them."""
    cloud_events: bool = True
    """Batches of CloudEvents: trackd.cloudevents.v1.CloudEventService."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it."""

    data: str = "./trackd-data"
    listen: Listen = Listen()
    tls: Tls = Tls()
    access: Access = Access()
    limits: Limits = Limits()
    ingest: Ingest = Ingest()
    storage: Storage = Storage()
    query: Query = Query()
    subscribe: Subscribe = Subscribe()
    rotation: Rotation = Rotation()
    retention: Retention = Retention()
    doors: Doors = Doors()
    objective: tuple[Objective, ...] = objectives.DEFAULTS
    """Those of the file replace the default ones, all of them."""
    log: Log = Log()


def load(path: Path | None, overrides: Mapping[str, Any]) -> Config:
    """Reads the file, if any, lays `overrides` ("section.key" -> value, None ignored) over it and checks everything.

    Raises ConfigurationError that lists every problem, each with where it was said and its key.
    """
    tree = _read(path) if path else {}
    given = {key: value for key, value in overrides.items() if value is not None}
    problems: dict[str, list[str]] = {}
    for key, value in given.items():
        _lay_over(tree, key, value)
    config = _convert(tree, problems)
    # A value that is not even of the right kind was said already, and was judged by its default.
    unread = set(problems)
    for key, text in problems_of(config):
        if key not in unread and key.rpartition(".")[0] not in unread:
            problems.setdefault(key, []).append(text)
    if problems:
        lines = []
        for key, texts in problems.items():
            origin = "command line" if key in given or path is None else str(path)
            lines += [f"{origin}: {key}: {text}" for text in texts]
        raise ConfigurationError(
            "CONFIG_INVALID", "\n".join(lines), hint="every key is explained in deploy/trackd.toml"
        )
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else error
        hint = "it must be TOML; deploy/trackd.toml is an example"
        raise ConfigurationError("CONFIG_UNREADABLE", f"{path}: {problem}", hint=hint) from error


def _lay_over(tree: dict[str, Any], dotted: str, value: Any) -> None:
    section, _dot, key = dotted.rpartition(".")
    table = tree.setdefault(section, {}) if section else tree
    if isinstance(table, dict):  # if the file has no table there, that is said when it is converted
        table[key] = value


def _convert(tree: Mapping[str, Any], problems: dict[str, list[str]]) -> Config:
    """Takes over key by key, so that one wrong key does not hide the next; a wrong one keeps its default."""
    fields: dict[str, Any] = {}
    known = {field.name: field.type for field in msgspec.structs.fields(Config)}
    for name, value in tree.items():
        kind = known.get(name)
        if kind is None:
            problems[name] = [f"no such section or key; known are {', '.join(known)}"]
        elif name == "objective":
            if isinstance(value, list):
                tables = [
                    _section(f"{name}[{number}]", table, Objective, problems) for number, table in enumerate(value)
                ]
                fields[name] = tuple(tables)
            else:
                problems[name] = ["must be tables, each headed [[objective]]"]
        elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            fields[name] = _section(name, value, kind, problems)
        else:
            _take(fields, name, name, value, kind, problems)
    return Config(**fields)


def _section(dotted: str, value: Any, kind: type[_Section], problems: dict[str, list[str]]) -> _Section:
    if not isinstance(value, dict):
        problems[dotted] = ["must be a table"]
        return kind()
    section: dict[str, Any] = {}
    keys = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, inner in value.items():
        if key in keys:
            _take(section, key, f"{dotted}.{key}", inner, keys[key], problems)
        else:
            problems[f"{dotted}.{key}"] = [f"no such key; known are {', '.join(keys)}"]
    return kind(**section)


def _take(
    fields: dict[str, Any], name: str, dotted: str, value: Any, kind: Any, problems: dict[str, list[str]]
) -> None:
    try:
        fields[name] = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problems[dotted] = [str(error)]


def problems_of(config: Config) -> Iterator[tuple[str, str]]:
    """What is wrong with settings beyond what types can say: (key, problem)."""
    if not config.data:
        yield "data", "must name a directory"
    yield from _judge_numbers(config)
    yield from _judge_limits(config.limits)
    yield from exposure.judge(config.listen, config.tls, config.access)
    if config.doors.otlp_plain_logs_type and not NAME.fullmatch(config.doors.otlp_plain_logs_type):
        yield "doors.otlp_plain_logs_type", 'must be a type (1 to 128 letters, digits and "_.:/-") or empty'
    yield from objectives.judge(config.objective)


def _judge_numbers(config: Config) -> Iterator[tuple[str, str]]:
    for name in ("limits", "ingest", "storage", "query", "subscribe", "rotation", "retention"):
        section = getattr(config, name)
        for key in section.__struct_fields__:
            value = getattr(section, key)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            least = 0 if key in MAY_BE_ZERO else 1
            if not (math.isfinite(value) and value >= least):
                yield f"{name}.{key}", f"must be at least {least}, not {value}"


def _judge_limits(limits: Limits) -> Iterator[tuple[str, str]]:
    try:
        Month.parse(limits.oldest_month)
    except ValueError:
        yield "limits.oldest_month", f"{limits.oldest_month!r} is not a month written YYYY-MM"
    if limits.batch_bytes_max > 7 * MIB:
        yield "limits.batch_bytes_max", f"must be at most {7 * MIB} (7 MiB), since the transport takes 8 MiB"
    for key, bound in (
        ("batch_events_max", "queue_events_max"),
        ("batch_bytes_max", "queue_bytes_max"),
        ("metadata_bytes_max", "batch_bytes_max"),
    ):
        if getattr(limits, key) > getattr(limits, bound):
            yield f"limits.{key}", f"must be at most limits.{bound}, which is {getattr(limits, bound)}"
