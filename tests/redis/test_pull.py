"""`trackd pull`, from a real Redis to a real daemon."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.conftest import DaemonProcess, free_port
from tests.redis.conftest import RedisProcess
from tests.redis.pulling import GROUP, STREAM, Running, add, assert_all_stored, environment, pull, stored, told, until

SECRET = "Zq9Xw"  # noqa: S105 - that of nobody


def test_entries_become_events_once(server: RedisProcess, client: Any, daemon: DaemonProcess) -> None:
    """In both forms; the next run finds nothing, and another group only what is stored already."""
    client.xadd(STREAM, {"type": "pr_opened", "user_id": "ann", "tags": "a,b", "metadata": '{"pr": 45}'})
    client.xadd(STREAM, {"event": '{"type": "pr_merged", "user": "ben", "data": {"pr": 45}}'})
    add(client, 2_500, {"type": "t"})
    first = told(server, daemon, "--once")
    assert (first["read"], first["stored"], first["acknowledged"]) == (2_502, 2_502, 2_502)
    assert assert_all_stored(client, daemon) == 2_502
    assert told(server, daemon, "--once")["read"] == 0
    again = told(server, daemon, "--once", "--group", "another")
    assert (again["duplicate"], again["stored"]) == (2_502, 0)
    assert client.xlen(STREAM) == 2_502


def test_several_streams_and_origins_are_told_apart(server: RedisProcess, client: Any, daemon: DaemonProcess) -> None:
    """The same entry id in two streams, or of two servers, is two events."""
    for stream in (STREAM, "other"):
        client.xadd(stream, {"type": "t"}, "1764000000000-0")
    assert told(server, daemon, "--once", "--stream", "other")["stored"] == 2
    assert told(server, daemon, "--once", "--group", "g2", "--origin", "here")["stored"] == 1
    assert len(stored(daemon)) == 3


def test_refused_entries_are_seen_and_neither_stop_the_others_nor_get_lost(
    server: RedisProcess, client: Any, daemon: DaemonProcess
) -> None:
    """They stay pending and the code is 1, until there is a dead-letter stream. Log and answer quote none of them."""
    client.xadd(STREAM, {"type": "t", "timestamp_ms": SECRET})
    client.xadd(STREAM, {"type": f"{SECRET} !"})
    client.xadd(STREAM, {"type": "t"})
    done = pull(server, daemon, "--once", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["reasons"] == {"NOT_AN_EVENT": 1, "TYPE_INVALID": 1}
    assert SECRET not in done.stdout + done.stderr
    logged = [json.loads(line) for line in done.stderr.splitlines() if "entry_refused" in line]
    assert [(one["reason"], one["kept"]) for one in logged] == [
        ("NOT_AN_EVENT", "pending"),
        ("TYPE_INVALID", "pending"),
    ]
    assert client.xpending(STREAM, GROUP)["pending"] == 2
    assert len(stored(daemon)) == 1
    assert told(server, daemon, "--once", "--dead-letter", "dead")["acknowledged"] == 2
    assert client.xpending(STREAM, GROUP)["pending"] == 0
    dead = [fields for _, fields in client.xrange("dead")]
    assert [one["trackd.reason"] for one in dead] == ["NOT_AN_EVENT", "TYPE_INVALID"]
    assert [one["type"] for one in dead] == ["t", f"{SECRET} !"]
    assert SECRET in dead[0]["trackd.message"]


def test_too_many_refused_entries_end_it(server: RedisProcess, client: Any, daemon: DaemonProcess) -> None:
    """With a sentence that says what to do."""
    for _ in range(5):
        client.xadd(STREAM, {"foo": "x"})
    done = pull(server, daemon, "--once", "--refused-max", "3")
    assert done.returncode == 1
    assert "--dead-letter" in done.stderr


def test_without_its_group_it_says_how_to_create_it(server: RedisProcess, daemon: DaemonProcess) -> None:
    """And creates nothing by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "server.cli.main", "pull", server.url, "--stream", "no", "--group", "g"],
        env=environment(daemon),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "--create-group" in done.stderr


def test_it_ends_well_when_it_is_told_to(
    server: RedisProcess, client: Any, daemon: DaemonProcess, tmp_path: Path
) -> None:
    """SIGTERM in the middle of a stream: all that was read is stored and acknowledged, and the code is 0."""
    add(client, 20_000, {"type": "t", "metadata": '{"pr": 1}'})
    running = Running(server, daemon, tmp_path / "log", "--batch", "50")
    until(lambda: bool(stored(daemon)))
    code, summary = running.stop()
    assert (code, summary["stopped"]) == (0, True)
    assert 0 < summary["read"] == summary["acknowledged"] == len(stored(daemon))
    assert client.xpending(STREAM, GROUP)["pending"] == 0
    assert told(server, daemon, "--once")["stored"] == 20_000 - summary["read"]
    assert_all_stored(client, daemon)


def test_it_does_not_wait_for_ever_for_a_daemon_that_is_gone_when_it_is_told_to_end(
    server: RedisProcess, client: Any, daemon: DaemonProcess, tmp_path: Path
) -> None:
    """A second signal ends it at once; what was unanswered is pending, and stored by the next run."""
    client.xadd(STREAM, {"type": "t"})
    running = Running(server, daemon, tmp_path / "log")
    until(lambda: bool(stored(daemon)))
    daemon.kill()
    client.xadd(STREAM, {"type": "t"})
    until(lambda: client.xpending(STREAM, GROUP)["pending"] == 1)

    def ended() -> bool:
        running.process.terminate()
        return running.process.poll() is not None

    until(ended)
    assert running.process.wait() == -signal.SIGTERM
    running.kill()
    daemon.start()
    assert told(server, daemon, "--once")["stored"] == 1
    assert_all_stored(client, daemon)


def test_over_tls_and_with_a_password(server: RedisProcess, daemon: DaemonProcess, tmp_path: Path) -> None:
    """The certificate is checked; the password is never shown, also not where it is wrong."""
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    make += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(make, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    server.kill()
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(cert), "--tls-key-file", str(key)]
    options += ["--tls-ca-cert-file", str(cert), "--tls-auth-clients", "no", "--bind", "127.0.0.1"]
    server.start(*options)
    with server.client() as client:
        client.xadd(STREAM, {"type": "t"})
        client.config_set("requirepass", SECRET)
    address = f"rediss://:{{}}@localhost:{port}"
    server.url = f"{address.format(SECRET)}?ssl_ca_certs={cert}"
    done = pull(server, daemon, "--once", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["redis"] == f"rediss://localhost:{port}"
    assert SECRET not in done.stdout + done.stderr
    server.url = f"{address.format('Wrong' + SECRET)}?ssl_ca_certs={cert}"
    done = pull(server, daemon, "--once")
    assert done.returncode == 1
    assert "refuses the user or the password" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    server.url = address.format(SECRET)
    done = pull(server, daemon, "--once")
    assert done.returncode == 2
    assert "certificate" in done.stderr.lower()
    assert SECRET not in done.stdout + done.stderr
