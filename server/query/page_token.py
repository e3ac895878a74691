"""Page tokens (AIP-158): opaque, bound to the list they belong to, and to the head that the list is cut at."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated

import msgspec

from server.errors import Invalid

_Number = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
"""What a column of a database can hold."""


class PageToken(msgspec.Struct, frozen=True, array_like=True):
    """Where a list goes on."""

    list_digest: bytes
    as_of: _Number
    place: tuple[_Number, ...] | str
    """What the list needs to find its next element."""


def digest(*asked: object) -> bytes:
    """Stands for what was asked: a token is refused with another question."""
    return hashlib.blake2b(repr(asked).encode(), digest_size=8).digest()


def encode(token: PageToken) -> str:
    """The token as text that needs no escaping in URLs."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(token)).decode().rstrip("=")


def decode(text: str, expected: bytes) -> PageToken:
    """The token in a text; Invalid(PAGE_TOKEN_INVALID) if it is none, or one of another list."""
    try:
        raw = base64.urlsafe_b64decode(text.encode("ascii", "replace") + b"=" * (-len(text) % 4))
        token = msgspec.msgpack.decode(raw, type=PageToken)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise _invalid("this is not a page token of trackd") from error
    if token.list_digest != expected:
        raise _invalid("this page token belongs to another filter or order")
    return token


def _invalid(message: str) -> Invalid:
    return Invalid(
        "PAGE_TOKEN_INVALID",
        message,
        hint="pass next_page_token on unchanged, with the same request",
        field="page_token",
    )
