"""`trackd bench`: measures a real daemon on this machine."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from server.errors import TrackdError

QUIET_LOAD = 0.5
"""The load average, when a run begins, up to which nothing else is going on."""
FILE_COLUMNS = 180
"""The width of a table that goes to a file or a pipe."""

app = typer.Typer(help="Measure a real daemon on this machine.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure a real daemon on this machine."""


@app.command("ingest")
def ingest(
    events: Annotated[int, typer.Option(min=1_000, help="Events to stream.")] = 1_000_000,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Events in a message.")] = 1_000,
    streams: Annotated[int, typer.Option(min=1, max=64, help="Streams at the same time.")] = 1,
    directory: Annotated[Path, typer.Option(help="Where to put the data meanwhile; a disk, not tmpfs.")] = Path(),
    seed: Annotated[int | None, typer.Option(help="Repeat the events of another run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Measure how fast events are taken, beside the limits of the disk and of gRPC.

    Starts a daemon in its own process on a fresh directory and streams prepared events to it over loopback. In the same
    run: the floor (the same rows appended straight through the database driver with the same durability), a gRPC server
    that does nothing, unary calls, and streams at half of the peak rate. Needs about 150 bytes of disk and memory an
    event, and takes about a minute for a million.
    """
    from server.bench.ingest import measure

    chosen = secrets.randbits(32) if seed is None else seed
    with _progress() as say:
        figures = measure(events=events, batch=batch, streams=streams, directory=directory, seed=chosen, say=say)
    figures["seed"] = chosen
    if as_json:
        typer.echo(json.dumps(figures))
        return
    _print_figures("trackd bench ingest", figures)


@app.command("tracker")
def tracker(
    events: Annotated[int, typer.Option(min=1_000, help="Events of each run.")] = 500_000,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Events in a message, of both.")] = 1_000,
    repetitions: Annotated[int, typer.Option(min=1, max=100, help="Runs of both, in turns.")] = 5,
    directory: Annotated[Path, typer.Option(help="Where to put the data meanwhile; a disk, not tmpfs.")] = Path(),
    seed: Annotated[int | None, typer.Option(help="Repeat the events of another run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Measure what Tracker.track costs the thread that calls it, and how fast one process with a Tracker is.

    Each run streams to a fresh daemon in its own process: in turns batches that were encoded ahead, as `bench ingest`
    does, and a process that tracks the same kind of events. Single calls are timed at 5,000 a second and in bursts,
    without metadata and with five keys. Takes about 15 seconds a repetition.
    """
    from server.bench.tracking import measure

    chosen = secrets.randbits(32) if seed is None else seed
    with _progress() as say:
        figures = measure(
            events=events, batch=batch, repetitions=repetitions, directory=directory, seed=chosen, say=say
        )
    figures["seed"] = chosen
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        _print_figures("trackd bench tracker", figures)


@app.command("security")
def security(
    events: Annotated[int, typer.Option(min=1_000, help="Events to stream, each time.")] = 200_000,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often; the figures are medians.")] = 5,
    directory: Annotated[Path, typer.Option(help="Where to put the data meanwhile; a disk, not tmpfs.")] = Path(),
    seed: Annotated[int | None, typer.Option(help="Repeat the events of another run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Measure what TLS and tokens cost, beside the same work without them.

    Four daemons run side by side: plain, with tokens, with TLS, with both. Each takes a stream and 64 unary callers, in
    turns. Needs about 3 kB of disk an event, and takes about two minutes.
    """
    from server.bench.security import measure

    chosen = secrets.randbits(32) if seed is None else seed
    with _progress() as say:
        figures = measure(events=events, rounds=rounds, directory=directory, seed=chosen, say=say)
    figures["seed"] = chosen
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        _print_figures("trackd bench security", figures)


@app.command("query")
def query(
    events: Annotated[int, typer.Option(min=1_000, help="Events to ask about.")] = 1_000_000,
    months: Annotated[int, typer.Option(min=1, max=120, help="Whole months they are spread over.")] = 12,
    users: Annotated[int, typer.Option(min=1, max=10_000_000, help="Users that they are of.")] = 200_000,
    skew: Annotated[float, typer.Option(min=0.0, max=3.0, help="Exponent of a Zipf-like law of users; 0: even.")] = 0.0,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Events in a message.")] = 1_000,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="About the most for one kind of question, asked once.")
    ] = 10.0,
    peer: Annotated[list[str] | None, typer.Option(help="Only this peer: PostgreSQL or DuckDB; repeatable.")] = None,
    without_peers: Annotated[bool, typer.Option("--without-peers", help="Measure trackd alone.")] = False,
    directory: Annotated[Path, typer.Option(help="Where to put the data meanwhile; a disk, not tmpfs.")] = Path(),
    seed: Annotated[int | None, typer.Option(help="Repeat the events and parameters of another run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Measure how fast questions are answered, beside PostgreSQL and DuckDB with the same rows.

    Starts a daemon in its own process on a fresh directory, streams a history to it and asks over gRPC: idle, and again
    while events come in at half of the sustained rate. The peers (extra "bench") are asked the same, idle, and their
    answers are compared row by row. Needs about 1 kB of disk an event; 10 million events take about half an hour.
    Exits with 1 if an answer is missing or differs.
    """
    from server.bench.databases import NAMES
    from server.bench.query import history_before, measure

    names = {name.lower(): name for name in NAMES}
    wanted = [] if without_peers else [one.lower() for one in peer or NAMES]
    if unknown := [one for one in wanted if one not in names]:
        raise typer.BadParameter(f"{unknown[0]} is none of {', '.join(NAMES)}", param_hint="--peer")
    chosen = secrets.randbits(32) if seed is None else seed
    history = history_before(
        time.time(), events=events, months=months, users=users, batch=batch, seed=chosen, skew=skew
    )
    with _progress() as say:
        figures = measure(
            history, seconds=seconds, peer_names=[names[one] for one in wanted], directory=directory, say=say
        )
    figures["seed"] = chosen
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        _print_answers(figures)
    if figures["failed"]:
        raise typer.Exit(1)


@app.command("metrics")
def metrics(
    pairs: Annotated[int, typer.Option(min=1, max=1_000, help="Runs with and without metrics, in turns.")] = 12,
    events: Annotated[int, typer.Option(min=1_000, help="Events to stream in a run.")] = 200_000,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Events in a message.")] = 1_000,
    calls: Annotated[int, typer.Option(min=100, help="Unary calls of one event in a run.")] = 4_000,
    months: Annotated[int, typer.Option(min=1, max=1_000, help="Months of the daemon that is scraped.")] = 300,
    types: Annotated[int, typer.Option(min=1, max=9_000, help="Event types of the daemon that is scraped.")] = 1_000,
    scrapes: Annotated[int, typer.Option(min=1, help="Scrapes, idle and again while events come in.")] = 200,
    directory: Annotated[Path, typer.Option(help="Where to put the data meanwhile; a disk, not tmpfs.")] = Path(),
    seed: Annotated[int | None, typer.Option(help="Repeat the events of another run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Measure what metrics cost the daemon, and how long a scrape takes.

    Streams the same events to a daemon with metrics and to one without, in turns, and then unary calls; scrapes a
    daemon that has many months and types, idle and while events come in. `cost` is the median share of the rate
    that metrics take. Takes about two minutes.
    """
    from server.bench.metrics import measure

    chosen = secrets.randbits(32) if seed is None else seed
    with _progress() as say:
        figures = measure(
            pairs=pairs,
            events=events,
            batch=batch,
            calls=calls,
            months=months,
            types=types,
            scrapes=scrapes,
            directory=directory,
            seed=chosen,
            say=say,
        )
    figures["seed"] = chosen
    if as_json:
        typer.echo(json.dumps(figures))
        return
    table = Table("figure", "value", title="trackd bench metrics")
    table.columns[1].justify = "right"
    for name, value in _flat(figures):
        table.add_row(name, ", ".join(map(str, value)) if isinstance(value, list) else _shown(value))
    console = Console()
    console.print(table)
    if figures["bar_cost_met"] is None:
        console.print("The pairs differ by more than the bar: run it again with more --pairs, or on a quiet machine.")


@app.command("retention")
def retention(
    rows: Annotated[int, typer.Option(min=10_000, help="Events of the month, without ingest.")] = 10_000_000,
    rate: Annotated[int, typer.Option(min=1_000, help="Rows a second of retention, beside ingest.")] = 50_000,
    seconds: Annotated[
        float, typer.Option(min=1.0, help="Events of the month beside ingest, in seconds of it.")
    ] = 20.0,
    directory: Annotated[Path, typer.Option(help="Where to put the data meanwhile; a disk, not tmpfs.")] = Path(),
    seed: Annotated[int | None, typer.Option(help="Repeat the events of another run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
) -> None:
    """Measure how fast retention works, and what senders notice of it.

    First a month is sealed, archived with verification, anonymized and dropped, each by itself. Then a daemon takes
    events at half of its sustained rate: with nothing beside, beside a rate-limited run, and beside the drop of a
    month. Needs about 500 bytes of disk an event, and takes some minutes for ten million.
    """
    from server.bench.retaining import measure

    chosen = secrets.randbits(32) if seed is None else seed
    with _progress() as say:
        figures = measure(rows=rows, rate=rate, seconds=seconds, directory=directory, seed=chosen, say=say)
    figures["seed"] = chosen
    if as_json:
        typer.echo(json.dumps(figures))
        return
    _print_figures("trackd bench retention", dict(_flat(figures)))


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else "cannot be told" if value is None else str(value)


def _flat(figures: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name} ")
        else:
            yield before + name.replace("_", " "), value


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Says what goes on, on standard error; ends the command with the sentence of an error."""
    words = Console(stderr=True)
    try:
        if words.is_terminal:
            with words.status("starting") as status:
                yield status.update
        else:
            yield lambda text: words.print(text, highlight=False, soft_wrap=True)
    except TrackdError as error:
        words.print(f"[red]{error.reason}[/red] {error}", highlight=False)
        raise typer.Exit(1) from error


def _print_figures(title: str, figures: dict[str, Any]) -> None:
    table = Table("figure", "value", title=title)
    table.columns[1].justify = "right"
    for name, value in figures.items():
        if isinstance(value, bool):
            shown = "yes" if value else "NO"
        else:
            shown = ", ".join(f"{one:,}" for one in value) if isinstance(value, list) else f"{value:,}"
        table.add_row(name, shown)
    Console().print(table)


def _print_answers(figures: dict[str, Any]) -> None:
    loaded, live = figures["load"], figures["ingest"]
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, FILE_COLUMNS)
    table = Table(title=f"trackd bench query: milliseconds, p50 / p99, {figures['events']:,} events")
    table.add_column("question")
    for name in ("idle", "bar", "with ingest", "bar", *figures["peers"]):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for entry in figures["questions"]:
        cells = [_times(entry["idle"]), _bar(entry["bar_p99_ms"])]
        cells += [_times(entry["with_ingest"]), _bar(entry["bar_with_ingest_p99_ms"])]
        cells += [_times(peer) for peer in entry["peers"].values()]
        table.add_row(entry["title"], *cells, entry["verdict"])
    console.print(table)
    met = "met" if loaded["bar_met"] else "MISSED"
    console.print(
        f"Sustained ingest with everything caught up: {loaded['sustained_events_per_second']:,} events/s, "
        f"{loaded['sustained_ratio_to_floor']} of the floor (bar {loaded['bar_sustained_ratio_to_floor']}: {met}); "
        f"the tail had {loaded['tail_events_peak']:,} events at most.\n"
        f"While questions were asked: {live['events_per_second']:,} events/s of {live['asked_events_per_second']:,}, "
        f"acknowledged in {live['ack_p50_ms']} / {live['ack_p99_ms']} ms.",
        highlight=False,
    )
    if figures["load_average"] > QUIET_LOAD:
        console.print(
            f"The machine was busy with other things (load {figures['load_average']}): do not trust small differences.",
            highlight=False,
        )


def _times(timing: dict[str, Any]) -> str:
    return "failed" if "error" in timing else f"{timing['p50_ms']:,.1f} / {timing['p99_ms']:,.1f}"


def _bar(bar_ms: float | None) -> str:
    return "" if bar_ms is None else f"< {bar_ms:,.0f}"
