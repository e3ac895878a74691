"""The options that choose events, for every command that reads them."""

from __future__ import annotations

from typing import Annotated

import trackd
import typer

from server.cli import moments
from server.cli.moments import parse_moment

Types = Annotated[list[str] | None, typer.Option("--type", metavar="NAME", help="Of this type; repeat for more.")]
Users = Annotated[list[str] | None, typer.Option("--user", metavar="ID", help='By this user; "" for nobody.')]
Sources = Annotated[list[str] | None, typer.Option("--source", metavar="NAME", help="Sent by this service.")]
Sessions = Annotated[list[str] | None, typer.Option("--session", metavar="ID", help="Of this session.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="With at least one of these tags.")]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help=f"At or after this: {moments.FORMS}."),
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Before this; written in the same ways.")]


def event_filter(
    types: list[str] | None,
    users: list[str] | None,
    sources: list[str] | None,
    sessions: list[str] | None,
    tags: list[str] | None,
    since: str | None,
    until: str | None,
) -> trackd.EventFilter:
    """The filter that these options mean: different ones must all match, a repeated one matches any of its values."""
    return trackd.EventFilter(
        types=types or (),
        user_ids=users or (),
        sources=sources or (),
        session_ids=sessions or (),
        tags=tags or (),
        start_ms=None if since is None else parse_moment(since),
        end_ms=None if until is None else parse_moment(until),
    )
