"""Addresses of a Redis: what is taken, and that no part of a password is ever shown."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.cli.pulling import address

SECRET = "Zq9Xw"  # noqa: S105 - that of nobody
AROUND = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=6)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost", "redis://localhost"),
        ("redis://localhost:6380/2", "redis://localhost:6380/2"),
        (f"redis://:{SECRET}@localhost", "redis://localhost"),
        (f"rediss://ann:{SECRET}@cache.example:6380/0", "rediss://cache.example:6380/0"),
        (f"redis://localhost?password={SECRET}&db=1", "redis://localhost"),
        (f"rediss://localhost?ssl_ca_certs=ca.pem&ssl_password={SECRET}", "rediss://localhost"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock"),
        (f"unix://:{SECRET}@/run/redis.sock", "unix:///run/redis.sock"),
        (f"redis://:{SECRET}@[::1]:6379", "redis://::1:6379"),
    ],
)
def test_an_address_is_shown_without_user_password_and_options(url: str, shown: str) -> None:
    """Enough to tell which one is meant."""
    address.check(url)
    assert address.shown(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost",
        "redis://",
        "redis:///1",
        "redis://localhost:0",
        "redis://localhost:99999",
        "redis://localhost/one",
        "redis://localhost?protocol=3",
        "redis://localhost?decode_responses=true",
        f"redis://:{SECRET}/x@localhost",
        f"redis://:1/{SECRET}@localhost",
        f"redis://:{SECRET}#x@localhost",
        f"redis://:{SECRET}?x@localhost",
        f"redis://ann:1?db={SECRET}@localhost",
        f"unix://:1/{SECRET}@/run/redis.sock",
        f"redis://:[{SECRET}@localhost",
        f"redis://user/{SECRET}",
        f"redis://localhost#{SECRET}",
    ],
)
def test_what_is_no_address_is_refused_without_quoting_it(url: str) -> None:
    """A password with special characters in it must not be taken for host or path."""
    with pytest.raises(address.BadAddress) as refused:
        address.check(url)
    assert SECRET not in str(refused.value)


def told_of(url: str) -> str:
    """What people get to read."""
    try:
        address.check(url)
    except address.BadAddress as refused:
        return str(refused)
    return address.shown(url)


@settings(deadline=None)
@given(before=AROUND, behind=AROUND, tail=st.sampled_from(["", "/1", "?db=1"]))
def test_a_password_is_never_shown_however_it_is_written(before: str, behind: str, tail: str) -> None:
    """As it stands or escaped: refused or left out, in all texts."""
    password = f"{before}{SECRET}{behind}"
    for written in (password, quote(password, safe="")):
        url = f"redis://ann:{written}@cache.example:6379{tail}"
        told = told_of(url)
        assert SECRET not in told
        assert written == password or told.startswith("redis://cache.example:6379")
