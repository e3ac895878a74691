"""Page tokens come from outside: whatever a text says, it is a token of this list or a typed refusal."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import Invalid
from server.query.page_token import PageToken, decode, digest, encode

LIST = digest("events", "a filter")
INT64 = st.integers(-(2**63), 2**63 - 1)


@given(as_of=st.integers(0, 2**63 - 1), place=st.tuples(INT64, INT64) | st.text())
def test_a_token_comes_back_as_it_was(as_of: int, place: tuple[int, int] | str) -> None:
    """Also the largest numbers that a store can hold."""
    token = PageToken(LIST, as_of, place)
    assert decode(encode(token), LIST) == token


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_any_other_text_is_refused(text: str) -> None:
    """PAGE_TOKEN_INVALID, and no exception of a decoder."""
    with pytest.raises(Invalid) as caught:
        decode(text, LIST)
    assert (caught.value.reason, caught.value.field) == ("PAGE_TOKEN_INVALID", "page_token")


@pytest.mark.parametrize("place", [(2**63, 1), (1, 2**63), (2**64 - 1, 2**64 - 1)])
def test_numbers_that_no_store_can_hold_are_refused(place: tuple[int, int]) -> None:
    """A forged token of the right list with numbers beyond 64 bits: the driver could not even bind them."""
    forged = msgspec.msgpack.encode([LIST, 10, list(place)])
    with pytest.raises(Invalid, match="page token"):
        decode(base64.urlsafe_b64encode(forged).decode(), LIST)
