"""How this package connects: one place for targets, TLS, tokens and the options of gRPC channels.

What is not given as an argument comes from the environment: TRACKD_TARGET; TRACKD_TOKEN or TRACKD_TOKEN_FILE;
TRACKD_CA, TRACKD_CERT and TRACKD_KEY, or TRACKD_TLS=1 for TLS with the authorities that gRPC brings along, or
TRACKD_TLS=0 for none.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc

DEFAULT_TARGET = "127.0.0.1:7077"

Token = str | os.PathLike[str]
"""A bearer token, or the file that holds it, which is read anew for each call."""

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    # gRPC waits between attempts to connect, too. Its default of up to 120 s would outlast every backoff of ours.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # The daemon takes a ping every 30 s; a host that vanished without a word is noticed after 60 s.
    ("grpc.keepalive_time_ms", 40_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # The daemon ends its pages before 3.5 MiB; events as large as its limits allow still have to come through.
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Whom to trust, and what to show. All files are PEM and are read when a connection is made ready."""

    ca: Token | None = None
    """Who signs the daemon's certificate; None: the authorities that gRPC brings along."""
    cert: Token | None = None
    key: Token | None = None
    """A client certificate with its issuers, and its key: for daemons that ask for one."""
    server_name: str = ""
    """The name in the daemon's certificate, where it is not that of the target."""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together: give both or neither")

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files. OSError for one that cannot be read."""
        ca, key, cert = (None if path is None else Path(path).read_bytes() for path in (self.ca, self.key, self.cert))
        return grpc.ssl_channel_credentials(ca, key, cert)


@dataclass(frozen=True)
class Endpoint:
    """Where a daemon is and how it is spoken to; everything is checked when it is made."""

    target: str
    tls: Tls | None = None
    token: Token | None = field(default=None, repr=False)

    @classmethod
    def of(cls, target: str | None = None, *, token: Token | None = None, tls: Tls | bool | None = None) -> Self:
        """The arguments of a Client, completed from the environment.

        `tls`: True is Tls(), False is none at all, None asks the environment; so does a `token` that is None, but not
        "". ValueError for what cannot be, also for a
        token that would go over the network in the clear without `tls=False` saying so; OSError for unreadable files.
        """
        environment = os.environ
        if tls is None:
            tls = _tls_of(environment)
        made = cls(
            target or default_target(),
            Tls() if tls is True else tls or None,
            _token_of(environment) if token is None else token or None,
        )
        if made.token is not None and made.tls is None and tls is not False and not _loopback(made.target):
            raise ValueError(
                f"the token would travel to {made.target} in the clear: give tls=trackd.Tls(...) (TRACKD_CA, "
                "TRACKD_TLS=1), or tls=False (TRACKD_TLS=0) where something else protects the connection"
            )
        if made.tls is not None:
            made.tls.credentials()
        if made.token is not None:
            _text(made.token)
        return made

    def open(self) -> grpc.Channel:
        """A channel that connects when it is first used; the caller closes it."""
        if self.tls is None:
            channel = grpc.insecure_channel(self.target, options=self._options())
        else:
            channel = grpc.secure_channel(self.target, self.tls.credentials(), options=self._options())
        return channel if self.token is None else _Authorized(channel, self.token)  # type: ignore[return-value]

    def open_aio(self) -> grpc.aio.Channel:
        """The same for asyncio."""
        if self.tls is None:
            channel = grpc.aio.insecure_channel(self.target, options=self._options())
        else:
            channel = grpc.aio.secure_channel(self.target, self.tls.credentials(), options=self._options())
        return channel if self.token is None else _Authorized(channel, self.token)  # type: ignore[return-value]

    def _options(self) -> list[tuple[str, int | str]]:
        options = list(_OPTIONS)
        if _loopback(self.target):
            # A proxy named by the environment cannot know this machine's loopback address.
            options.append(("grpc.enable_http_proxy", 0))
        if self.tls is not None and self.tls.server_name:
            options.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return options


class _Authorized:
    """A channel, of grpc or of grpc.aio, whose calls carry a token.

    Not an interceptor: those of grpc.aio cost a task, and have other ways to fail.
    """

    def __init__(self, channel: Any, token: Token) -> None:
        self._channel = channel
        self._token = token
        self._last = _text(token)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> Any:
        """Closes the channel; of grpc.aio to be awaited."""
        return self._channel.close()

    def unary_unary(self, *method: Any, **how: Any) -> Callable[..., Any]:
        """As in a channel."""
        return self._carrying(self._channel.unary_unary(*method, **how))

    def unary_stream(self, *method: Any, **how: Any) -> Callable[..., Any]:
        """As in a channel."""
        return self._carrying(self._channel.unary_stream(*method, **how))

    def stream_stream(self, *method: Any, **how: Any) -> Callable[..., Any]:
        """As in a channel."""
        return self._carrying(self._channel.stream_stream(*method, **how))

    def _carrying(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(request: Any, *, metadata: Any = (), **how: Any) -> Any:
            return method(request, metadata=(*metadata, ("authorization", f"Bearer {self._current()}")), **how)

        return call

    def _current(self) -> str:
        with contextlib.suppress(OSError, ValueError):  # being replaced; on the one before the daemon has the last word
            self._last = _text(self._token)
        return self._last


def default_target() -> str:
    """HOST:PORT of the environment variable TRACKD_TARGET, else DEFAULT_TARGET."""
    return os.environ.get("TRACKD_TARGET") or DEFAULT_TARGET


def open_channel(target: str, *, token: Token | None = None, tls: Tls | bool | None = None) -> grpc.Channel:
    """A channel to HOST:PORT, see Endpoint.of."""
    return Endpoint.of(target, token=token, tls=tls).open()


def _tls_of(environment: Mapping[str, str]) -> Tls | bool | None:
    ca, cert, key = (_path(environment, name) for name in ("TRACKD_CA", "TRACKD_CERT", "TRACKD_KEY"))
    wanted = environment.get("TRACKD_TLS", "").lower()
    if wanted and wanted not in (*_YES, *_NO):
        raise ValueError(f"TRACKD_TLS must be 1 or 0, not {wanted!r}")
    if wanted in _NO:
        return False
    if ca or cert or key:
        return Tls(ca=ca, cert=cert, key=key)
    return True if wanted else None


def _token_of(environment: Mapping[str, str]) -> Token | None:
    return environment.get("TRACKD_TOKEN") or _path(environment, "TRACKD_TOKEN_FILE")


def _path(environment: Mapping[str, str], name: str) -> Path | None:
    value = environment.get(name)
    return Path(value) if value else None


def _text(token: Token) -> str:
    """The token itself. ValueError, without the token in it, for what no metadata can hold."""
    text = token if isinstance(token, str) else Path(token).read_text("utf-8")
    text = text.strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("a token is one word of ASCII, such as `trackd token create` prints")
    return text


def _loopback(target: str) -> bool:
    if target.startswith("unix:"):
        return True
    host = target.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
