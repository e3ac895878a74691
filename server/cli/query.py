"""`trackd query`: metrics over groups of events, as a table, charts, JSON, CSV or Parquet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import orjson
import trackd
import typer
from trackd import where

from server.cli import comparisons, export, filters
from server.cli.comparisons import one_of, parse_comparison, together
from server.cli.export import ExportColumn, Format, Kind
from server.cli.moments import parse_moment
from server.cli.show_table import TIME, as_charts, as_table
from server.cli.terminal import AsJson, Target, Timeout, connected, out, say, talks_to_a_daemon
from server.errors import Invalid
from server.time_buckets import zone_of

Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        "-m",
        metavar="METRIC",
        help="events (the default), users, or of numbers in the metadata sum(KEY), min, max, avg, p50, p95, p99.",
    ),
]
Dimensions = Annotated[
    list[str] | None,
    typer.Option(
        "--by",
        metavar="DIMENSION",
        help="type, source, user, tag, metadata:KEY, time:15min, time:hour, time:day, time:week or time:month. Repeat.",
    ),
]
Zone = Annotated[
    str, typer.Option("--zone", metavar="NAME", help="Whose days, and whose clock --since and --until are read by.")
]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", "-w", metavar="COMPARISON", help=f"{comparisons.FORMS}. Repeat: all must hold."),
]
AnyHolds = Annotated[bool, typer.Option("--any", help="One of the --where is enough.")]
Order = Annotated[
    list[str] | None,
    typer.Option("--order", metavar="COLUMN", help="Order by this column; -events: the largest first. Repeat."),
]
Limit = Annotated[int, typer.Option(min=0, help="Rows at most; 0: as many as the daemon gives.")]
Totals = Annotated[bool, typer.Option("--totals", help="Also over all groups together.")]
Empty = Annotated[bool, typer.Option("--empty", help="Also time buckets without events.")]
Compare = Annotated[bool, typer.Option("--compare", help="Also the period before: as many months, days or seconds.")]
Chart = Annotated[bool, typer.Option("--chart", help="Draw lines over time, or else bars.")]
JsonQuestion = Annotated[
    str | None,
    typer.Option("--json-question", metavar="FILE", help="The question as AggregateRequest in JSON; - reads it here."),
]

METRICS_DEFAULT = ("events",)


@talks_to_a_daemon
def query(
    metrics: Metrics = None,
    by: Dimensions = None,
    since: filters.Since = None,
    until: filters.Until = None,
    zone: Zone = "UTC",
    comparing: Where = None,
    any_holds: AnyHolds = False,
    types: filters.Types = None,
    users: filters.Users = None,
    sources: filters.Sources = None,
    sessions: filters.Sessions = None,
    tags: filters.Tags = None,
    order: Order = None,
    limit: Limit = 0,
    totals: Totals = False,
    empty: Empty = False,
    compare: Compare = False,
    json_question: JsonQuestion = None,
    chart: Chart = False,
    form: export.ChosenFormat = None,
    output: export.Output = None,
    target: Target = trackd.DEFAULT_TARGET,
    timeout: Timeout = 60.0,
    as_json: AsJson = False,
) -> None:
    """Compute metrics over groups of events: series, top lists, distinct users, percentiles. Exact and fresh.

    For example, the busiest reviewers of last month beside the month before, and reviews a day in Berlin:

    `trackd query --by user --type review_submitted --since -1mo --until -0mo --limit 10 --compare`

    `trackd query --by time:day --where 'type^=review_' --since -30d --until today --zone Europe/Berlin --chart`

    Exit codes: 0 done, 1 refused, 2 no daemon answers (or wrong usage).
    """
    chosen = export.chosen(form, output, as_json=as_json)
    if chart and chosen is not Format.TABLE:
        raise typer.BadParameter("a chart is for the terminal: leave out --chart, or --format and --output")
    chosen_events = [*one_of("type", types), *one_of("user", users), *one_of("source", sources)]
    chosen_events += [*one_of("session", sessions), *one_of("tag", tags)]
    compared = [parse_comparison(text) for text in comparing or ()]
    if any_holds and compared:
        compared = [where.any_(*compared)]
    local = _zone(zone)
    question = trackd.new_question(
        metrics or METRICS_DEFAULT,
        by or (),
        start_ms=None if since is None else parse_moment(since, local),
        end_ms=None if until is None else parse_moment(until, local),
        time_zone=zone,
        filter=together([*chosen_events, *compared]),
        order_by=order or (),
        limit=limit,
        totals=totals,
        empty_buckets=empty,
        compare_previous_period=compare,
    )
    if json_question is not None:
        question = _read_question(
            json_question, alone=question == trackd.new_question(METRICS_DEFAULT, time_zone="UTC")
        )
    with connected(target, timeout) as client:
        answer = client.ask(question)
    _print(answer, chosen, output, chart=chart)
    if answer.more and question.limit:  # otherwise the daemon has said so
        say(f"there are more rows; --limit shows them (now {question.limit})", "dim")


def _zone(name: str) -> ZoneInfo:
    try:
        return zone_of(name)
    except Invalid as error:
        raise typer.BadParameter(str(error)) from None


def _read_question(name: str, *, alone: bool) -> trackd.AggregateRequest:
    if not alone:
        raise typer.BadParameter("--json-question is the whole question: leave out the options that ask another")
    try:
        return trackd.question_from_json(sys.stdin.read() if name == "-" else Path(name).read_text("utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"{name}: {error.strerror}") from None
    except (trackd.Invalid, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{name}: {error}") from None


def _print(answer: trackd.Table, form: Format, output: Path | None, *, chart: bool) -> None:
    if form is Format.JSON:
        export.write_lines(output, [orjson.dumps(answer_json(answer)).decode()])
    elif form is not Format.TABLE:
        name = answer.question.time_zone
        export.write(form, output, _columns(answer), [list(answer.tuples())], zone=_zone(name), zone_name=name)
    elif chart:
        for part in as_charts(answer, out.width):
            out.print(part)
    else:
        out.print(as_table(answer))
    for warning in answer.warnings:
        say(warning, "yellow")
    if form is Format.TABLE:
        rows = "1 row" if len(answer) == 1 else f"{len(answer):,} rows"
        say(f"{rows} in {answer.read.milliseconds:,.1f} ms, as of position {answer.as_of_position:,}", "dim")


def answer_json(answer: trackd.Table) -> dict[str, Any]:
    """The answer as it is printed: a row has a value for each column, instants are milliseconds since the epoch."""
    return {
        "rows": list(answer.rows()),
        "totals": dict(answer.totals),
        "more": answer.more,
        "warnings": list(answer.warnings),
        "as_of_position": answer.as_of_position,
        "question": orjson.Fragment(trackd.question_to_json(answer.question)),
        "read": {field.name: getattr(answer.read, field.name) for field in answer.read.DESCRIPTOR.fields},
    }


def _columns(answer: trackd.Table) -> list[ExportColumn]:
    """A column of a file for each of the answer: times are instants, other dimensions texts."""
    dimensions, names = len(answer.question.dimensions), list(answer.columns)
    return [
        *(ExportColumn(name, Kind.INSTANT if name.startswith(TIME) else Kind.TEXT) for name in names[:dimensions]),
        *(ExportColumn(name, Kind.REAL if "(" in name else Kind.INTEGER) for name in names[dimensions:]),
    ]
