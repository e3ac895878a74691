"""`trackd count`: counts events in groups, as bars for people or as JSON."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import orjson
import trackd
import typer

from server.cli import export, filters
from server.cli.bars import bar_table
from server.cli.export import ExportColumn, Format, Kind
from server.cli.terminal import AsJson, Target, Timeout, connected, out, say, talks_to_a_daemon


class Dimension(StrEnum):
    """What events are counted by."""

    TYPE = "type"
    MONTH = "month"
    SOURCE = "source"
    USER = "user"


_FIELDS = {Dimension.TYPE: "type", Dimension.MONTH: "month", Dimension.SOURCE: "source", Dimension.USER: "user_id"}


@talks_to_a_daemon
def count(
    by: Annotated[
        list[Dimension] | None, typer.Option("--by", help="Groups; repeat for finer ones. Without: the total.")
    ] = None,
    types: filters.Types = None,
    users: filters.Users = None,
    sources: filters.Sources = None,
    sessions: filters.Sessions = None,
    tags: filters.Tags = None,
    since: filters.Since = None,
    until: filters.Until = None,
    top: Annotated[int, typer.Option(min=0, help="Rows of the table at most; 0: all. JSON has all.")] = 40,
    form: export.ChosenFormat = None,
    output: export.Output = None,
    target: Target = trackd.DEFAULT_TARGET,
    timeout: Timeout = 60.0,
    as_json: AsJson = False,
) -> None:
    """Count events, exactly and up to the last acknowledged one.

    Months are UTC calendar months of event time. JSON, by --json or --format json, is
    {"rows": [{"type": ..., "events": ...}], "events": ..., "as_of_position": ...}.

    Exit codes: 0 done, 1 refused, 2 no daemon answers (or wrong usage).
    """
    chosen = export.chosen(form, output, as_json=as_json)
    dimensions = list(dict.fromkeys(by or ()))
    where = filters.event_filter(types, users, sources, sessions, tags, since, until)
    with connected(target, timeout) as client:
        counts = client.count_events(where, by=[dimension.value for dimension in dimensions])
    if chosen is Format.JSON:
        export.write_lines(output, [orjson.dumps(counts_json(counts, dimensions)).decode()])
        return
    rows = [(tuple(getattr(row, _FIELDS[name]) for name in dimensions), row.events) for row in counts.rows]
    if chosen is not Format.TABLE:
        columns = [*(ExportColumn(name.value, Kind.TEXT) for name in dimensions), ExportColumn("events", Kind.INTEGER)]
        export.write(chosen, output, columns, [[(*key, events) for key, events in rows]])
        return
    if dimensions and dimensions[0] is not Dimension.MONTH:
        rows.sort(key=lambda row: -row[1])
    shown = rows if not top else rows[-top:] if dimensions[:1] == [Dimension.MONTH] else rows[:top]
    if dimensions:
        out.print(bar_table([dimension.value for dimension in dimensions], shown))
        if len(shown) < len(rows):
            say(f"{len(rows) - len(shown):,} more rows; --top shows them (now {top})", "dim")
    out.print(
        f"[bold]{counts.events:,} events[/bold] [dim]as of position {counts.as_of_position:,}[/dim]", highlight=False
    )


def counts_json(counts: trackd.CountEventsResponse, dimensions: list[Dimension]) -> dict[str, Any]:
    """The answer as it is printed: a row has the names of --by and `events`."""
    return {
        "rows": [
            {name.value: getattr(row, _FIELDS[name]) for name in dimensions} | {"events": row.events}
            for row in counts.rows
        ],
        "events": counts.events,
        "as_of_position": counts.as_of_position,
    }
