"""What every call has around it: counting, deadlines of the shutdown, errors turned into statuses.

Plain wrappers and not interceptors: in grpc.aio each interceptor costs a task a call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import grpc
from google.protobuf import message

from server.errors import TrackdError, unexpected
from server.observe import CallHandled, CallStarted, Observer
from server.rpc import codec, status
from server.rpc.gzipped import unpacked

Context = grpc.aio.ServicerContext[Any, Any]
_Request = TypeVar("_Request", bound=message.Message)

UNARY = "unary"
BIDI = "bidi_stream"
SERVER_STREAM = "server_stream"


def unary(
    observer: Observer,
    service: str,
    method: str,
    request_type: type[_Request],
    answer: Callable[[_Request], Awaitable[message.Message | bytes]],
) -> grpc.RpcMethodHandler[Any, Any]:
    """A unary method that decodes its request itself, so that a broken one gets our status and not gRPC's.

    Large answers come encoded, from another thread.
    """

    async def decoded(raw: bytes) -> bytes:
        try:
            request = request_type.FromString(raw)
        except message.DecodeError as error:
            raise codec.undecodable(request_type.DESCRIPTOR.name) from error
        reply = await answer(request)
        return reply if isinstance(reply, bytes) else reply.SerializeToString()

    return raw_unary(observer, service, method, decoded)


def raw_unary(
    observer: Observer, service: str, method: str, answer: Callable[[bytes], Awaitable[bytes]]
) -> grpc.RpcMethodHandler[Any, Any]:
    """A unary method over encoded messages, which may come compressed."""

    async def handle(raw: bytes, _context: Context) -> bytes:
        observer.message_received(service, method, UNARY)
        reply = await answer(await unpacked(raw))
        observer.message_sent(service, method, UNARY)
        return reply

    return grpc.unary_unary_rpc_method_handler(watched(observer, service, method, UNARY, handle))


def watched(
    observer: Observer, service: str, method: str, kind: str, handle: Callable[[Any, Context], Awaitable[Any]]
) -> Callable[[Any, Context], Awaitable[Any]]:
    """Counts the call and answers its errors."""
    started = CallStarted(service, method, kind)

    async def call(request: Any, context: Context) -> Any:
        start = time.perf_counter()
        observer.call_started(started)
        code = grpc.StatusCode.OK
        try:
            return await handle(request, context)
        except asyncio.CancelledError:
            error = _cut.pop(asyncio.current_task(), None)
            if error is None:
                code = grpc.StatusCode.CANCELLED
                raise
            code = status.code_of(error)
            await refuse(context, error)
        except grpc.aio.AbortError:
            code = grpc.StatusCode(context.code())
            raise
        except grpc.aio.InternalError as error:
            # The transport would not take what we had to say: the client is gone.
            code = grpc.StatusCode.CANCELLED
            raise asyncio.CancelledError from error
        except TrackdError as error:
            code = status.code_of(error)
            await refuse(context, error)
        except Exception as error:  # noqa: BLE001  # whatever it is, its text must not reach the client
            code = grpc.StatusCode.INTERNAL
            await refuse(context, unexpected(error))
        finally:
            seconds = time.perf_counter() - start
            observer.call_handled(CallHandled(service, method, kind, code.name, seconds))

    return call


_cut: WeakKeyDictionary[asyncio.Task[Any] | None, TrackdError] = WeakKeyDictionary()


def cut(call: asyncio.Task[Any], error: TrackdError) -> None:
    """Ends a call with this error from outside, whatever it waits for; `call` is the task of its handler.

    A read that is under way leaks some memory (grpc.aio 1.85): for what is rare.
    """
    _cut[call] = error
    call.cancel()


async def refuse(context: Context, error: TrackdError) -> None:
    """Ends the call with the error's status and details."""
    await context.abort(status.code_of(error), str(error), status.trailers_of(error))
