"""`trackd events`: lists events, as a table for people or as JSON lines."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec
import orjson
import trackd
import typer
from rich.table import Table
from rich.text import Text

from server.cli import export, filters
from server.cli.export import ExportColumn, Format, Kind
from server.cli.moments import show_moment
from server.cli.terminal import AsJson, Target, Timeout, connected, harmless, out, say, talks_to_a_daemon

_ACTIONS = {1: "create", 2: "update", 3: "delete"}
_STATUSES = {0: "success", 1: "success", 2: "failed"}


class Order(StrEnum):
    """In which order events are listed."""

    TIME_ASC = "time_asc"
    TIME_DESC = "time_desc"
    POSITION_ASC = "position_asc"
    POSITION_DESC = "position_desc"


@talks_to_a_daemon
def events(
    types: filters.Types = None,
    users: filters.Users = None,
    sources: filters.Sources = None,
    sessions: filters.Sessions = None,
    tags: filters.Tags = None,
    since: filters.Since = None,
    until: filters.Until = None,
    order: Annotated[Order, typer.Option(help="By event time or in commit order.")] = Order.TIME_DESC,
    limit: Annotated[int, typer.Option(min=0, help="How many at most; 0: all.")] = 20,
    form: export.ChosenFormat = None,
    output: export.Output = None,
    target: Target = trackd.DEFAULT_TARGET,
    timeout: Timeout = 60.0,
    as_json: AsJson = False,
) -> None:
    """List events, the newest first.

    JSON, by --json or --format json, is one object a line, metadata as a JSON value. In CSV and Parquet, metadata and
    values of changes are JSON texts, and times are UTC. Options that choose events must all match; one that is repeated
    matches any of its values.

    Exit codes: 0 done, 1 refused, 2 no daemon answers (or wrong usage).
    """
    chosen = export.chosen(form, output, as_json=as_json)
    where = filters.event_filter(types, users, sources, sessions, tags, since, until)
    with connected(target, timeout) as client:
        # One more than shown tells whether there are more.
        wanted = None if limit == 0 else limit + (chosen is Format.TABLE)
        found = itertools.islice(
            client.list_events(where, order=order.value, page_size=min(wanted or 1_000, 1_000)), wanted
        )
        if chosen is Format.JSON:
            export.write_lines(output, (orjson.dumps(event_json(stored)).decode() for stored in found))
            return
        if chosen is not Format.TABLE:
            export.write(chosen, output, EXPORTED, _batches(found))
            return
        rows = list(found)
    out.print(event_table(rows[:limit] if limit else rows))
    if limit and len(rows) > limit:
        say(f"there are more; --limit shows them (now {limit})", "dim")
    if not rows:
        say("no events match", "dim")


EXPORTED = [
    ExportColumn("position", Kind.INTEGER),
    ExportColumn("id", Kind.TEXT),
    ExportColumn("type", Kind.TEXT),
    ExportColumn("user_id", Kind.TEXT),
    ExportColumn("source", Kind.TEXT),
    ExportColumn("timestamp", Kind.INSTANT),
    ExportColumn("received", Kind.INSTANT),
    ExportColumn("session_id", Kind.TEXT),
    ExportColumn("client_ip", Kind.TEXT),
    ExportColumn("description", Kind.TEXT),
    ExportColumn("tags", Kind.TEXTS),
    ExportColumn("metadata", Kind.TEXT),
    ExportColumn("change_table", Kind.TEXT),
    ExportColumn("change_row", Kind.TEXT),
    ExportColumn("change_action", Kind.TEXT),
    ExportColumn("change_status", Kind.TEXT),
    ExportColumn("change_old_values", Kind.TEXT),
    ExportColumn("change_new_values", Kind.TEXT),
    ExportColumn("change_rows_affected", Kind.INTEGER),
]
"""Events in files, one a row. Texts that are absent are empty, the parts of a change null where there is none."""
EXPORTED_AT_ONCE = 10_000


def _batches(found: Iterable[trackd.StoredEvent]) -> Iterator[export.Rows]:
    """The rows for EXPORTED, so many at a time."""
    rows = map(_exported, found)
    while batch := list(itertools.islice(rows, EXPORTED_AT_ONCE)):
        yield batch


def _exported(stored: trackd.StoredEvent) -> tuple[Any, ...]:
    event = stored.event
    change: tuple[Any, ...] = (None,) * 7
    if event.HasField("change"):
        told = event.change
        change = (
            told.table_name,
            told.row_id,
            _ACTIONS.get(told.action, str(told.action)),
            _STATUSES.get(told.status, str(told.status)),
            told.old_values,
            told.new_values,
            told.rows_affected if told.HasField("rows_affected") else None,
        )
    return (
        stored.position,
        str(UUID(bytes=event.id)),
        event.type,
        event.user_id,
        stored.source,
        event.timestamp_ms,
        stored.received_ms,
        event.session_id,
        event.client_ip,
        event.description,
        list(event.tags),
        event.metadata,
        *change,
    )


def event_table(rows: Iterable[trackd.StoredEvent]) -> Table:
    """Events as a table that fits the terminal: long cells are cut, times are UTC."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    # Columns that may not wrap keep their width; those that may are made as narrow as the terminal needs, and their
    # texts are cut instead of wrapped.
    table.add_column("time (UTC)", no_wrap=True)
    table.add_column("type", no_wrap=True, style="cyan")
    table.add_column("user", max_width=28)
    table.add_column("tags", max_width=24, style="green")
    table.add_column("what else", style="dim")
    for stored in rows:
        event = stored.event
        told = (show_moment(event.timestamp_ms), event.type, event.user_id, " ".join(event.tags), rest_of(event))
        # What senders wrote must not steer the terminal or be read as markup.
        table.add_row(*(Text(harmless(cell), no_wrap=True, overflow="ellipsis") for cell in told))
    return table


def event_json(stored: trackd.StoredEvent) -> dict[str, Any]:
    """One event as it is printed: absent fields are left out, JSON texts become values digit by digit."""
    event = stored.event
    told: dict[str, Any] = {
        "position": stored.position,
        "id": str(UUID(bytes=event.id)),
        "type": event.type,
        "user_id": event.user_id,
        "source": stored.source,
        "timestamp_ms": event.timestamp_ms,
        "received_ms": stored.received_ms,
    }
    for name in ("session_id", "client_ip", "description"):
        if value := getattr(event, name):
            told[name] = value
    if event.tags:
        told["tags"] = list(event.tags)
    if event.metadata:
        told["metadata"] = _json_value(event.metadata)
    if event.HasField("change"):
        told["change"] = _change_json(event.change)
    return told


def _change_json(change: trackd.Change) -> dict[str, Any]:
    told: dict[str, Any] = {
        "table_name": change.table_name,
        "row_id": change.row_id,
        "action": _ACTIONS.get(change.action, str(change.action)),
        "status": _STATUSES.get(change.status, str(change.status)),
    }
    for name in ("old_values", "new_values"):
        if text := getattr(change, name):
            told[name] = _json_value(text)
    if change.HasField("rows_affected"):
        told["rows_affected"] = change.rows_affected
    return told


def _json_value(text: str) -> orjson.Fragment | str:
    """JSON text put into JSON as it stands, on one line; what is not JSON, as text."""
    try:
        return orjson.Fragment(msgspec.json.format(text, indent=-1))
    except msgspec.DecodeError:
        return text


def rest_of(event: trackd.Event) -> str:
    """Description, change and metadata in a few words."""
    parts = [event.description] if event.description else []
    if event.HasField("change"):
        change = event.change
        parts.append(f"{_ACTIONS.get(change.action, '?')} {change.table_name}/{change.row_id}")
    if event.metadata:
        try:
            known = orjson.loads(event.metadata)
            parts += [f"{key}={value}" for key, value in known.items()]
        except (orjson.JSONDecodeError, AttributeError):
            parts.append(event.metadata)
    return " ".join(parts)
