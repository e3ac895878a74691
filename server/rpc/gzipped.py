"""Compressed messages, unpacked under a bound.

gRPC's core unpacks a message before it looks at its size, so that 8 KiB can become gigabytes. It is told to leave
messages as they are (grpc.per_message_decompression); they are unpacked here, and no further than a message may be
large. That a message is gzip is seen from its first two bytes: no protobuf message begins with them, for 0x1F would be
a field of wire type 7, which does not exist.
"""

from __future__ import annotations

import asyncio
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from server.config import MIB
from server.errors import Invalid

MESSAGE_BYTES_MAX = 8 * MIB
"""Of a message as it comes, and of a compressed one when it is unpacked."""

MAGIC = b"\x1f\x8b"
_GZIP = 16 + zlib.MAX_WBITS
"""The argument of zlib that means the format of RFC 1952."""
_AT_ONCE_BYTES = MIB // 4
"""What is unpacked on the event loop, in about a millisecond. The rest of a large one is for a thread."""
# One thread: however many large messages come, they take one core and are few in memory at a time.
_large = ThreadPoolExecutor(1, thread_name_prefix="trackd-unpack")


async def unpacked(raw: bytes) -> bytes:
    """The message itself, whether it came compressed or not.

    Raises Invalid where it is larger than MESSAGE_BYTES_MAX, cut off, or damaged. Memory: at most that size for it.
    """
    if not raw.startswith(MAGIC):
        return raw
    unpacker = zlib.decompressobj(_GZIP)
    try:
        begin = unpacker.decompress(raw, _AT_ONCE_BYTES)
        if unpacker.eof:
            whole: bytes | None = begin
        else:
            whole = await asyncio.get_running_loop().run_in_executor(_large, _go_on, unpacker, begin)
    except zlib.error as error:
        raise _damaged(str(error)) from None
    if whole is None:
        raise Invalid(
            "MESSAGE_TOO_LARGE",
            f"unpacked, the message has more than {MESSAGE_BYTES_MAX:,} bytes",
            hint="send less at once: the limit is on the message before it is compressed",
        )
    if not unpacker.eof or unpacker.unused_data:
        raise _damaged("it is cut off" if not unpacker.eof else "something follows behind its end")
    return whole


def _go_on(unpacker: Any, begin: bytes) -> bytes | None:
    """The whole of a large message; None if it is too large. Not an error, which would hold what was unpacked."""
    rest = unpacker.decompress(unpacker.unconsumed_tail, MESSAGE_BYTES_MAX + 1 - len(begin))
    return None if len(begin) + len(rest) > MESSAGE_BYTES_MAX else begin + rest


def _damaged(problem: str) -> Invalid:
    return Invalid("UNDECODABLE", f"the message is not valid gzip: {problem}", hint="mend the sender, or send it plain")
