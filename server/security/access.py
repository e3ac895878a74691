"""Whether a caller may call a method: the decision, without anything of gRPC."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from server.errors import PermissionDenied, TrackdError, Unauthenticated
from server.model import Role
from server.security.tokens import Token, taken_apart

_SCHEME = "bearer "
_NO_SECRET = Token("", "", (), "0" * 64, 0)
"""Stands in for a token that does not exist, so that finding that out takes as long."""

AGAIN_MS = 100
"""After which whoever was let in before may try again. Clients that read their token from a file have the next one."""

TOKEN_HINT = "send `authorization: Bearer TOKEN`; `trackd token create` makes tokens"  # noqa: S105  # not one itself


@dataclass(frozen=True, slots=True)
class Grant:
    """Why a call was let in: by a token, by the names in a client certificate, or by the daemon's own socket."""

    token: Token | None = None
    names: frozenset[str] = frozenset()
    uid: int | None = None
    """Of the user behind the socket: root, or the daemon's own."""

    @property
    def who(self) -> str:
        """For logs: what the operator called it."""
        if self.uid is not None:
            return f"uid:{self.uid}"
        return self.token.name if self.token else ", ".join(sorted(self.names))

    @property
    def actor(self) -> str:
        """For evidence. Tokens of one name are one actor: who replaces a token is nobody else."""
        if self.uid is not None:
            return self.who
        return f"{'token' if self.token else 'certificate'}:{self.who}"


Needed = frozenset[Role] | None
"""The roles of which one suffices (server/security/roles.py); None: there is no entry, nobody may."""


class Access:
    """Who may do what. Lives on the event loop; `tokens` and `client_roles` may be replaced at any time.

    With neither tokens (None) nor roles of client certificates there are no permissions: everybody may do everything.
    """

    def __init__(
        self, tokens: Iterable[Token] | None = None, client_roles: Mapping[str, Collection[Role]] | None = None
    ) -> None:
        self.client_roles = client_roles or {}
        self._by_id: dict[str, Token] | None = None
        if tokens is not None:
            self.replace_tokens(tokens)

    @property
    def unrestricted(self) -> bool:
        """Whether everybody may do everything."""
        return self._by_id is None and not self.client_roles

    def replace_tokens(self, tokens: Iterable[Token]) -> None:
        """From now on these are valid and no others."""
        self._by_id = {token.id: token for token in tokens}

    def next_expiry_ms(self) -> int | None:
        """When the first name is left without a valid token; in the past, if one is already. None: this never comes.

        Where another token of the same name lives longer, it has replaced this one. Any thread may ask.
        """
        last: dict[str, float] = {}
        for token in tuple((self._by_id or {}).values()):
            end_ms = math.inf if token.expires_ms is None else token.expires_ms
            last[token.name] = max(last.get(token.name, 0), end_ms)
        first = min(last.values(), default=math.inf)
        return None if first == math.inf else int(first)

    def admit_token(self, needed: Needed, authorization: Sequence[str | bytes], now_ms: int) -> Grant:
        """Why the bearer may call what needs these roles. `authorization`: the values of all metadata of that name.

        Raises Unauthenticated (TOKEN_MISSING, TOKEN_MALFORMED, TOKEN_UNKNOWN, TOKEN_EXPIRED) or PermissionDenied
        (ROLE_MISSING, METHOD_UNLISTED). No message holds anything of what was sent.
        """
        if not authorization:
            raise Unauthenticated("TOKEN_MISSING", "this needs a token", hint=TOKEN_HINT)
        value = authorization[0]
        if len(authorization) > 1 or not isinstance(value, str) or value[: len(_SCHEME)].lower() != _SCHEME:
            raise Unauthenticated("TOKEN_MALFORMED", "the metadata `authorization` is no bearer token", hint=TOKEN_HINT)
        parts = taken_apart(value[len(_SCHEME) :].strip())
        if parts is None:
            raise Unauthenticated("TOKEN_MALFORMED", "this does not look like a token of trackd", hint=TOKEN_HINT)
        token_id, digest = parts
        token = (self._by_id or {}).get(token_id, _NO_SECRET)
        if not token.is_proved_by(digest) or token is _NO_SECRET:
            raise _unknown()
        self._permit(needed, token, now_ms)
        return Grant(token)

    def admit_names(self, needed: Needed, names: Iterable[str]) -> Grant:
        """The same for who shows a client certificate with these names and no token.

        Raises Unauthenticated(CERTIFICATE_UNKNOWN) or PermissionDenied.
        """
        known = frozenset(name for name in names if name in self.client_roles)
        if not known:
            raise Unauthenticated(
                "CERTIFICATE_UNKNOWN",
                "no name in the client certificate has a role, and there is no token",
                hint="name it in access.client_roles, or send a token",
            )
        _need(needed, {role for name in known for role in self.client_roles[name]})
        return Grant(names=known)

    def admit_owner(self, needed: Needed, uid: int) -> Grant:
        """The same for the daemon's own user and for root, on the daemon's own socket: they may do everything."""
        _need(needed, (Role.OPERATE,))
        return Grant(uid=uid)

    def withdrawn(self, needed: Needed, grant: Grant, now_ms: int) -> TrackdError | None:
        """What a call that was let in would be told today; None if it may go on.

        It may be called again: whoever has another token by now, or the same with other roles, gets in.
        """
        if grant.uid is not None:
            return None
        try:
            if grant.token is None:
                self.admit_names(needed, grant.names)
            else:
                token = (self._by_id or {}).get(grant.token.id)
                if token is None or token.sha256 != grant.token.sha256:
                    raise _unknown()
                self._permit(needed, token, now_ms)
        except (Unauthenticated, PermissionDenied) as error:
            error.retry_after_ms = AGAIN_MS
            return error
        return None

    @staticmethod
    def _permit(needed: Needed, token: Token, now_ms: int) -> None:
        if token.expired(now_ms):
            raise Unauthenticated("TOKEN_EXPIRED", "this token has expired", hint="have a new one made")
        _need(needed, token.roles)


def _need(needed: Needed, roles: Collection[Role]) -> None:
    if needed is None:
        raise PermissionDenied(
            "METHOD_UNLISTED", "nobody may call this method", hint="it has no entry in the table of roles"
        )
    if needed.isdisjoint(roles):
        wanted = " or ".join(sorted(needed))
        raise PermissionDenied("ROLE_MISSING", f"this needs the role {wanted}", hint="use a token that has it")


def _unknown() -> Unauthenticated:
    return Unauthenticated("TOKEN_UNKNOWN", "this token is not known, or not any more", hint="have a new one made")
