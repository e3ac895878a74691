"""GET /metrics, /healthz and /readyz over HTTP, and nothing else.

Everything a client can send or hold is bounded: the size of a request, the time it may take, the connections at once.
One request a connection: scrapes and probes are seconds apart.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from server.errors import ConfigurationError

log = structlog.get_logger(__name__)

REQUEST_BYTES_MAX = 8 * 1024
"""Request line and headers. Prometheus and kubelets send a few hundred bytes."""

READ_S = 2.0
"""For the whole request, however many pieces it comes in."""

WRITE_S = 5.0
"""For the whole answer."""

THREADS = 8
"""And so connections at once; others wait in the backlog of the socket, where they cost nothing."""

FINISH_S = 0.2
FINISH_BYTES_MAX = 64 * 1024
"""How long and how much is read after the answer, for a client that sent more than it should have."""

BACKLOG = 16

GZIP_LEVEL = 3
"""A scrape compresses to a tenth at any level; the low ones take under a millisecond."""

TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class _Answer:
    """One HTTP response."""

    status: HTTPStatus
    body: bytes = b""
    content_type: str = TEXT
    headers: dict[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The bytes of RFC 9112."""
        headers = {
            "Content-Type": self.content_type,
            "Content-Length": str(len(self.body)),
            "Cache-Control": "no-store",
            "Connection": "close",
            **self.headers,
        }
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}"]
        lines += [f"{key}: {value}" for key, value in headers.items()]
        return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + self.body


class Exporter:
    """Serves on threads of its own, so that a stuck event loop can still be seen."""

    def __init__(
        self,
        address: str,
        registry: CollectorRegistry,
        *,
        alive: Callable[[], bool],
        ready: Callable[[], bool],
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
    ) -> None:
        """Binds `address` (HOST:PORT; port 0 takes a free one) and serves nothing before `start`.

        `tls` is asked for each connection, so that certificates can change; None: plain HTTP.

        `alive`: the process and its writer live; else a supervisor should start it again. `ready`: it takes events now.
        Both are called on threads of the exporter. Raises ConfigurationError if the address cannot be bound.
        """
        self._registry = registry
        self._alive = alive
        self._ready = ready
        self._tls = tls
        self._listener = _listen(address)
        self.address = f"{address.rpartition(':')[0]}:{self._listener.getsockname()[1]}"
        # Closing one end makes the other readable for every thread: that is how they learn that it is over.
        self._closer, self._closed = socket.socketpair()
        self._lock = threading.Lock()
        self._closing = False
        self._open: set[socket.socket] = set()
        self._threads = [
            threading.Thread(target=self._run, name=f"trackd-exporter-{number}", daemon=True)
            for number in range(THREADS)
        ]

    def start(self) -> None:
        """Begins to serve."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stops serving, cuts off who is still connected, returns when no thread is left. Closing twice is fine."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._closer.close()
            for connection in self._open:
                _cut(connection)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self._listener.close()
        self._closed.close()

    def _run(self) -> None:
        while True:
            select.select([self._listener, self._closed], [], [])
            try:
                connection, _peer = self._listener.accept()
            except OSError as error:  # another thread was faster, or the client is gone again
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    time.sleep(0.1)  # no file descriptor is left; it stays readable until there is one
                connection = None
            with self._lock:
                if connection and not self._closing:
                    self._open.add(connection)
                elif self._closing:
                    if connection:
                        connection.close()
                    return
            if connection and (secured := self._secured(connection)):
                self._serve(secured)

    def _secured(self, connection: socket.socket) -> socket.socket | None:
        """The connection with TLS around it, if there is any; None if its client did not manage to agree on one."""
        context = self._tls()
        if context is None:
            return connection
        connection.settimeout(READ_S)  # for the whole handshake
        try:
            secured = context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=True)
        except (OSError, ValueError):  # ValueError: gone before it began
            with self._lock:
                self._open.discard(connection)
            connection.close()
            return None
        with self._lock:
            # Its descriptor has moved, and so has what `close` would have to cut.
            self._open.discard(connection)
            if self._closing:
                _cut(secured)
            self._open.add(secured)
        return secured

    def _serve(self, connection: socket.socket) -> None:
        try:
            if answer := self._answer(connection):
                connection.settimeout(WRITE_S)
                connection.sendall(answer.encode())
                _finish(connection)
        except OSError:
            pass  # the client went away or was too slow: nobody is there to be answered
        except Exception:
            log.exception("exporter_failed")
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _answer(self, connection: socket.socket) -> _Answer | None:
        head = _read_head(connection)
        if head is None:
            return None
        if len(head) > REQUEST_BYTES_MAX:
            return _say(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        request_line, *header_lines = head.decode("latin-1").split("\r\n")
        words = request_line.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _say(HTTPStatus.BAD_REQUEST)
        headers = {}
        for line in header_lines:
            name, _colon, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return self._route(words[0], words[1].partition("?")[0], headers)

    def _route(self, method: str, path: str, headers: dict[str, str]) -> _Answer:
        if path not in ("/metrics", "/healthz", "/readyz"):
            return _say(HTTPStatus.NOT_FOUND)
        if method != "GET":
            return _Answer(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET"})
        if path == "/healthz":
            return _say(HTTPStatus.OK) if self._alive() else _unavailable("the writer is stuck or has failed")
        if path == "/readyz":
            return _say(HTTPStatus.OK) if self._ready() else _unavailable("not taking events now")
        return self._metrics(headers)

    def _metrics(self, headers: dict[str, str]) -> _Answer:
        encode, content_type = choose_encoder(headers.get("accept", ""))
        body = encode(self._registry)
        codings = {part.partition(";")[0].strip().lower() for part in headers.get("accept-encoding", "").split(",")}
        if "gzip" not in codings:
            return _Answer(HTTPStatus.OK, body, content_type)
        return _Answer(HTTPStatus.OK, gzip.compress(body, GZIP_LEVEL), content_type, {"Content-Encoding": "gzip"})


def _listen(address: str) -> socket.socket:
    host, _colon, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(
            host.removeprefix("[").removesuffix("]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _type, _protocol, _name, where = found[0]
        listener = socket.create_server(where[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        raise ConfigurationError(
            "ADDRESS_IN_USE" if in_use else "ADDRESS_UNUSABLE",
            f"cannot listen on {address}: {error.strerror or error}",
            hint="choose another --metrics",
            field="listen.metrics",
        ) from error
    # All threads wake up for one connection, and accept() must not hold those that come too late.
    listener.setblocking(False)
    return listener


def _read_head(connection: socket.socket) -> bytes | None:
    """Request line and headers without the empty line; None if they do not come in time."""
    deadline = time.monotonic() + READ_S
    received = bytearray()
    while b"\r\n\r\n" not in received and len(received) <= REQUEST_BYTES_MAX:
        # A deadline for all of it: a timeout for each piece would let one byte a second go on for hours.
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return None
        connection.settimeout(remaining)
        piece = connection.recv(4096)
        if not piece:
            return None
        received += piece
    return bytes(received.partition(b"\r\n\r\n")[0])


def _say(status: HTTPStatus) -> _Answer:
    return _Answer(status, f"{status.phrase}\n".encode())


def _unavailable(reason: str) -> _Answer:
    return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}\n".encode())


def _finish(connection: socket.socket) -> None:
    """Says that this was all, and takes what the client still sends.

    Closing before that would be a reset, which can overtake the answer.
    """
    connection.settimeout(FINISH_S)
    if isinstance(connection, ssl.SSLSocket):
        with contextlib.suppress(OSError):  # it did not wait for our goodbye
            connection.unwrap()
    connection.shutdown(socket.SHUT_WR)
    unread = FINISH_BYTES_MAX
    while unread > 0 and (piece := connection.recv(4096)):
        unread -= len(piece)


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client was faster
        connection.shutdown(socket.SHUT_RDWR)
