"""The gate before every method: nothing is registered that it does not know, nothing gets by it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Self, cast

import grpc
import pytest

from server.config import Doors, Limits
from server.model import Role
from server.observe import CallDenied, CallHandled, Observer
from server.rpc import calls, gate
from server.rpc.control import ControlSocket
from server.rpc.gate import Gate
from server.rpc.server import RpcServer
from server.security.access import Access
from server.security.roles import ALLOWED, ANY, OPEN
from server.security.tokens import Token

SECRET = "5" * 64
BEARER = (("authorization", f"Bearer trackd_{'a' * 12}_{SECRET}"),)
LISTED = "/trackd.v1.QueryService/CountEvents"
STREAM = "/trackd.v1.SubscribeService/Subscribe"
CHECK = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
UNLISTED = "/trackd.v1.NewService/Anything"


class Noting(Observer):
    """Remembers denials and ends of calls."""

    def __init__(self) -> None:
        self.denials: list[str] = []
        self.ends: list[tuple[str, str]] = []

    def call_denied(self, denial: CallDenied) -> None:
        """Notes the reason."""
        self.denials.append(denial.reason)

    def call_handled(self, call: CallHandled) -> None:
        """Notes method and code."""
        self.ends.append((call.method, call.code))


async def echo(request: bytes, _context: Any) -> bytes:
    """A unary method."""
    return request


async def twice(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    """A stream in the style of other libraries: an asynchronous generator."""
    async for request in requests:
        yield request
        yield request


class Served:
    """A server with a gate, and a channel to it."""

    def __init__(self, access: Access) -> None:
        self.observer = Noting()
        self.reads = 0
        unary: Any = grpc.unary_unary_rpc_method_handler(echo)
        stream = calls.watched(self.observer, "s", "Subscribe", calls.BIDI, self._for_ever)
        handlers = {
            LISTED: unary,
            UNLISTED: unary,
            CHECK: unary,
            STREAM: grpc.stream_stream_rpc_method_handler(stream),
            REFLECTION: grpc.stream_stream_rpc_method_handler(twice),
        }
        services: dict[str, dict[str, Any]] = {}
        for path, handler in handlers.items():
            service, _slash, method = path[1:].partition("/")
            services.setdefault(service, {})[method] = handler
        self.now_ms = 1_000
        self.owner: int | None = None
        self.gate = Gate(services, access, self.observer, lambda: self.now_ms, lambda _peer: self.owner)

    async def _for_ever(self, _requests: object, context: calls.Context) -> None:
        while (raw := await context.read()) is not grpc.aio.EOF:
            await context.write(raw)

    async def __aenter__(self) -> Self:
        self.server = grpc.aio.server()
        self.server.add_generic_rpc_handlers((self.gate,))
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.channel.close()
        await self.server.stop(10)  # until all handlers have ended

    def stream(self, method: str, metadata: Any = ()) -> Any:
        """An open call."""
        call: Any = self.channel.stream_stream(method)
        return call(metadata=metadata)

    async def outcome(self, method: str, metadata: Any = ()) -> str:
        """The code of a unary call."""
        try:
            call: Any = self.channel.unary_unary(method)
            await call(b"x", metadata=metadata, timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"


def access(*roles: Role, expires_ms: int | None = None) -> Access:
    """One token, with these roles."""
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    return Access([Token("a" * 12, "svc", roles, digest, 1, expires_ms)])


async def test_every_method_of_every_registered_service_has_its_entry(tmp_path: Path) -> None:
    """Ours, the doors, health, reflection: a service without entries would be refused to everybody."""
    nothing = cast(Any, None)
    control = ControlSocket(tmp_path / "control.sock")
    server = RpcServer(
        "127.0.0.1:0",
        nothing,
        nothing,
        nothing,
        Limits(),
        Doors(),
        Observer(),
        Access(),
        None,
        nothing,
        control,
    )
    assert set(server.gate.methods) <= set(ALLOWED)
    # The library behind health declares it and does not have it in every version.
    assert set(ALLOWED) - set(server.gate.methods) <= {"/grpc.health.v1.Health/List"}
    assert {method for method, needed in ALLOWED.items() if needed is OPEN} == {
        f"/grpc.health.v1.Health/{method}" for method in ("Check", "List", "Watch")
    }
    assert all(Role.OPERATE in needed for needed in ALLOWED.values() if needed is not OPEN)


async def test_a_method_without_an_entry_is_refused_to_everybody() -> None:
    """Also to who may do everything; a stranger does not learn that it exists."""
    async with Served(access(Role.OPERATE)) as served:
        assert await served.outcome(UNLISTED, BEARER) == "PERMISSION_DENIED"
        assert await served.outcome(UNLISTED) == "UNAUTHENTICATED"
        assert served.observer.denials == ["METHOD_UNLISTED", "TOKEN_MISSING"]


async def test_permission_comes_before_existence() -> None:
    """Who is nobody cannot find out which methods there are; who is somebody is told as gRPC tells it."""
    async with Served(access(Role.READ)) as served:
        assert await served.outcome("/no.Such/Method") == "UNAUTHENTICATED"
        assert await served.outcome("/no.Such/Method", BEARER) == "UNIMPLEMENTED"
        assert await served.outcome(LISTED, BEARER) == "OK"
        assert await served.outcome(CHECK) == "OK"


async def test_without_permissions_nothing_is_looked_at() -> None:
    """Methods without an entry are served, and tokens do no harm."""
    async with Served(Access()) as served:
        assert [await served.outcome(method, BEARER) for method in (LISTED, UNLISTED)] == ["OK", "OK"]
        assert await served.outcome("/no.Such/Method") == "UNIMPLEMENTED"
        assert served.observer.ends == [("other", "UNIMPLEMENTED")]


async def test_a_denial_reads_no_message() -> None:
    """A stranger's eight megabytes are not waited for: the refusal comes while nothing was sent yet."""
    async with Served(access(Role.READ)) as served:
        for method in (LISTED, STREAM, REFLECTION):
            call = served.stream(method)
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
    assert [code for _method, code in served.observer.ends] == ["UNAUTHENTICATED"] * 3


async def test_the_owner_of_the_daemon_needs_no_token() -> None:
    """On the daemon's own socket; methods of every kind work as ever, and one without an entry is nobody's."""
    async with Served(access(Role.READ)) as served:
        assert await served.outcome(LISTED) == "UNAUTHENTICATED"
        served.owner = 0
        assert [await served.outcome(method) for method in (LISTED, UNLISTED, "/no.Such/Method")] == [
            "OK",
            "PERMISSION_DENIED",
            "UNIMPLEMENTED",
        ]
        for method, answers in ((STREAM, [b"x"]), (REFLECTION, [b"x", b"x"])):
            call = served.stream(method)
            await call.write(b"x")
            assert [await call.read() for _ in answers] == answers
            await call.done_writing()
            assert await call.code() is grpc.StatusCode.OK
        unasked = served.stream(LISTED)
        await unasked.done_writing()
        assert await unasked.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_is_judged_once_however_many_messages_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decision is made for the call."""
    judged = []
    admit = Access.admit_token

    def counting(self: Access, *arguments: Any) -> Any:
        judged.append(arguments)
        return admit(self, *arguments)

    monkeypatch.setattr(Access, "admit_token", counting)
    async with Served(access(Role.READ)) as served:
        call = served.stream(STREAM, BEARER)
        for _ in range(50):
            await call.write(b"x")
            assert await call.read() == b"x"
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
    assert len(judged) == 1


async def test_an_open_stream_ends_when_its_token_does() -> None:
    """With the reason, and with a delay after which another token may be tried; others go on."""
    permitted = access(Role.READ, expires_ms=2_000)
    async with Served(permitted) as served:
        call = served.stream(STREAM, BEARER)
        await call.write(b"x")
        assert await call.read() == b"x"
        served.gate.withdraw()
        await call.write(b"y")
        assert await call.read() == b"y"
        served.now_ms = 2_000
        served.gate.withdraw()
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
        trailers = dict(await call.trailing_metadata())
        assert "grpc-retry-pushback-ms" in trailers
        served.gate.withdraw()
        assert served.observer.denials == ["TOKEN_EXPIRED"]
    assert served.observer.ends == [("Subscribe", "UNAUTHENTICATED")]


async def test_streams_of_other_libraries_stay_what_they_are() -> None:
    """Reflection is an asynchronous generator; any role may use it."""
    async with Served(access(Role.INGEST)) as served:
        call = served.stream(REFLECTION, BEARER)
        await call.write(b"x")
        assert [await call.read(), await call.read()] == [b"x", b"x"]
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
    assert ALLOWED[REFLECTION] == ANY


async def test_denials_are_all_counted_and_their_lines_tell_nothing_of_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line has neither the token nor the name of a method that was made up."""
    lines: list[Mapping[str, Any]] = []

    class Log:
        @staticmethod
        def warning(event: str, **words: Any) -> None:
            lines.append({"event": event, **words})

    monkeypatch.setattr(gate, "log", Log)
    async with Served(access(Role.READ)) as served:
        for method in ("/no.Such/Secret", LISTED, LISTED):
            await served.outcome(method, (("authorization", "Bearer trackd_hush"),))
        assert served.observer.denials == ["TOKEN_MALFORMED"] * 3
    assert [line["method"] for line in lines] == ["other", LISTED, LISTED]
    assert "hush" not in str(lines)
    assert "Secret" not in str(lines)
