"""Retention over the network, for operators who show that they are: evidence says by which token or certificate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trackd

from server.model import Role
from tests.e2e.conftest import run
from tests.support.access import make_keyring
from tests.support.certificates import make_files
from tests.support.scrape import scrape
from tests.support.serving import serving

DENIED = "trackd_calls_denied_total[reason=CONTROL_ONLY]"


def actors(client: trackd.Client) -> list[str]:
    """Who placed and released holds."""
    return [json.loads(line)["deed"]["actor"] for line in client.retention.evidence()]


def test_a_token_with_the_role_operate_may_do_it(tmp_path: Path) -> None:
    """By library and command; with another role it is refused. Whoever has two tokens of one name is one actor."""
    keyring = make_keyring(tmp_path)
    second = keyring.new(Role.OPERATE, name=Role.OPERATE.value)
    with serving(tmp_path, *keyring.options()) as daemon:
        with trackd.Client(daemon.target, token=keyring.texts[Role.OPERATE]) as operator:
            operator.retention.place_hold("A", "TAX", users=["ann"])
            assert actors(operator) == ["token:operate"]
        for role in (Role.READ, Role.INGEST):
            with trackd.Client(daemon.target, token=keyring.texts[role]) as other:
                with pytest.raises(trackd.PermissionDenied) as refused:
                    other.retention.release_hold("A")
                assert refused.value.reason == "ROLE_MISSING"
        file = tmp_path / "operate.token"
        file.write_text(second)
        file.chmod(0o600)
        words = ("hold", "release", "A", "--target", daemon.target, "--token-file", str(file))
        done = run(*words)
        assert done.returncode == 0, done.stderr
        with trackd.Client(f"unix:{daemon.data / 'control.sock'}") as owner:
            assert actors(owner) == ["token:operate", "token:operate"]


def test_so_may_a_certificate_with_that_role(tmp_path: Path) -> None:
    """Evidence has the name that has the role."""
    files = make_files(tmp_path / "tls")
    files.client("writer")
    settings = '[access.client_roles]\n"deputy" = ["operate"]\n"writer" = ["ingest"]\n'
    with serving(tmp_path, *files.options(), "--client-ca", str(files.ca), settings=settings) as daemon:

        def client(name: str) -> trackd.Client:
            cert, key = files.client(name)
            return trackd.Client(daemon.target, tls=trackd.Tls(ca=files.ca, cert=cert, key=key))

        for code in ("A", "B"):
            with client("deputy") as operator:
                operator.retention.place_hold(code, "TAX", users=["ann"])
        with client("deputy") as operator:
            assert actors(operator) == ["certificate:deputy", "certificate:deputy"]
        with client("writer") as writer, pytest.raises(trackd.PermissionDenied):
            writer.retention.release_hold("A")


def test_a_daemon_without_permissions_has_it_on_its_own_socket_only(tmp_path: Path) -> None:
    """Whatever token is sent along: there is nobody who could know it."""
    with serving(tmp_path) as daemon:
        before = scrape(daemon.metrics)[DENIED]
        for token in ("", f"trackd_{'0' * 12}_{'0' * 64}"):
            with (
                trackd.Client(daemon.target, token=token) as client,
                pytest.raises(trackd.PermissionDenied) as refused,
            ):
                client.retention.place_hold("A", "TAX", users=["ann"])
            assert refused.value.reason == "CONTROL_ONLY"
            assert "control.sock" in str(refused.value)
        assert scrape(daemon.metrics)[DENIED] - before == 2
