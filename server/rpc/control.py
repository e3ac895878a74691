"""The daemon's Unix socket: whoever connects is known by what the kernel says of the process (SO_PEERCRED, unix(7)).

gRPC tells a handler only the address of its peer. So connections to the socket are taken here and passed on to a second
one, in a directory of the daemon's own, from an abstract address that says who it is. Both ends of it are ours: nobody
else can reach the second socket, or know the word that its addresses begin with.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import socket
import struct
from contextlib import suppress
from pathlib import Path

import structlog

from server.errors import ConfigurationError

log = structlog.get_logger(__name__)

PATH_BYTES_MAX = 107
"""sun_path, unix(7)."""
CHOOSE = "choose another, shorter path in listen.control"
_CHUNK_BYTES = 64 * 1024
_CREDENTIALS = struct.Struct("3i")


class ControlSocket:
    """DATA/control.sock. `address` is for the gRPC server to listen on."""

    def __init__(self, path: Path, *, chosen: bool = True) -> None:
        """Raises ConfigurationError(ADDRESS_UNUSABLE) if there cannot be a socket where somebody chose to have one.

        Where nobody did, as beside data with a long path, the daemon goes without and says so.
        """
        self.path = path
        self.exists = True
        self._inner = path.with_name("control") / "grpc.sock"
        self._word = f"trackd-{secrets.token_hex(8)}"
        self._server: asyncio.Server | None = None
        self._connections = 0
        self._open: set[asyncio.Task[None]] = set()
        try:
            if max(len(os.fsencode(one)) for one in (path, self._inner)) > PATH_BYTES_MAX:
                raise OSError(f"the path has more than {PATH_BYTES_MAX} bytes")
            self._inner.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._inner.parent.chmod(0o700)
            self._inner.unlink(missing_ok=True)
        except OSError as error:
            if chosen:
                raise ConfigurationError(
                    "ADDRESS_UNUSABLE", f"{path} cannot be a Unix socket: {error}", hint=CHOOSE
                ) from error
            self.exists = False
            log.warning("no_control_socket", problem=str(error), hint=CHOOSE)

    @property
    def address(self) -> str:
        """Where the gRPC server listens."""
        return f"unix:{self._inner}"

    async def start(self) -> None:
        """Begins to take connections. Only the daemon's user and root can open the socket."""
        if not self.exists:
            return
        self.path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._connected, self.path)
        finally:
            os.umask(before)

    async def stop(self) -> None:
        """Takes no more, and ends what is open."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        if self.exists:
            self.path.unlink(missing_ok=True)

    def uid_of(self, peer: str) -> int | None:
        """Who is behind the address that gRPC gives of a peer; None for one that did not come through here."""
        known = re.fullmatch(rf"unix-abstract:{self._word}-uid-(\d+)-\d+", peer)
        return int(known[1]) if known else None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        try:
            await self._pass_on(reader, writer)
        except OSError as error:
            log.warning("control_connection_failed", problem=str(error))
        finally:
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = writer.get_extra_info("socket")
        _pid, uid, _gid = _CREDENTIALS.unpack(
            caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        self._connections += 1
        inner = socket.socket(socket.AF_UNIX)
        inner.setblocking(False)
        inner.bind(f"\0{self._word}-uid-{uid}-{self._connections}")
        await asyncio.get_running_loop().sock_connect(inner, str(self._inner))
        inward, outward = await asyncio.open_unix_connection(sock=inner)
        try:
            await asyncio.gather(_pipe(reader, outward), _pipe(inward, writer))
        finally:
            outward.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()
