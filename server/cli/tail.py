"""`trackd tail`: follows events in the terminal as they are stored."""

from __future__ import annotations

import math
import signal
import threading
from typing import Annotated, Any

import trackd
import typer
from rich.text import Text

from server.cli import filters, moments
from server.cli.events import event_json, rest_of
from server.cli.moments import parse_moment, show_moment
from server.cli.terminal import AsJson, Target, connected, harmless, out, print_json, say, talks_to_a_daemon

SERVICE = "trackd.v1.SubscribeService"
_GAPS = {1: "damaged", 2: "dropped"}
FIRST_CONTACT_S = 10.0
"""So long the daemon may take to answer at all. Once it has, every interruption is waited out."""


@talks_to_a_daemon
def tail(
    types: filters.Types = None,
    users: filters.Users = None,
    sources: filters.Sources = None,
    sessions: filters.Sessions = None,
    tags: filters.Tags = None,
    since: filters.Since = None,
    until: filters.Until = None,
    begin: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="now|beginning|POSITION|TIME",
            help=f"Where to begin: behind a position, or with what was received at or after a time ({moments.FORMS}).",
        ),
    ] = "now",
    limit: Annotated[int, typer.Option(min=0, help="End after so many events; 0: never.")] = 0,
    target: Target = trackd.DEFAULT_TARGET,
    as_json: AsJson = False,
) -> None:
    """Follow events as they are stored, in the order in which they are, until Ctrl-C.

    With --json one object a line. A daemon that restarts is waited for, and nothing is left out or comes twice. At the
    end the position to go on at is told on standard error: give it to --from. Options that choose events must all
    match; one that is repeated matches any of its values.

    Exit codes: 0 done, 1 refused, 2 no daemon answers (or wrong usage).
    """
    where = filters.event_filter(types, users, sources, sessions, tags, since, until)
    beginning = _beginning(begin)
    with connected(target, FIRST_CONTACT_S) as client:
        client.health(SERVICE)
        spoken = _Spoken()
        subscription = client.subscribe(
            where,
            **beginning,
            on_frame=spoken.frame,
            on_interruption=spoken.interruption,
            give_up_after_s=math.inf,
        )
        _end_at_signals(subscription)
        try:
            for number, stored in enumerate(subscription, 1):
                if as_json:
                    print_json(event_json(stored))
                else:
                    # Through a pipe whole, in a terminal one line each.
                    out.print(_line(stored), soft_wrap=not out.is_terminal)
                if number == limit:
                    break
        finally:
            subscription.close()
        if subscription.position is not None:
            say(f"go on with --from {subscription.position}", "dim")


def _beginning(text: str) -> dict[str, Any]:
    """What --from means."""
    if text == "now":
        return {}
    if text == "beginning":
        return {"after_position": 0}
    if text.isascii() and text.isdigit():
        return {"after_position": int(text)}
    return {"received_from_ms": parse_moment(text)}


class _Spoken:
    """What is said on standard error beside the events."""

    def __init__(self) -> None:
        self._lost = False

    def interruption(self, error: trackd.TrackdError) -> None:
        """Once an outage."""
        if not self._lost:
            say(f"no daemon for now, waiting: {' '.join(str(error).split())}", "dim")
        self._lost = True

    def frame(self, frame: trackd.SubscribeResponse) -> None:
        """That it goes on, and what cannot be shown."""
        if frame.WhichOneof("frame") == "gap":
            say(_gap(frame.gap), "bold red")
        elif self._lost:
            say("the daemon is back", "dim")
            self._lost = False


def _gap(gap: trackd.SubscribeGap) -> str:
    return f"events of {gap.month} may be missing: the month is {_GAPS.get(gap.reason, 'gone')}"


def _end_at_signals(subscription: trackd.Subscription) -> None:
    """Ctrl-C and SIGTERM end it between two events, so that the position told is that of what was shown."""

    def end(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        # By another thread: this one may be in the middle of anything.
        threading.Thread(target=subscription.close, daemon=True).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def _line(stored: trackd.StoredEvent) -> Text:
    event = stored.event
    line = Text(show_moment(event.timestamp_ms), no_wrap=True, overflow="ellipsis")
    line.append(f"  {harmless(event.type):<16}", "cyan")
    line.append(f"  {harmless(event.user_id):<12}")
    if event.tags:
        line.append(f"  {harmless(' '.join(event.tags))}", "green")
    line.append(f"  {harmless(rest_of(event))}", "dim")
    line.rstrip()
    return line
