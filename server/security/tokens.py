"""Bearer tokens and the file that knows them.

A token is `trackd_ID_SECRET`: 12 hexadecimal digits that may be shown, and 64 that may not. The file keeps the SHA-256
of the secret. A slow hash would add nothing: it is for passwords, which can be guessed; these are 256 random bits.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec

from server.errors import ConfigurationError
from server.model import Role

FORMAT_VERSION = 1
FILE_MODE = 0o600
_TOKEN = re.compile(r"trackd_([0-9a-f]{12})_([0-9a-f]{64})")
NAME = re.compile(r"[A-Za-z0-9_.:/@-]{1,128}")
"""What a token may be called."""

HINT = "make tokens with: trackd token create --file FILE --role ROLE --name NAME"


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file keeps of a token. Times are milliseconds since 1970, UTC."""

    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{12}$")]
    name: Annotated[str, msgspec.Meta(pattern=f"^{NAME.pattern}$")]
    roles: tuple[Role, ...]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    created_ms: int
    expires_ms: int | None = None

    def expired(self, now_ms: int) -> bool:
        """Whether its time is over."""
        return self.expires_ms is not None and now_ms >= self.expires_ms

    def is_proved_by(self, digest: str) -> bool:
        """Whether this is the hash of its secret; takes equally long whatever differs."""
        return hmac.compare_digest(self.sha256, digest)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format_version: int
    tokens: tuple[Token, ...]


def taken_apart(token: str) -> tuple[str, str] | None:
    """Its id and the hash of its secret; None if it does not look like a token."""
    parts = _TOKEN.fullmatch(token)
    return (parts[1], _digest(parts[2])) if parts else None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


def read(path: Path) -> tuple[Token, ...]:
    """The tokens in a file. Raises ConfigurationError(TOKENS_UNUSABLE) if it is not there or not one of ours."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & stat.S_IWOTH:
                raise _unusable(path, "everybody may write to it", "chmod 600 it, and make its tokens anew")
            content = msgspec.json.decode(file.read(), type=_File)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error), HINT) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _unusable(path, f"is no file of tokens: {error}", HINT) from error
    if content.format_version != FORMAT_VERSION:
        raise _unusable(path, f"has the format {content.format_version}", "a newer trackd wrote it: run that one")
    if len({token.id for token in content.tokens}) != len(content.tokens):
        raise _unusable(path, "has an id twice", "revoke tokens with trackd, not by hand")
    return content.tokens


def create(
    path: Path, *, name: str, roles: Sequence[Role], now_ms: int, expires_ms: int | None = None
) -> tuple[str, Token]:
    """Adds a token to the file, which need not exist yet; the text to hand out, and what is kept of it.

    The text is nowhere else: lost, it cannot be had again. Raises ConfigurationError(TOKENS_UNUSABLE).
    """
    secret = secrets.token_hex(32)
    token = Token(secrets.token_hex(6), name, tuple(sorted(set(roles))), _digest(secret), now_ms, expires_ms)

    def add(known: tuple[Token, ...]) -> tuple[Token, ...]:
        return (*known, token)

    _change(path, add, new=True)
    return f"trackd_{token.id}_{secret}", token


def revoke(path: Path, which: str) -> Token:
    """Takes a token, by id or name, out of the file. ConfigurationError(TOKEN_NOT_FOUND) unless it is exactly one."""
    gone: list[Token] = []

    def remove(known: tuple[Token, ...]) -> tuple[Token, ...]:
        gone.extend(token for token in known if token.id == which)
        if not gone:
            gone.extend(token for token in known if token.name == which)
        if len(gone) != 1:
            ids = f": {', '.join(token.id for token in gone)}" if gone else ""
            raise ConfigurationError(
                "TOKEN_NOT_FOUND",
                f"{len(gone) or 'no'} tokens are called {which!r}{ids}",
                hint="trackd token list shows them; give the id",
            )
        return tuple(token for token in known if token is not gone[0])

    _change(path, remove)
    return gone[0]


def _change(path: Path, change: Callable[[tuple[Token, ...]], tuple[Token, ...]], *, new: bool = False) -> None:
    """Replaces the file as a whole: whoever reads meanwhile sees the old one or the new one."""
    try:
        with _only_one(path.parent):
            known = () if new and not path.exists() else read(path)
            content = _File(FORMAT_VERSION, change(known))
            _write(path, msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
    except OSError as error:
        raise _unusable(path, error.strerror or str(error), "the directory must exist and be yours") from error


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Two who add a token at the same time both get theirs in."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, FILE_MODE)  # whatever the umask is
            if os.geteuid() == 0:
                # Made with sudo, it still has to be read by the daemon, whose directory this is.
                owner = (path if path.exists() else path.parent).stat()
                os.fchown(handle, owner.st_uid, owner.st_gid)
            file.write(content)
            file.flush()
            os.fsync(handle)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _unusable(path: Path, problem: str, hint: str) -> ConfigurationError:
    return ConfigurationError("TOKENS_UNUSABLE", f"{path}: {problem}", hint=hint, field="access.tokens")
