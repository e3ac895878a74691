"""`trackd pull`: reads Redis Streams with a consumer group and brings what it finds to the daemon."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import trackd
import typer

from server.cli.exit_codes import EXIT_FAILED, EXIT_UNREACHABLE
from server.cli.pulling import address
from server.cli.terminal import (
    AsJson,
    Target,
    complain,
    connected,
    credentials,
    errors_reported,
    talks_to_a_daemon,
    wait_for_daemon,
)

if TYPE_CHECKING:
    from server.cli.pulling import show
    from server.cli.pulling.puller import Plan, Puller
    from server.cli.pulling.streams import RedisStreams

STOP_WITHIN_S = 20.0
"""So long what is under way may take after a signal; below the 30 s that Kubernetes and others give."""
LOOK_S = 0.2
_READING = "Reading"
_TROUBLE = "Trouble"

Url = Annotated[
    str,
    typer.Argument(
        metavar="URL", envvar="TRACKD_REDIS", show_default=False, help=f"{address.FORMS}. A password is never shown."
    ),
]
StreamNames = Annotated[
    list[str], typer.Option("--stream", metavar="NAME", help="A stream to read; repeatable.", show_default=False)
]
Group = Annotated[str, typer.Option("--group", metavar="NAME", help="The consumer group.", show_default=False)]
Consumer = Annotated[
    str,
    typer.Option(
        "--consumer",
        metavar="NAME",
        help="Who reads, in that group; the same over restarts, another for each process. [default: the host's name]",
        show_default=False,
    ),
]
CreateGroup = Annotated[
    bool,
    typer.Option("--create-group", help="Create group and stream where they are missing.", rich_help_panel=_READING),
]
From = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="0|$|ID",
        help="Where a new group begins: with all that is there, with what comes from now on, or behind an entry.",
        rich_help_panel=_READING,
    ),
]
Batch = Annotated[
    int, typer.Option(min=1, max=10_000, help="Entries in a read and events in a batch.", rich_help_panel=_READING)
]
ClaimIdle = Annotated[
    float,
    typer.Option(
        "--claim-idle",
        metavar="SECONDS",
        min=0.1,
        help="Take over entries that any consumer has had for so long without acknowledging them.",
        rich_help_panel=_READING,
    ),
]
Once = Annotated[
    bool, typer.Option("--once", help="End as soon as there is nothing to read.", rich_help_panel=_READING)
]
UntilIdle = Annotated[
    float | None,
    typer.Option(
        "--until-idle",
        metavar="SECONDS",
        min=0.0,
        help="End when nothing new has come for so long.",
        show_default=False,
        rich_help_panel=_READING,
    ),
]
Source = Annotated[str, typer.Option("--source", metavar="NAME", help="Who sends, as the daemon is told.")]
Origin = Annotated[
    str,
    typer.Option(
        "--origin",
        metavar="NAME",
        help="Part of the identity of entries; needed where several servers have streams of one name.",
        show_default=False,
        rich_help_panel=_READING,
    ),
]
DeadLetter = Annotated[
    str | None,
    typer.Option(
        "--dead-letter",
        metavar="STREAM",
        help="Copy refused entries here, with the reason, and acknowledge them.",
        show_default=False,
        rich_help_panel=_TROUBLE,
    ),
]
RefusedMax = Annotated[
    int,
    typer.Option(
        "--refused-max",
        min=0,
        help="Without --dead-letter: stop when more refused entries than this stay pending.",
        rich_help_panel=_TROUBLE,
    ),
]
GiveUpAfter = Annotated[
    float | None,
    typer.Option(
        "--give-up-after",
        metavar="SECONDS",
        min=0.1,
        help="How long to wait for a daemon or a Redis that is gone. [default: for ever]",
        show_default=False,
        rich_help_panel=_TROUBLE,
    ),
]


@talks_to_a_daemon
def pull(
    url: Url,
    streams: StreamNames,
    group: Group,
    consumer: Consumer = "",
    source: Source = "redis",
    target: Target = trackd.DEFAULT_TARGET,
    create_group: CreateGroup = False,
    begin: From = "0",
    batch: Batch = 1_000,
    claim_idle: ClaimIdle = 60.0,
    once: Once = False,
    until_idle: UntilIdle = None,
    origin: Origin = "",
    dead_letter: DeadLetter = None,
    refused_max: RefusedMax = 1_000,
    give_up_after: GiveUpAfter = None,
    as_json: AsJson = False,
) -> None:
    """Pull events out of Redis Streams, each stored once, until Ctrl-C or SIGTERM.

    An entry is acknowledged in Redis when its event is on disk, and its event always has the same id and time: whoever
    is killed, restarted or cut off in between, nothing is lost and nothing is stored twice. Entries that this consumer
    or others did not get to the end with are read again. Nothing is deleted from the stream; trimming it is yours.

    An entry is either one field `event` with a line of JSON as `trackd import` takes it, or the same keys as fields of
    their own: type, user_id, timestamp_ms, session_id, client_ip, description, tags (a,b or a JSON list), metadata (a
    JSON object), change (a JSON object), id. Any other field is refused by name. Without timestamp_ms the event has the
    time of the entry.

    Refused entries, which are no events or which the daemon rejects, do not stop the others. With --dead-letter they
    are copied there. Without, they stay pending in the group, where XPENDING shows them, and are tried again at the
    next start; more than --refused-max of them end the command.

    Needs the extra `redis` (pip install 'trackd[redis]') and a Redis 6.2 or later, with or without replicas; not Redis
    Cluster.

    Exit codes: 0 stopped, or nothing left to read; 1 refused, or entries stay pending; 2 no daemon or no Redis answers
    (or wrong usage).
    """
    reader = _reader(url, streams, group, consumer or socket.gethostname(), dead_letter)
    from server.cli.pulling.puller import Plan

    plan = Plan(
        batch=batch,
        claim_idle_s=claim_idle,
        until_idle_s=0.0 if once else until_idle,
        dead_letters=dead_letter is not None,
        refused_max=refused_max,
        origin=origin,
        give_up_after_s=give_up_after or threading.TIMEOUT_MAX / 2,
    )
    with _redis_errors(url), errors_reported(target):
        with connected(target, timeout_s=5.0) as client:
            wait_for_daemon(client)
        reader.prepare(begin if create_group else None)
        about = {"redis": address.shown(url), "streams": streams, "group": group, "target": target, "source": source}
        _run(reader, plan, about, dead_letter, as_json=as_json)


def _reader(url: str, streams: list[str], group: str, consumer: str, dead_letter: str | None) -> RedisStreams:
    """What reads; ends the command where the options make no sense."""
    if find_spec("redis") is None:
        raise typer.BadParameter("needs the Redis client: pip install 'trackd[redis]'")
    if len(set(streams)) < len(streams):
        raise typer.BadParameter("a stream is named twice", param_hint="--stream")
    if dead_letter in streams:
        raise typer.BadParameter("refused entries cannot go back to where they come from", param_hint="--dead-letter")
    from server.cli.pulling.streams import RedisStreams

    try:
        address.check(url)
        return RedisStreams(url, streams, group, consumer, dead_letter)
    except address.BadAddress as bad:
        raise typer.BadParameter(str(bad), param_hint="URL") from None


def _run(reader: RedisStreams, plan: Plan, about: dict[str, Any], dead_letter: str | None, *, as_json: bool) -> None:
    """Pulls, tells what it did, and raises what ended it early, or Exit where entries stay pending."""
    from server.cli.pulling import show
    from server.cli.pulling.puller import Puller

    how = credentials()  # here, for appenders are made on a thread of their own

    def appender(answered: Callable[[trackd.BatchResult], None]) -> trackd.Appender:
        return trackd.Appender(
            about["target"],
            source=about["source"],
            on_result=answered,
            batch_events=plan.batch,
            give_up_after_s=plan.give_up_after_s,
            **how,
        )

    started_s = time.monotonic()
    with show.watching(dead_letter) as (watch, lines):
        lines.begun(**about)
        puller = Puller(reader, appender, plan, lines)
        puller.start()
        with _stopped_by_signals(puller) as asked:
            aborted = _see_through(puller, watch)
        counts = puller.counts
    show.result(counts, time.monotonic() - started_s, about | {"stopped": bool(asked)} if as_json else None)
    if aborted and asked:
        complain(f"{puller.under_way:,} entries were under way and stay pending: they are read again at the next start")
        raise typer.Exit(EXIT_FAILED)
    if puller.failure is not None:
        raise puller.failure
    if not counts.clean and not asked:
        raise typer.Exit(EXIT_FAILED)


def _see_through(puller: Puller, watch: show.Watch) -> bool:
    """Returns when all has ended; True if it had to be cut short, because an end was due and took too long."""
    stop_until_s: float | None = None
    while not puller.wait(LOOK_S):
        watch.look(puller.counts)
        if stop_until_s is None and puller.stopping:
            stop_until_s = time.monotonic() + STOP_WITHIN_S
        if stop_until_s is not None and time.monotonic() > stop_until_s:
            puller.abort()
            puller.wait(STOP_WITHIN_S)
            return True
    watch.look(puller.counts)
    return False


@contextmanager
def _stopped_by_signals(puller: Puller) -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM end the run in order, a second one at once. Yields the signals that came."""
    came: list[int] = []

    def stop(number: int, _frame: object) -> None:
        came.append(number)
        signal.signal(number, signal.SIG_DFL)
        puller.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _redis_errors(url: str) -> Iterator[None]:
    from server.cli.pulling.puller import TooManyRefused
    from server.cli.pulling.streams import RedisAway, RedisRefused

    try:
        yield
    except RedisAway as away:
        complain(f"no Redis answers at {address.shown(url)}: {away}")
        raise typer.Exit(EXIT_UNREACHABLE) from None
    except (RedisRefused, TooManyRefused) as refused:
        complain(str(refused))
        raise typer.Exit(EXIT_FAILED) from None
