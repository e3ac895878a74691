"""Services that come from other libraries: health and reflection, made to take broken and huge messages as ours do.

Left alone, gRPC would decode their messages, answer UNKNOWN to a broken one, and write a traceback into the log: for a
stranger, because health asks for no token.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import grpc
from google.protobuf import message

from server.errors import Invalid
from server.rpc import calls, codec

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

MESSAGE_BYTES_MAX = 16 * 1024
"""They hold names. Health keeps that of a service for as long as somebody watches it."""


def hardened(handlers: Mapping[str, Handler]) -> dict[str, Handler]:
    """The same methods, but for those that the library declares and does not implement.

    A message that is none, or larger than any name, ends the call with our status.
    """
    return {
        name: _hardened(handler)
        for name, handler in handlers.items()
        if not _behaviour(handler).__module__.endswith("_pb2_grpc")
    }


def _hardened(handler: Handler) -> Handler:
    decode = partial(_decoded, handler.request_deserializer or bytes)
    inner = _behaviour(handler)
    if handler.request_streaming:
        if not inspect.isasyncgenfunction(inner):
            raise TypeError("only asynchronous generators are known to take streams of other libraries")
        return grpc.stream_stream_rpc_method_handler(_stream(inner, decode), None, handler.response_serializer)
    make = grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
    return make(_one(inner, decode), None, handler.response_serializer)


def _behaviour(handler: Handler) -> Any:
    return handler.unary_unary or handler.unary_stream or handler.stream_stream


def _decoded(decode: Callable[[bytes], Any], raw: bytes) -> Any:
    if len(raw) > MESSAGE_BYTES_MAX:
        problem = f"{len(raw)} bytes, and {MESSAGE_BYTES_MAX} may be sent here"
        raise Invalid("MESSAGE_TOO_LARGE", problem, hint="send the name of a service")
    try:
        return decode(raw)
    except message.DecodeError as error:
        raise codec.undecodable("request") from error


def _one(inner: Any, decode: Callable[[bytes], Any]) -> Any:
    async def call(raw: bytes, context: calls.Context) -> Any:
        try:
            request = decode(raw)
        except Invalid as error:
            return await calls.refuse(context, error)
        return await inner(request, context)

    return call


def _stream(inner: Any, decode: Callable[[bytes], Any]) -> Any:
    async def call(raws: AsyncIterator[bytes], context: calls.Context) -> AsyncIterator[Any]:
        async def requests() -> AsyncIterator[Any]:
            async for raw in raws:
                yield decode(raw)

        try:
            async for reply in inner(requests(), context):
                yield reply
        except Invalid as error:
            await calls.refuse(context, error)

    return call
