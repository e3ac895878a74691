"""`trackd hold`: legal holds."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text
from trackd.retention import RetentionHold

from server.cli.exit_codes import EXIT_UNREACHABLE
from server.cli.retention.reach import Target, Timeout, connected
from server.cli.retention.showing import day, table
from server.cli.terminal import AsJson, harmless, out, print_json, say

Code = Annotated[str, typer.Argument(metavar="CODE", help="What plans and receipts call it.")]


def add(
    code: Annotated[
        str,
        typer.Option(
            "--code",
            metavar="CODE",
            help="What plans, receipts and the evidence call it, for good: it must not tell who it is about.",
        ),
    ],
    reason: Annotated[
        str, typer.Option("--reason", metavar="REASON", help="Why: LITIGATION, TAX_AUDIT ..., in capitals.")
    ],
    users: Annotated[list[str] | None, typer.Option("--user", metavar="ID", help="Whose events; repeat.")] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="Of which types, * allowed; repeat.")
    ] = None,
    sources: Annotated[
        list[str] | None, typer.Option("--source", metavar="NAME", help="From which sources; repeat.")
    ] = None,
    first_month: Annotated[str, typer.Option("--from-month", metavar="MONTH", help="The first month, YYYY-MM.")] = "",
    last_month: Annotated[str, typer.Option("--to-month", metavar="MONTH", help="The last one, included.")] = "",
    target: Target = None,
    timeout: Timeout = 600.0,
    as_json: AsJson = False,
) -> None:
    """Place a hold: from now on no event is anonymized or dropped that all of these match, nor its archives.

    At least one selector must be given. A hold ends when it is released, not by a date, and its code is never used
    twice. Both are recorded in the evidence by code; who and what it is about is not.
    """
    with connected(target, timeout, EXIT_UNREACHABLE) as client:
        placed = client.retention.place_hold(
            code,
            reason,
            users=users or (),
            types=types or (),
            sources=sources or (),
            first_month=first_month,
            last_month=last_month,
        )
    if as_json:
        print_json(_told(placed))
    else:
        say(f"hold {harmless(placed.code)} holds; trackd retention plan says what that leaves alone", "green")


def list_(target: Target = None, timeout: Timeout = 600.0, as_json: AsJson = False) -> None:
    """List the holds by code, released ones too. With --json one object a line. It may name people."""
    with connected(target, timeout, EXIT_UNREACHABLE) as client:
        found = client.retention.holds()
    if as_json:
        for one in found:
            print_json(_told(one))
        return
    if not found:
        say("no holds")
        return
    shown = table("code", "reason", "placed", "released", "what it holds", long=("what it holds",))
    for one in found:
        released = one.HasField("released_ms")
        shown.add_row(
            Text(one.code, style="dim" if released else "magenta"),
            one.reason,
            day(one.placed_ms),
            day(one.released_ms) if released else "",
            Text(harmless(_selectors(one))),
        )
    out.print(shown)


def release(code: Code, target: Target = None, timeout: Timeout = 600.0, as_json: AsJson = False) -> None:
    """End a hold. The next run deals with what it kept, as with everything else that is due."""
    with connected(target, timeout, EXIT_UNREACHABLE) as client:
        released = client.retention.release_hold(code)
    if as_json:
        print_json(_told(released))
    else:
        say(f"hold {harmless(code)} is released", "green")


def _selectors(one: RetentionHold) -> str:
    months = one.first_month or one.last_month
    span = f"{one.first_month or 'the first month'} to {one.last_month or 'the last'}"
    parts = [
        f"user {', '.join(one.users)}" if one.users else "",
        f"type {', '.join(one.types)}" if one.types else "",
        f"source {', '.join(one.sources)}" if one.sources else "",
        span if months else "",
    ]
    return "; ".join(filter(None, parts))


def _told(one: RetentionHold) -> dict[str, Any]:
    return {
        "code": one.code,
        "reason": one.reason,
        "users": list(one.users),
        "types": list(one.types),
        "sources": list(one.sources),
        "first_month": one.first_month or None,
        "last_month": one.last_month or None,
        "placed_ms": one.placed_ms,
        "released_ms": one.released_ms if one.HasField("released_ms") else None,
    }
