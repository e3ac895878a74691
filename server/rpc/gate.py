"""The one way to every method: whether the caller may call it is decided before anything else is done for the call.

All services stand behind this one handler, those of other libraries too, so that none can be forgotten. The decision is
made once a call, from its metadata, and costs some microseconds; a stream that goes on is ended when what let it in is
withdrawn.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import structlog

from server.errors import TrackdError
from server.observe import CallDenied, CallHandled, CallStarted, Observer
from server.rpc import calls, codec
from server.security.access import Access, Grant, Needed
from server.security.roles import ALLOWED, ANY, OPEN, OPERATORS

log = structlog.get_logger(__name__)

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behaviour = Callable[[Any, calls.Context], Awaitable[Any]]

CALLER: ContextVar[Grant | None] = ContextVar("caller", default=None)
"""Why the call that is being handled was let in; None where everybody may do everything."""
NAME_KEYS = ("x509_common_name", "x509_subject_alternative_name")
"""Where gRPC keeps the names in a client certificate that was verified."""


@dataclass(frozen=True, slots=True, eq=False)
class _OpenStream:
    task: asyncio.Task[Any]
    needed: Needed
    grant: Grant
    method: str


class Gate(grpc.GenericRpcHandler):
    """Handles every call of the server."""

    def __init__(
        self,
        services: Mapping[str, Mapping[str, Handler]],
        access: Access,
        observer: Observer,
        now_ms: Callable[[], int],
        owner_of: Callable[[str], int | None] = lambda _peer: None,
    ) -> None:
        """`owner_of`: the user behind the address of a peer, if it is one who may do everything without a token."""
        self._handlers = {
            f"/{service}/{method}": handler
            for service, methods in services.items()
            for method, handler in methods.items()
        }
        self._access = access
        self._observer = observer
        self._now_ms = now_ms
        self._owner_of = owner_of
        self._open: set[_OpenStream] = set()

    @property
    def methods(self) -> Iterable[str]:
        """All that can be called, as in the path of HTTP/2."""
        return self._handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """GRPC asks once a call, before it reads anything of it."""
        method = handler_call_details.method
        handler = self._handlers.get(method)
        needed = ALLOWED.get(method, ANY if handler is None else None)
        if self._access.unrestricted or needed is OPEN:
            if handler is None:
                self._count_unknown()
            return handler
        authorization = [
            value for key, value in handler_call_details.invocation_metadata or () if key == "authorization"
        ]
        if not authorization:
            return self._by_peer(method, needed, handler)
        try:
            grant = self._access.admit_token(needed, authorization, self._now_ms())
        except TrackdError as error:
            return grpc.stream_stream_rpc_method_handler(self._denial(method, error))
        if handler is None:
            self._count_unknown()
            return None
        return self._watched(method, needed, handler, grant)

    def withdraw(self) -> None:
        """Ends the streams that would not be let in any more. To be called when tokens or roles may have changed."""
        now_ms = self._now_ms()
        for stream in tuple(self._open):
            if error := self._access.withdrawn(stream.needed, stream.grant, now_ms):
                self._open.discard(stream)
                self._note(stream.method, error, who=stream.grant.who)
                calls.cut(stream.task, error)

    def _watched(self, method: str, needed: Needed, handler: Handler, grant: Grant) -> Handler:
        """The handler itself; for operators one that knows who calls; if its calls may last one that can be ended."""
        if needed == OPERATORS:
            handler = _told(handler, grant)
        if not handler.response_streaming or inspect.isasyncgenfunction(_behaviour(handler)):
            return handler
        inner = _behaviour(handler)

        async def behave(request: Any, context: calls.Context) -> Any:
            task = asyncio.current_task()
            if task is None:
                raise RuntimeError("gRPC runs handlers in tasks")
            stream = _OpenStream(task, needed, grant, method)
            self._open.add(stream)
            try:
                return await inner(request, context)
            finally:
                self._open.discard(stream)

        return _like(handler, behave)

    def _by_peer(self, method: str, needed: Needed, handler: Handler | None) -> Handler:
        """One that looks first at who is connected, which only the call itself can see, and reads nothing before.

        On the wire all kinds of calls look alike, so that it is a stream whatever `handler` is.
        """

        async def behave(requests: Any, context: calls.Context) -> None:
            try:
                grant = self._grant_of(needed, context)
            except TrackdError as error:
                await self._denial(method, error)(requests, context)
                return
            if handler is None:
                self._count_unknown()
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
                return
            request = requests
            if not handler.request_streaming:
                request = await context.read()
                if request is grpc.aio.EOF:
                    await calls.refuse(context, codec.undecodable("request"))
            inner = _behaviour(self._watched(method, needed, handler, grant))
            if inspect.isasyncgenfunction(inner):
                async for reply in inner(request, context):
                    await context.write(reply)
            elif handler.response_streaming:
                await inner(request, context)
            else:
                await context.write(await inner(request, context))

        if handler is None:
            return grpc.stream_stream_rpc_method_handler(behave)
        return grpc.stream_stream_rpc_method_handler(behave, handler.request_deserializer, handler.response_serializer)

    def _grant_of(self, needed: Needed, context: calls.Context) -> Grant:
        """Why who shows no token may call all the same; raises what admit_names and admit_token raise."""
        uid = self._owner_of(context.peer())
        if uid is not None:
            return self._access.admit_owner(needed, uid)
        if self._access.client_roles:
            return self._access.admit_names(needed, _names(context))
        return self._access.admit_token(needed, (), self._now_ms())

    def _denial(self, method: str, error: TrackdError) -> Behaviour:
        """What answers a call that is denied. Nothing of its messages is read, so all kinds of calls can share it."""

        async def deny(_request: Any, context: calls.Context) -> None:
            self._note(method, error, peer=context.peer())
            raise error

        service, name = _names_of(method)
        return calls.watched(self._observer, service, name, calls.UNARY, deny)

    def _note(self, method: str, error: TrackdError, **more: str) -> None:
        self._observer.call_denied(CallDenied(error.reason))
        # Of a method that does not exist only that much: its name was made by the caller.
        known = method if method in self._handlers else "other"
        log.warning("call_denied", reason=error.reason, method=known, **more)

    def _count_unknown(self) -> None:
        """Counts a call of a method that does not exist, under one name."""
        self._observer.call_started(CallStarted("other", "other", calls.UNARY))
        self._observer.call_handled(CallHandled("other", "other", calls.UNARY, "UNIMPLEMENTED", 0.0))


def _behaviour(handler: Handler) -> Any:
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream


_KINDS: Mapping[tuple[bool, bool], Callable[..., Handler]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def _like(handler: Handler, behaviour: Behaviour) -> Handler:
    """A handler of the same kind and with the same messages that does something else."""
    kind = _KINDS[bool(handler.request_streaming), bool(handler.response_streaming)]
    return kind(behaviour, handler.request_deserializer, handler.response_serializer)


def _told(handler: Handler, grant: Grant) -> Handler:
    """The same handler, for which CALLER is set: a call is handled in a context of its own."""
    inner = _behaviour(handler)

    async def behave(request: Any, context: calls.Context) -> Any:
        CALLER.set(grant)
        return await inner(request, context)

    return _like(handler, behave)


def _names_of(method: str) -> tuple[str, str]:
    service, _slash, name = method.removeprefix("/").partition("/")
    return service, name


def _names(context: calls.Context) -> list[str]:
    """The names in the client certificate; none without one."""
    known = context.auth_context()
    return [value.decode("utf-8", "replace") for key in NAME_KEYS for value in known.get(key, ())]
