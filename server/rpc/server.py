"""The gRPC server: what it listens on, with which limits, and how it stops."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from server.config import Doors, Limits
from server.errors import ConfigurationError, PermissionDenied
from server.ingest.service import IngestService
from server.observe import CallDenied, Observer
from server.query.service import QueryService
from server.retention.service import RetentionService
from server.rpc import calls, ingest, query, retention, subscribe
from server.rpc.borrowed import hardened
from server.rpc.control import CHOOSE, ControlSocket
from server.rpc.credentials import credentials
from server.rpc.doors import cloud_events, otlp
from server.rpc.gate import CALLER, Gate
from server.rpc.gzipped import MESSAGE_BYTES_MAX
from server.security.access import Access
from server.subscribe.service import SubscribeService

if TYPE_CHECKING:
    from server.security.certificates import CertificateFiles

CUT_OFF_GRACE_S = 3.0
"""grpc.aio cannot end one call alone: beside subscribers that do not read, this is what all others get at a stop."""

OPTIONS: tuple[tuple[str, int], ...] = (
    # A second daemon on the same port must fail, not share it.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 256),
    # Half-open connections are found within 80 s; clients may ping every 30 s, also without calls.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
    ("grpc.max_connection_idle_ms", 15 * 60_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.enable_channelz", 0),
    # Plain and gzip (bits 0 and 2 of grpc_compression_algorithm); gRPC itself unpacks nothing: see gzipped.py.
    ("grpc.compression_enabled_algorithms_bitset", 0b101),
    ("grpc.per_message_decompression", 0),
)


class RpcServer:
    """Serves trackd.v1, the doors of other protocols, health and reflection on one port."""

    def __init__(
        self,
        address: str,
        ingest_service: IngestService,
        query_service: QueryService,
        subscribe_service: SubscribeService,
        limits: Limits,
        doors: Doors,
        observer: Observer,
        access: Access,
        certificates: CertificateFiles | None,
        retention_service: RetentionService,
        control: ControlSocket,
    ) -> None:
        """Binds the address and the daemon's own socket; ConfigurationError if that is not possible.

        Nothing is served before `start`. Everybody may call what `access` lets them, and with `certificates` over TLS
        and no other way; behind `control` is the daemon's own user or root, who may call everything.
        """
        self._server = grpc.aio.server(options=OPTIONS)
        self._ingest = ingest.IngestMethods(ingest_service, limits, observer)
        methods = query.QueryMethods(query_service, observer)
        types = query.EventTypeMethods(query_service, ingest_service, observer)
        self._subscribe = subscribe.SubscribeMethods(subscribe_service, observer)
        services: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {
            ingest.SERVICE: self._ingest.handlers(),
            query.SERVICE: methods.handlers(),
            query.TYPES_SERVICE: types.handlers(),
            subscribe.SERVICE: self._subscribe.handlers(),
        }
        self._control = control
        self._observer = observer
        services[retention.SERVICE] = retention.RetentionMethods(retention_service, self._caller, observer).handlers()
        if doors.otlp:
            logs = otlp.LogsMethods(ingest_service, limits, doors.otlp_plain_logs_type, observer)
            services[otlp.SERVICE] = logs.handlers()
        if doors.cloud_events:
            services[cloud_events.SERVICE] = cloud_events.CloudEventMethods(ingest_service, limits, observer).handlers()
        names = list(services)
        collected: Any = _Collected(services)  # all that the generated code needs of a server
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, collected)
        self._services = [*names, ""]
        described = [*names, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]
            reflection.aio.ReflectionServicer(service_names=described), collected
        )
        # One generic handler: the accept loop of grpc.aio 1.85 waits on a task per *registered* method for every call.
        self.gate = Gate(services, access, observer, lambda: time.time_ns() // 1_000_000, self._owner_of)
        self._server.add_generic_rpc_handlers((self.gate,))
        try:
            if certificates:
                self.port = self._server.add_secure_port(address, credentials(certificates))
            else:
                self.port = self._server.add_insecure_port(address)
            if control.exists:
                self._server.add_insecure_port(control.address)
        except RuntimeError as error:
            raise ConfigurationError(
                "ADDRESS_IN_USE",
                f"cannot listen on {address}",
                hint="is another daemon running there? choose another --listen",
            ) from error
        self.address = f"{address.rpartition(':')[0]}:{self.port}"

    def _owner_of(self, peer: str) -> int | None:
        """The user behind the daemon's own socket: root or that of the daemon. None for everybody else."""
        uid = self._control.uid_of(peer)
        return uid if uid in (0, os.getuid()) else None

    def _caller(self, context: calls.Context) -> str:
        """Who is calling, as evidence names them: for methods of operators.

        The daemon's user and root may call them, on its own socket; others if they have shown that they are operators,
        which nobody has where everybody may do everything.
        """
        uid = self._owner_of(context.peer())
        if uid is not None:
            return f"uid:{uid}"
        grant = CALLER.get()
        if grant is not None:
            return grant.actor
        self._observer.call_denied(CallDenied("CONTROL_ONLY"))
        raise PermissionDenied(
            "CONTROL_ONLY",
            "a daemon without tokens serves this on its Unix socket only, to its own user and root",
            hint=f"run it where the daemon runs, with --target unix:{self._control.path}"
            if self._control.exists
            else f"this daemon has no such socket: {CHOOSE}",
        )

    async def start(self) -> None:
        """Begins to serve; health stays NOT_SERVING."""
        for name in self._services:
            await self._health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.start()
        await self._control.start()

    async def set_serving(self, *, ingest_serving: bool, query_serving: bool) -> None:
        """What health says; the server as a whole ("") serves if both do."""
        for name in self._services:
            reading = {query.SERVICE: query_serving, subscribe.SERVICE: query_serving}
            writing = dict.fromkeys((ingest.SERVICE, otlp.SERVICE, cloud_events.SERVICE), ingest_serving)
            serving = (reading | writing).get(name, ingest_serving and query_serving)
            state = health_pb2.HealthCheckResponse
            await self._health.set(name, state.SERVING if serving else state.NOT_SERVING)

    async def stop(self, *, drain_s: float, grace_s: float) -> None:
        """Says NOT_SERVING, waits so that balancers notice, lets streams answer what is in flight, then ends."""
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(drain_s)
        self._ingest.drain()
        self._subscribe.drain()
        deadline = asyncio.get_running_loop().time() + grace_s
        # `stop` does not wait for handlers that still have something to say.
        while self._open_streams and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.005)
        left_s = deadline - asyncio.get_running_loop().time()
        if self._subscribe.cut_off:
            left_s = min(left_s, CUT_OFF_GRACE_S)
        await self._server.stop(max(0.5, left_s))
        await self._control.stop()

    @property
    def ingest_streams(self) -> int:
        """AppendStream calls that are open."""
        return self._ingest.open_streams

    @property
    def _open_streams(self) -> int:
        return self._ingest.open_streams + self._subscribe.open_streams


class _Collected:
    """Stands in for the server where generated code registers a service, and takes note of its methods."""

    def __init__(self, services: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]]) -> None:
        self._services = services

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """The same once more, in a form that hides the methods."""

    def add_registered_method_handlers(
        self, service: str, handlers: dict[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """All methods of a service."""
        self._services[service] = hardened(handlers)
