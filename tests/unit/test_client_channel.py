"""How the client library connects: from arguments or the environment, and never a token in the clear by accident."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
import trackd
from google.rpc.status_pb2 import Status
from trackd.channel import Endpoint, Tls
from trackd.errors import breaks_for_good, from_status

from tests.support.certificates import make_files

NAMES = ("TARGET", "TOKEN", "TOKEN_FILE", "CA", "CERT", "KEY", "TLS")
FAR, TOKEN = "trackd.example.org:7077", "trackd_hush"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(f"TRACKD_{name}", raising=False)


def test_without_anything_it_is_plain_loopback() -> None:
    """As it always was."""
    assert Endpoint.of() == Endpoint("127.0.0.1:7077", None, None)
    assert type(Endpoint.of().open()) is type(grpc.insecure_channel("x"))


def test_the_environment_completes_what_is_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments come first; empty values are none."""
    files = make_files(tmp_path)
    cert, key = files.client("svc")
    token = tmp_path / "token"
    token.write_text(TOKEN)
    for name, value in (("CA", files.ca), ("CERT", cert), ("KEY", key), ("TOKEN_FILE", token), ("TARGET", FAR)):
        monkeypatch.setenv(f"TRACKD_{name}", str(value))
    assert Endpoint.of() == Endpoint(FAR, Tls(ca=files.ca, cert=cert, key=key), token)
    assert Endpoint.of("localhost:1", token=TOKEN, tls=False) == Endpoint("localhost:1", None, TOKEN)
    assert Endpoint.of(token="", tls=True) == Endpoint(FAR, Tls(), None)
    monkeypatch.setenv("TRACKD_TOKEN", TOKEN)
    assert Endpoint.of().token == TOKEN
    monkeypatch.setenv("TRACKD_TLS", "0")
    assert Endpoint.of().tls is None
    monkeypatch.setenv("TRACKD_TLS", "maybe")
    with pytest.raises(ValueError, match="TRACKD_TLS must be 1 or 0"):
        Endpoint.of()
    for name in ("CA", "CERT", "KEY"):
        monkeypatch.setenv(f"TRACKD_{name}", "")
    monkeypatch.setenv("TRACKD_TLS", "1")
    assert Endpoint.of().tls == Tls()


def test_a_token_does_not_travel_in_the_clear_unless_told_so() -> None:
    """Over loopback, a local socket or TLS it may; `tls=False` says that something else protects it."""
    for make in (trackd.Client, lambda target, token: trackd.Appender(target, source="s", token=token)):
        with pytest.raises(ValueError, match="in the clear") as caught:
            make(FAR, token=TOKEN)
        assert TOKEN not in str(caught.value)
    with pytest.raises(ValueError, match="in the clear"):
        trackd.Tracker(FAR, source="s", token=TOKEN)
    for target in ("127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/run/trackd"):
        Endpoint.of(target, token=TOKEN)
    Endpoint.of(FAR, token=TOKEN, tls=True)
    Endpoint.of(FAR, token=TOKEN, tls=False)


def test_a_token_is_shown_to_nobody() -> None:
    """Not in what a debugger or a log prints."""
    assert TOKEN not in repr(Endpoint.of(token=TOKEN))


def test_mistakes_are_found_when_a_client_is_made(tmp_path: Path) -> None:
    """Not at the first call, and not on a thread."""
    for tls in (Tls(ca=tmp_path / "none"),):
        with pytest.raises(FileNotFoundError):
            trackd.Client(tls=tls)
    with pytest.raises(FileNotFoundError):
        trackd.Tracker(source="s", token=tmp_path / "none")
    with pytest.raises(ValueError, match="cert and key go together"):
        Tls(cert="c")
    for text in ("", "two words", "line\nbreak", "ü", "tab\t."):
        file = tmp_path / "token"
        file.write_text(text)
        with pytest.raises(ValueError, match="one word of ASCII"):
            trackd.Client(token=file)


def test_errors_of_permissions_are_classes_of_their_own() -> None:
    """And end an Appender at once: sending again would not help."""
    assert type(from_status(Status(code=16))) is trackd.Unauthenticated
    denied = from_status(Status(code=7))
    assert (type(denied), denied.retryable, breaks_for_good(denied)) == (trackd.PermissionDenied, False, True)
