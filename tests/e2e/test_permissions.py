"""Tokens and roles over a real daemon: every method, every role, and whatever else callers send."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import trackd
from trackd.channel import open_channel

from server.model import Role
from server.security import tokens
from server.security.roles import ALLOWED, OPEN
from tests.e2e.conftest import DaemonProcess, run
from tests.support.access import Keyring, make_keyring, outcome, with_token
from tests.support.scrape import scrape
from tests.support.serving import serving
from tests.support.wire import Refusal

DENIED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
PATIENCE_S = 15.0
COUNT = "/trackd.v1.QueryService/CountEvents"


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    """A token for each role."""
    return make_keyring(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def served(keyring: Keyring, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon that asks for tokens. In the end no secret is in what it logged."""
    with serving(tmp_path_factory.mktemp("permissions"), *keyring.options()) as daemon:
        yield daemon
        logged = daemon.log.read_text()
        assert "call_denied" in logged
        assert [text for text in keyring.texts.values() if text.split("_")[2] in logged] == []
        assert "hush" not in logged


@pytest.fixture(scope="module")
def channel(served: DaemonProcess) -> Iterator[grpc.Channel]:
    """A channel to it that sends no token by itself."""
    with open_channel(served.target) as opened:
        yield opened


def eventually(true: Callable[[], bool]) -> None:
    """Waits until it is; fails if it does not come."""
    until_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until_s
        time.sleep(0.05)


@pytest.mark.parametrize("method", ALLOWED)
def test_without_a_token_only_health_answers(method: str, channel: grpc.Channel) -> None:
    """Probes have no token to show; everything else wants one."""
    found = outcome(channel, method)
    if ALLOWED[method] is OPEN:
        assert found.code not in DENIED
    else:
        assert found == Refusal(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING", "trackd")


@pytest.mark.parametrize("method", [method for method in ALLOWED if method.startswith("/grpc.")])
@pytest.mark.parametrize("message", [b"\xff" * 10, b"\x0a\x80\x80\x01" + b"x" * 16_384], ids=["broken", "huge"])
def test_methods_of_other_libraries_refuse_what_is_no_request(
    method: str, message: bytes, channel: grpc.Channel, keyring: Keyring
) -> None:
    """As ours do, without a traceback in the log; those that need no token take no megabytes from strangers."""
    found = outcome(channel, method, message=message, metadata=with_token(keyring.texts[Role.READ]))
    if method.endswith("/List"):
        assert found.code is grpc.StatusCode.UNIMPLEMENTED
    else:
        assert found.code is grpc.StatusCode.INVALID_ARGUMENT
        assert found.reason == ("MESSAGE_TOO_LARGE" if len(message) > 10_000 else "UNDECODABLE")


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("method", ALLOWED)
def test_a_role_opens_its_methods_and_no_others(
    method: str, role: Role, channel: grpc.Channel, keyring: Keyring
) -> None:
    """With the right one the method itself answers, be it that the empty message is wrong; else PERMISSION_DENIED."""
    found = outcome(channel, method, metadata=with_token(keyring.texts[role]))
    if ALLOWED[method] is OPEN or role in ALLOWED[method]:
        assert found.code not in DENIED
        assert not found.reason.startswith("TOKEN")
    else:
        assert found == Refusal(grpc.StatusCode.PERMISSION_DENIED, "ROLE_MISSING", "trackd")


@pytest.mark.parametrize("method", ALLOWED)
def test_the_daemons_own_user_needs_no_token_on_its_own_socket(method: str, served: DaemonProcess) -> None:
    """Who may read the data directory may do everything there; another listener of the same daemon changes nothing."""
    with open_channel(f"unix:{served.data}/control.sock") as channel:
        found = outcome(channel, method)
    assert found.code not in DENIED
    assert found.code is not grpc.StatusCode.UNIMPLEMENTED or method.endswith("Health/List")


def test_every_denial_is_counted_by_its_reason(served: DaemonProcess, channel: grpc.Channel, keyring: Keyring) -> None:
    """One each, in a series that was there before; health is none of them."""
    expired = keyring.new(Role.READ, expires_ms=2_000)
    os.kill(served.process.pid if served.process else 0, signal.SIGHUP)
    eventually(lambda: outcome(channel, COUNT, metadata=with_token(expired)).reason == "TOKEN_EXPIRED")
    calls = {
        "TOKEN_MISSING": (),
        "TOKEN_MALFORMED": with_token("hush"),
        "TOKEN_UNKNOWN": with_token(f"trackd_{'0' * 12}_{'0' * 64}"),
        "TOKEN_EXPIRED": with_token(expired),
        "ROLE_MISSING": with_token(keyring.texts[Role.INGEST]),
    }
    before = scrape(served.metrics)
    for reason, metadata in calls.items():
        assert outcome(channel, COUNT, metadata=metadata).reason == reason
    outcome(channel, "/grpc.health.v1.Health/Check")
    after = scrape(served.metrics)
    prefix = "trackd_calls_denied_total"
    changed = {key: after[key] - before[key] for key in after if key.startswith(prefix) and after[key] != before[key]}
    assert changed == {f"{prefix}[reason={reason}]": 1 for reason in calls}


@pytest.mark.parametrize(
    ("metadata", "codes"),
    [
        ((("authorization", "Bearer " + "hush" * 3_000),), {"UNAUTHENTICATED"}),
        ((("authorization", "Bearer " + "hush" * 30_000),), {"RESOURCE_EXHAUSTED", "UNAVAILABLE"}),
        (tuple(("authorization", f"Bearer hush{number}") for number in range(100)), {"UNAUTHENTICATED"}),
        (tuple((f"x-hush-{number}", "hush") for number in range(10_000)), {"RESOURCE_EXHAUSTED", "UNAVAILABLE"}),
        ((("authorization-bin", bytes(range(256))),), {"UNAUTHENTICATED"}),
        ((("authorization", ""),), {"UNAUTHENTICATED"}),
        ((("authorization", "Bearer hush, Bearer hush"),), {"UNAUTHENTICATED"}),
    ],
    ids=["long", "huge", "many", "very many", "binary", "empty", "two in one"],
)
def test_hostile_metadata_is_refused_and_harms_nobody(
    metadata: tuple[tuple[str, str | bytes], ...], codes: set[str], served: DaemonProcess, keyring: Keyring
) -> None:
    """Whatever it is, the call is refused, the next one is answered, and nothing of it is in the log."""
    with open_channel(served.target) as channel:
        assert outcome(channel, COUNT, metadata=metadata).code.name in codes
        assert outcome(channel, COUNT, metadata=with_token(keyring.texts[Role.READ])).code not in DENIED


def headers_frame(value: bytes) -> bytes:
    """The begin of an HTTP/2 connection with one call whose `authorization` is any bytes (RFC 9113, RFC 7541)."""

    def literal(name: bytes, value: bytes) -> bytes:
        return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value

    block = b"".join(
        literal(name, content)
        for name, content in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", COUNT.encode()),
            (b":authority", b"localhost"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"authorization", value),
        )
    )
    settings = struct.pack(">I", 0)[1:] + b"\x04\x00" + struct.pack(">I", 0)
    headers = struct.pack(">I", len(block))[1:] + b"\x01\x05" + struct.pack(">I", 1) + block
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + headers


@pytest.mark.parametrize("value", [b"Bearer \xff\xfehush", b"Bearer hush\x00", b"Bearer hush\r\nx: y", b"\x80" * 100])
def test_bytes_that_no_client_library_sends_are_refused(
    value: bytes, served: DaemonProcess, channel: grpc.Channel, keyring: Keyring
) -> None:
    """A client of its own making gets an answer or loses its connection; the daemon serves on."""
    host, _colon, port = served.target.rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE_S) as connection:
        connection.sendall(headers_frame(value))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass
    assert outcome(channel, COUNT, metadata=with_token(keyring.texts[Role.READ])).code not in DENIED


# While the daemon runs


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[DaemonProcess, Keyring]]:
    """A daemon whose tokens this test may change."""
    keyring = make_keyring(tmp_path)
    with serving(tmp_path, *keyring.options()) as daemon:
        yield daemon, keyring


def test_a_revoked_token_ends_calls_and_open_streams(own: tuple[DaemonProcess, Keyring]) -> None:
    """Without a restart and without a signal; whoever has another token does not notice."""
    daemon, keyring = own
    gone = keyring.new(Role.OPERATE, name="gone")
    with (
        trackd.Client(daemon.target, token=gone) as revoked,
        trackd.Client(daemon.target, token=keyring.texts[Role.OPERATE]) as other,
    ):
        eventually(lambda: _counts(revoked))
        subscription, others = (one.subscribe(after_position=0) for one in (revoked, other))
        other.append([trackd.new_event("first")], source="tests")
        assert [next(subscription).event.type, next(others).event.type] == ["first", "first"]
        assert run("token", "revoke", "gone", "--file", str(keyring.path)).returncode == 0
        with pytest.raises(trackd.Unauthenticated) as caught:
            next(subscription)
        assert caught.value.reason == "TOKEN_UNKNOWN"
        with pytest.raises(trackd.Unauthenticated):
            revoked.count_events()
        other.append([trackd.new_event("second")], source="tests")
        assert next(others).event.type == "second"


def test_a_subscriber_that_does_not_read_loses_its_subscription_too(own: tuple[DaemonProcess, Keyring]) -> None:
    """Nothing more is read for it, and it does not hold up a stop."""
    daemon, keyring = own
    gone = keyring.new(Role.OPERATE, name="gone")
    with trackd.Client(daemon.target, token=gone) as client:
        eventually(lambda: _counts(client))
        many = [trackd.new_event("x", metadata={"text": "y" * 60_000}) for _ in range(300)]
        for begin in range(0, len(many), 50):
            client.append(many[begin : begin + 50], source="tests")
        subscription = client.subscribe(after_position=0)
        next(subscription)
        eventually(lambda: scrape(daemon.metrics)["trackd_subscribers"] == 1)
        assert run("token", "revoke", "gone", "--file", str(keyring.path)).returncode == 0
        eventually(lambda: scrape(daemon.metrics)["trackd_subscribers"] == 0)
        assert daemon.stop() == 0


def test_a_token_in_a_file_is_replaced_without_a_gap(own: tuple[DaemonProcess, Keyring], tmp_path: Path) -> None:
    """First the new one in its place, then the old one revoked: streams and calls go on with the new one."""
    daemon, keyring = own
    file = tmp_path / "token"
    file.write_text(keyring.new(Role.OPERATE, name="old") + "\n")
    interruptions: list[str] = []
    with trackd.Client(daemon.target, token=file) as client:
        eventually(lambda: _counts(client))
        subscription = client.subscribe(
            after_position=0, on_interruption=lambda error: interruptions.append(error.reason)
        )
        client.append([trackd.new_event("first")], source="tests")
        assert next(subscription).event.type == "first"
        other = keyring.new(Role.OPERATE, name="new")
        with trackd.Client(daemon.target, token=other) as waiting:
            eventually(lambda: _counts(waiting))
        file.write_text(other)
        tokens.revoke(keyring.path, "old")

        def stored_meanwhile() -> bool:
            client.append([trackd.new_event("second")], source="tests")
            return next(subscription).event.type == "second" and interruptions != []

        eventually(stored_meanwhile)
    assert interruptions == ["TOKEN_UNKNOWN"]


def _counts(client: trackd.Client) -> bool:
    """Whether the daemon takes its token by now."""
    try:
        client.count_events()
    except trackd.Unauthenticated:
        return False
    return True


def test_a_broken_file_of_tokens_keeps_those_before(own: tuple[DaemonProcess, Keyring]) -> None:
    """It is logged and counted, and a mended file is taken without any more ado."""
    daemon, keyring = own
    good = keyring.path.read_bytes()
    keyring.path.write_bytes(b"{")
    failed = "trackd_reloads_total[result=failed][what=tokens]"
    eventually(lambda: scrape(daemon.metrics)[failed] == 1)
    assert scrape(daemon.metrics)["trackd_last_reload_ok[what=tokens]"] == 0
    assert "TOKENS_UNUSABLE" in daemon.log.read_text()
    with trackd.Client(daemon.target, token=keyring.texts[Role.READ]) as client:
        client.count_events()
        keyring.path.write_bytes(good)
        eventually(lambda: scrape(daemon.metrics)["trackd_last_reload_ok[what=tokens]"] == 1)
        client.count_events()


def test_a_daemon_without_its_tokens_does_not_start(tmp_path: Path) -> None:
    """Rather than one that lets everybody in: it says which file, and how to make one."""
    missing = tmp_path / "tokens.json"
    started = run("serve", "--data", str(tmp_path / "data"), "--tokens", str(missing))
    assert started.returncode == 2
    assert f"{missing}: No such file" in started.stderr
    assert "trackd token create" in started.stderr


def test_the_commands_take_tokens(own: tuple[DaemonProcess, Keyring], tmp_path: Path) -> None:
    """From a file or from the environment; without one they say what is missing."""
    daemon, keyring = own
    file = tmp_path / "token"
    file.write_text(keyring.texts[Role.READ])
    file.chmod(0o644)
    counted = run("count", "--token-file", str(file), target=daemon.target)
    assert (counted.returncode, f"chmod 600 {file}" in counted.stderr) == (0, True)
    file.chmod(0o600)
    assert "chmod" not in run("count", "--token-file", str(file), target=daemon.target).stderr
    refused = run("count", target=daemon.target)
    assert (refused.returncode, "TOKEN_MISSING" in refused.stderr, "--token-file" in refused.stderr) == (1, True, True)
    lines = tmp_path / "events.jsonl"
    lines.write_text('{"type": "x", "ts": 1767225600000}\n')
    loaded = run("import", str(lines), "--token-file", str(file), target=daemon.target)
    assert (loaded.returncode, "ROLE_MISSING" in loaded.stderr) == (1, True)
    file.write_text(keyring.texts[Role.INGEST])
    assert run("import", str(lines), "--token-file", str(file), target=daemon.target).returncode == 0
