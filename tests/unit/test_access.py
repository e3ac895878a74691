"""The decision who may do what, without a server around it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
import pytest

from server.errors import PermissionDenied, TrackdError, Unauthenticated
from server.model import Role
from server.security.access import Access, Needed
from server.security.roles import ANY
from server.security.tokens import Token

NOW_MS = 1_000_000
SECRET = "5" * 64
INGEST, READ = frozenset({Role.INGEST, Role.OPERATE}), frozenset({Role.READ, Role.OPERATE})


def token(token_id: str = "a" * 12, *roles: Role, secret: str = SECRET, expires_ms: int | None = None) -> Token:
    """A token as the file knows it."""
    return Token(token_id, "svc", roles or (Role.INGEST,), hashlib.sha256(secret.encode()).hexdigest(), 1, expires_ms)


def bearer(token_id: str = "a" * 12, secret: str = SECRET) -> str:
    """What its bearer sends."""
    return f"Bearer trackd_{token_id}_{secret}"


def refusal(access: Access, authorization: Sequence[str | bytes], needed: Needed = INGEST) -> tuple[type, str]:
    """Kind and reason of a refusal, which tells nothing of what was sent."""
    with pytest.raises(TrackdError) as caught:
        access.admit_token(needed, authorization, NOW_MS)
    assert SECRET not in str(caught.value)
    return type(caught.value), caught.value.reason


def test_without_tokens_and_roles_everybody_may_do_everything() -> None:
    """An empty file of tokens is something else: then nobody may."""
    assert Access().unrestricted
    assert not Access([]).unrestricted
    assert not Access(client_roles={"svc": [Role.READ]}).unrestricted


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
def test_the_right_token_is_admitted(scheme: str) -> None:
    """Schemes are written in any case (RFC 9110, 11.1)."""
    access = Access([token()])
    grant = access.admit_token(INGEST, [scheme + bearer().removeprefix("Bearer ")], NOW_MS)
    assert (grant.token, grant.who) == (token(), "svc")


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        ([], "TOKEN_MISSING"),
        ([""], "TOKEN_MALFORMED"),
        (["Bearer"], "TOKEN_MALFORMED"),
        (["Bearer "], "TOKEN_MALFORMED"),
        (["Basic dXNlcjpwYXNz"], "TOKEN_MALFORMED"),
        ([b"\xff\xff"], "TOKEN_MALFORMED"),
        (["Bearer " + "x" * 10_000], "TOKEN_MALFORMED"),
        ([bearer(), bearer()], "TOKEN_MALFORMED"),
        ([bearer() + "0"], "TOKEN_MALFORMED"),
        ([bearer("b" * 12)], "TOKEN_UNKNOWN"),
        ([bearer(secret="6" * 64)], "TOKEN_UNKNOWN"),
    ],
)
def test_anything_but_one_good_token_is_nobody(authorization: list[str | bytes], reason: str) -> None:
    """Each has its reason; a wrong secret and an unknown id have the same, or ids could be tried out."""
    assert refusal(Access([token()]), authorization) == (Unauthenticated, reason)


def test_no_secret_opens_an_id_that_does_not_exist() -> None:
    """What stands in for a token that is not there is none itself, whatever hashes to it."""
    assert refusal(Access([]), [bearer()]) == (Unauthenticated, "TOKEN_UNKNOWN")


def test_an_expired_token_is_told_so_only_to_its_bearer() -> None:
    """Whoever has the wrong secret learns nothing of the id."""
    access = Access([token(expires_ms=NOW_MS)])
    assert refusal(access, [bearer()]) == (Unauthenticated, "TOKEN_EXPIRED")
    assert refusal(access, [bearer(secret="6" * 64)]) == (Unauthenticated, "TOKEN_UNKNOWN")
    Access([token(expires_ms=NOW_MS + 1)]).admit_token(INGEST, [bearer()], NOW_MS)


@pytest.mark.parametrize(
    ("roles", "needed", "reason"),
    [
        ((Role.INGEST,), INGEST, ""),
        ((Role.INGEST,), READ, "ROLE_MISSING"),
        ((Role.READ,), INGEST, "ROLE_MISSING"),
        ((Role.READ, Role.INGEST), INGEST, ""),
        ((Role.OPERATE,), INGEST, ""),
        ((Role.OPERATE,), frozenset({Role.OPERATE}), ""),
        ((Role.READ, Role.INGEST), frozenset({Role.OPERATE}), "ROLE_MISSING"),
        ((Role.READ,), ANY, ""),
        ((Role.OPERATE,), None, "METHOD_UNLISTED"),
    ],
)
def test_one_of_the_roles_must_suffice(roles: tuple[Role, ...], needed: Needed, reason: str) -> None:
    """And where no entry says which would, none does."""
    access = Access([token("a" * 12, *roles)])
    if reason:
        assert refusal(access, [bearer()], needed) == (PermissionDenied, reason)
    else:
        access.admit_token(needed, [bearer()], NOW_MS)


def test_names_in_a_certificate_have_roles() -> None:
    """Those of all its names together; a certificate without any is nobody's."""
    access = Access(client_roles={"svc": [Role.INGEST], "spiffe://x/y": [Role.READ]})
    assert access.admit_names(INGEST, ["other", "svc"]).who == "svc"
    access.admit_names(READ, ["svc", "spiffe://x/y"])
    for names, needed, reason in (
        (["svc"], READ, "ROLE_MISSING"),
        (["nobody"], READ, "CERTIFICATE_UNKNOWN"),
        ([], ANY, "CERTIFICATE_UNKNOWN"),
        (["svc"], None, "METHOD_UNLISTED"),
    ):
        with pytest.raises(TrackdError) as caught:
            access.admit_names(needed, names)
        assert caught.value.reason == reason


def test_what_was_let_in_is_judged_again_by_what_holds_now() -> None:
    """Revoked, replaced, expired, with fewer roles: each ends it, and says that another attempt may succeed."""
    access = Access([token()])
    grant = access.admit_token(INGEST, [bearer()], NOW_MS)
    assert access.withdrawn(INGEST, grant, NOW_MS) is None
    for now_known, reason in (
        ([], "TOKEN_UNKNOWN"),
        ([token(secret="6" * 64)], "TOKEN_UNKNOWN"),
        ([token(expires_ms=NOW_MS)], "TOKEN_EXPIRED"),
        ([token("a" * 12, Role.READ)], "ROLE_MISSING"),
    ):
        access.replace_tokens(now_known)
        error = access.withdrawn(INGEST, grant, NOW_MS)
        assert error is not None
        assert (error.reason, error.retry_after_ms is None) == (reason, False)
    access.client_roles = {"svc": [Role.INGEST]}
    grant = access.admit_names(INGEST, ["svc"])
    assert access.withdrawn(INGEST, grant, NOW_MS) is None
    access.client_roles = {}
    error = access.withdrawn(INGEST, grant, NOW_MS)
    assert error is not None
    assert error.reason == "CERTIFICATE_UNKNOWN"


def test_the_next_expiry_is_that_of_the_first_name_that_none_is_left_for() -> None:
    """Replaced tokens do not count, expired ones go on to until they are revoked, and without an end there is none."""

    def next_of(*known: tuple[str, int | None]) -> int | None:
        tokens = [
            msgspec.structs.replace(token(f"{number:012}", expires_ms=end), name=name)
            for number, (name, end) in enumerate(known)
        ]
        return Access(tokens).next_expiry_ms()

    assert next_of(("a", 30), ("b", 20), ("c", None)) == 20
    assert next_of(("a", 30), ("b", 20), ("b", 40)) == 30
    assert next_of(("a", None), ("a", 10)) is None
    assert next_of(("a", 10)) == 10
    assert next_of() is None
    assert Access().next_expiry_ms() is None
