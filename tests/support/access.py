"""A daemon that asks for tokens, and tokens for it; calls of any method, without knowing its messages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from server.model import Role
from server.security import tokens
from tests.support.wire import Refusal, ended

TIMEOUT_S = 20.0
NOW_MS = 1_000


@dataclass(frozen=True)
class Keyring:
    """A file of tokens with one for each role."""

    path: Path
    texts: dict[Role, str]

    def new(self, *roles: Role, name: str = "svc", expires_ms: int | None = None) -> str:
        """One more token."""
        return tokens.create(self.path, name=name, roles=roles, now_ms=NOW_MS, expires_ms=expires_ms)[0]

    def options(self) -> list[str]:
        """For `trackd serve`."""
        return ["--tokens", str(self.path)]


def make_keyring(directory: Path) -> Keyring:
    """In a file of this directory."""
    keyring = Keyring(directory / "tokens.json", {})
    for role in Role:
        keyring.texts[role] = keyring.new(role, name=role.value)
    return keyring


def outcome(
    channel: grpc.Channel, method: str, *, metadata: tuple[tuple[str, str | bytes], ...] = (), message: bytes = b""
) -> Refusal:
    """How a call with one message goes, by default an empty one: its refusal, or OK as soon as there is an answer.

    On the wire all kinds of calls look alike, so that one kind serves for all.
    """
    start: Any = channel.stream_stream(method, request_serializer=None, response_deserializer=None)
    call = start(iter([message]), metadata=metadata, timeout=TIMEOUT_S)
    try:
        next(call, None)
    except grpc.RpcError:
        return ended(call)
    call.cancel()
    return Refusal(grpc.StatusCode.OK)


def with_token(token: str) -> tuple[tuple[str, str | bytes], ...]:
    """The metadata of its bearer."""
    return (("authorization", f"Bearer {token}"),)
