"""Compressed messages are unpacked whole or not at all, and never further than a message may be large."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import Invalid
from server.rpc.gzipped import MAGIC, MESSAGE_BYTES_MAX, unpacked


def unpack(raw: bytes) -> bytes:
    """What comes out, from outside of a loop."""
    return asyncio.run(unpacked(raw))


def refusal(raw: bytes) -> str:
    """The reason why it is not unpacked."""
    with pytest.raises(Invalid) as caught:
        unpack(raw)
    assert caught.value.hint
    return caught.value.reason


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=2_000), st.integers(0, 9))
def test_what_was_packed_comes_out(content: bytes, level: int) -> None:
    """Whatever the level."""
    assert unpack(gzip.compress(content, level)) == content


@settings(max_examples=30, deadline=None)
@given(st.binary().filter(lambda content: not content.startswith(MAGIC)))
def test_what_is_not_gzip_is_left_alone(content: bytes) -> None:
    """Plain messages go through as they are."""
    assert unpack(content) is content


@pytest.mark.parametrize("size", [MESSAGE_BYTES_MAX // 32, MESSAGE_BYTES_MAX // 32 + 1, MESSAGE_BYTES_MAX])
def test_a_large_one_is_unpacked_to_its_last_byte(size: int) -> None:
    """Around the size that is unpacked at once, and the largest that is taken."""
    content = bytes(size - 1) + b"\1"
    assert unpack(gzip.compress(content, 1)) == content


def test_one_byte_too_many_is_refused() -> None:
    """The bound is that of a plain message."""
    assert refusal(gzip.compress(bytes(MESSAGE_BYTES_MAX + 1), 1)) == "MESSAGE_TOO_LARGE"


def test_a_bomb_is_unpacked_no_further_than_the_bound() -> None:
    """A quarter of a GiB in 256 KiB: what is held at any time is a small multiple of the largest message."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(256)) + packer.flush()
    assert len(bomb) < 300_000
    tracemalloc.start()
    try:
        assert refusal(bomb) == "MESSAGE_TOO_LARGE"
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MESSAGE_BYTES_MAX


@pytest.mark.parametrize("size", [0, 100, MESSAGE_BYTES_MAX // 16])
def test_what_is_broken_is_refused(size: int) -> None:
    """Cut off anywhere, damaged, or with something behind its end: nothing of it is taken."""
    whole = gzip.compress(bytes(size), 1)
    for broken in (
        whole[:-1],
        whole[:-8],
        whole[:11],
        MAGIC,
        whole + b"\0",
        whole + whole,
        whole[:-8] + bytes(8) + b"1",
    ):
        assert refusal(broken) == "UNDECODABLE"
    flipped = bytearray(gzip.compress(b"some text that is long enough", 9))
    flipped[-6] ^= 0x10
    assert refusal(bytes(flipped)) == "UNDECODABLE"
