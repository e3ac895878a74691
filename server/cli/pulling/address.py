"""The address of a Redis: what is taken, and how it is shown without its password."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

FORMS = "redis://[[user]:password@]host[:port][/db], rediss:// for TLS, or unix://path[?db=0]"
_OPTIONS = re.compile(r"db|username|password|ssl_\w+")


class BadAddress(Exception):
    """This is no address of a Redis. The text does not quote it."""


def check(url: str) -> None:
    """Raises BadAddress for what cannot be used, or could be mistaken so that a part of the password is shown."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("redis", "rediss", "unix") and (parts.port is None or parts.port > 0)
        options = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    except ValueError:
        raise BadAddress(f"write {FORMS}; in a password every special character as %XX") from None
    if not known or not (parts.hostname or parts.scheme == "unix"):
        raise BadAddress(f"write {FORMS}")
    if "@" in parts.path + parts.query + parts.fragment or (
        parts.scheme != "unix" and not re.fullmatch(r"(/\d*)?", parts.path)
    ):
        raise BadAddress(
            f"behind the host there may be the number of a database; write {FORMS}, special characters as %XX"
        )
    if parts.fragment:
        raise BadAddress("there is a #; in a password write it as %23")
    for name in options:
        if not _OPTIONS.fullmatch(name):
            raise BadAddress("of the options behind ? only db, username, password and ssl_... are taken")


def shown(url: str) -> str:
    """An address that passed `check`, for people and logs: no user, no password, no options."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
