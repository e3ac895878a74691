"""TLS over a real daemon: connections, certificates that change under load, client certificates."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import trackd
import trackd.aio
from cryptography import x509
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

from server.model import Role
from server.security import tokens
from tests.e2e.conftest import DaemonProcess, run
from tests.support.access import make_keyring
from tests.support.certificates import Authority, Files, make_files
from tests.support.scrape import scrape
from tests.support.serving import serving

PATIENCE_S = 20.0
ROTATIONS = 20
EXPIRY = "trackd_tls_certificate_expiry_timestamp_seconds"
FAILED = "trackd_reloads_total[result=failed][what=certificates]"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """An authority and the daemon's certificate."""
    return make_files(tmp_path / "tls")


@pytest.fixture
def served(files: Files, tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon with TLS."""
    with serving(tmp_path, *files.options()) as daemon:
        yield daemon


def eventually(true: Callable[[], bool]) -> None:
    """Waits until it is; fails if it does not come."""
    until_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def hang_up(daemon: DaemonProcess) -> None:
    """SIGHUP."""
    assert daemon.process is not None
    os.kill(daemon.process.pid, signal.SIGHUP)


@contextlib.contextmanager
def _set_at_the_end(event: threading.Event) -> Iterator[None]:
    """Whatever happens, so that threads which wait for it end."""
    try:
        yield
    finally:
        event.set()


def shown(daemon: DaemonProcess) -> str:
    """The common name in the certificate that the daemon shows to a new connection."""
    host, _colon, port = daemon.target.rpartition(":")
    pem = ssl.get_server_certificate((host, int(port)), timeout=PATIENCE_S)
    (name,) = x509.load_pem_x509_certificate(pem.encode()).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(name.value)


def test_clients_that_trust_the_authority_get_in_and_no_others(
    files: Files, served: DaemonProcess, tmp_path: Path
) -> None:
    """Neither those who trust another one, nor those without TLS; a name that does not fit needs a word."""
    with trackd.Client(served.target, tls=trackd.Tls(ca=files.ca)) as client:
        assert client.append([trackd.new_event("x")], source="tests").accepted == 1
    other = tmp_path / "other.pem"
    other.write_bytes(Authority().pem)
    for tls in (trackd.Tls(ca=other), True, None):
        with trackd.Client(served.target, tls=tls, timeout_s=3) as client, pytest.raises(trackd.Unreachable):
            client.count_events()
    named = served.target.replace("127.0.0.1", "127.0.0.2")
    with trackd.Client(named, tls=trackd.Tls(ca=files.ca), timeout_s=3) as client, pytest.raises(trackd.TrackdError):
        client.count_events()

    async def ask() -> int:
        async with trackd.aio.Client(served.target, tls=trackd.Tls(ca=files.ca)) as client:
            return (await client.count_events()).events

    assert asyncio.run(ask()) == 1
    assert run("count", "--ca", str(files.ca), target=served.target).returncode == 0
    refused = run("count", target=served.target)
    assert (refused.returncode, "--ca" in refused.stderr) == (2, True)


def test_a_certificate_replaced_under_load_fails_no_call(files: Files, served: DaemonProcess) -> None:
    """Twenty times, by SIGHUP and by itself: a stream, a connection that lasts and new ones all the while."""
    tls = trackd.Tls(ca=files.ca)
    ended = threading.Event()
    failures: list[BaseException] = []
    calls = {"old connection": 0, "new connection": 0}

    def call(name: str, make: Callable[[], None]) -> None:
        try:
            while not ended.is_set():
                make()
                calls[name] += 1
        except BaseException as error:  # noqa: BLE001  # told by the main thread
            failures.append(error)

    def anew() -> None:
        with trackd.Client(served.target, tls=tls) as client:
            client.count_events()

    lasting = trackd.Client(served.target, tls=tls)
    threads = [
        threading.Thread(
            target=call, args=("old connection", lambda: lasting.append([trackd.new_event("a")], source="a"))
        ),
        threading.Thread(target=call, args=("new connection", anew)),
    ]
    with (
        trackd.Appender(served.target, source="stream", batch_events=20, tls=tls) as appender,
        lasting,
        _set_at_the_end(ended),
    ):
        for thread in threads:
            thread.start()
        sent = 0
        for number in range(ROTATIONS):
            files.rotate(f"certificate-{number}")
            if number % 7:  # every seventh is noticed without a signal
                hang_up(served)
            until_s = time.monotonic() + PATIENCE_S
            while shown(served) != f"certificate-{number}" and not failures:
                assert time.monotonic() < until_s
                appender.send(trackd.new_event("b") for _ in range(100))
                sent += 100
        appender.flush()
        totals = appender.totals
        ended.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert (totals.accepted, totals.rejected) == (sent, 0)
    assert min(calls.values()) >= ROTATIONS
    samples = scrape(served.metrics)
    assert samples["trackd_reloads_total[result=ok][what=certificates]"] >= ROTATIONS
    assert samples[FAILED] == 0
    stream = "[grpc_method=AppendStream][grpc_service=trackd.v1.IngestService][grpc_type=bidi_stream]"
    assert samples[f"grpc_server_started_total{stream}"] == 1


def test_a_tracker_goes_on_over_a_token_and_a_certificate_that_are_replaced(files: Files, tmp_path: Path) -> None:
    """Its stream ends with the old token and opens with the new one; nothing is lost, refused or stored twice."""
    keyring, file = make_keyring(tmp_path), tmp_path / "token"
    file.write_text(keyring.new(Role.INGEST, name="old"))
    rejected: list[trackd.Rejection] = []
    with serving(tmp_path, *files.options(), *keyring.options()) as daemon:
        tls = trackd.Tls(ca=files.ca)
        with (
            trackd.Client(daemon.target, token=keyring.texts[Role.READ], tls=tls) as reader,
            trackd.Tracker(
                daemon.target, source="tests", token=file, tls=tls, max_delay_s=0.01, on_rejected=rejected.append
            ) as tracker,
        ):
            tracker.track("before")
            assert tracker.flush(PATIENCE_S)
            new = keyring.new(Role.INGEST, name="new")
            with trackd.Client(daemon.target, token=new, tls=tls) as waiting:
                eventually(lambda: admitted(waiting))
            file.write_text(new)
            files.rotate("second")
            tokens.revoke(keyring.path, "old")
            opened = "grpc_server_started_total[grpc_method=AppendStream][grpc_service=trackd.v1.IngestService]"
            opened += "[grpc_type=bidi_stream]"
            tracked = 1
            until_s = time.monotonic() + PATIENCE_S
            while scrape(daemon.metrics)[opened] < 2:
                assert time.monotonic() < until_s
                tracker.track("meanwhile")
                tracked += 1
                time.sleep(0.01)
            tracker.track("after")
            assert tracker.flush(PATIENCE_S)
            assert (reader.count_events().events, rejected) == (tracked + 1, [])


def admitted(client: trackd.Client) -> bool:
    """Whether the daemon knows its token by now."""
    try:
        client.append([], source="tests")
    except trackd.Unauthenticated:
        return False
    return True


def test_a_bad_certificate_keeps_the_one_before(files: Files, served: DaemonProcess) -> None:
    """It is logged and counted, once and not again and again; a good one heals it."""
    good = files.rotate("first")
    eventually(lambda: shown(served) == "first")
    before = scrape(served.metrics)[EXPIRY]
    files.key.write_bytes(b"nonsense")
    eventually(lambda: scrape(served.metrics)[FAILED] == 1)
    assert shown(served) == "first"
    hang_up(served)
    eventually(lambda: scrape(served.metrics)[FAILED] == 2)
    assert '"reason": "TLS_UNUSABLE"' in served.log.read_text()
    files.rotate("expired", valid=timedelta(minutes=-5))
    eventually(lambda: scrape(served.metrics)[FAILED] == 3)
    assert shown(served) == "first"
    samples = scrape(served.metrics)
    assert (samples[EXPIRY], samples["trackd_last_reload_ok[what=certificates]"]) == (before, 0)
    later = files.rotate("second", valid=timedelta(days=20))
    eventually(lambda: shown(served) == "second")
    eventually(lambda: scrape(served.metrics)["trackd_last_reload_ok[what=certificates]"] == 1)
    expected = x509.load_pem_x509_certificate(later.certificate).not_valid_after_utc.timestamp()
    assert scrape(served.metrics)[EXPIRY] == expected
    assert x509.load_pem_x509_certificate(good.certificate).not_valid_after_utc.timestamp() == before


def test_an_expired_certificate_is_served_and_heals_without_a_restart(files: Files, tmp_path: Path) -> None:
    """Clients refuse it, the metric says when it ended, and the next one is taken."""
    files.rotate("expired", valid=timedelta(minutes=-5))
    with serving(tmp_path, *files.options()) as daemon:
        assert scrape(daemon.metrics)[EXPIRY] < time.time()
        assert "certificate_expired" in daemon.log.read_text()
        tls = trackd.Tls(ca=files.ca)
        with trackd.Client(daemon.target, tls=tls, timeout_s=3) as client, pytest.raises(trackd.TrackdError):
            client.count_events()
        files.rotate("fresh")
        eventually(lambda: shown(daemon) == "fresh")
        with trackd.Client(daemon.target, tls=tls) as client:
            client.count_events()


def test_clients_need_a_certificate_where_the_daemon_asks_for_one(files: Files, tmp_path: Path) -> None:
    """Of the authority that it names, and of no other; its names can have roles."""
    settings = """
    [access.client_roles]
    "writer" = ["ingest"]
    "spiffe://example/reader" = ["read"]
    """
    strangers = make_files(tmp_path / "strangers")
    files.client("writer")
    with serving(tmp_path, *files.options(), "--client-ca", str(files.ca), settings=settings) as daemon:

        def client(certificate: tuple[Path, Path] | None) -> trackd.Client:
            cert, key = certificate or (None, None)
            return trackd.Client(daemon.target, tls=trackd.Tls(ca=files.ca, cert=cert, key=key), timeout_s=5)

        for unknown in (None, strangers.client("writer")):
            with client(unknown) as stranger, pytest.raises(trackd.Unreachable):
                stranger.health()
        with (
            client(files.client("writer")) as writer,
            client(files.client("x", uri="spiffe://example/reader")) as reader,
        ):
            assert writer.append([trackd.new_event("x")], source="tests").accepted == 1
            assert reader.count_events().events == 1
            assert next(reader.subscribe(after_position=0)).event.type == "x"
            for call in (writer.count_events, lambda: reader.append([], source="tests")):
                with pytest.raises(trackd.PermissionDenied) as caught:
                    call()
                assert caught.value.reason == "ROLE_MISSING"
        with client(files.client("nobody")) as nobody:
            assert nobody.health() is trackd.Health.SERVING
            with pytest.raises(trackd.Unauthenticated) as denied:
                nobody.count_events()
            assert denied.value.reason == "CERTIFICATE_UNKNOWN"
        cert, key = files.client("x", uri="spiffe://example/reader")
        counted = run("count", "--ca", str(files.ca), "--cert", str(cert), "--key", str(key), target=daemon.target)
        assert counted.returncode == 0, counted.stderr
        assert scrape(daemon.metrics)["trackd_tls_client_ca_expiry_timestamp_seconds"] > time.time()


def test_metrics_and_health_have_https_if_asked_for(files: Files, tmp_path: Path) -> None:
    """With the same certificate, also the next one; without TLS nobody gets an answer, and nobody holds a thread."""
    context = ssl.create_default_context(cafile=str(files.ca))
    with serving(tmp_path, *files.options(), settings="[tls]\nmetrics = true\n") as daemon:
        before = scrape(daemon.metrics, context=context)[EXPIRY]
        host, _colon, port = daemon.metrics.rpartition(":")
        with socket.create_connection((host, int(port)), PATIENCE_S) as plain:
            plain.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert b"HTTP" not in plain.recv(4096)
        files.rotate(valid=timedelta(days=20))
        eventually(lambda: scrape(daemon.metrics, context=context)[EXPIRY] > before)
        pem = ssl.get_server_certificate((host, int(port)), timeout=PATIENCE_S)
        assert pem.encode() == files.certificate.read_bytes()


def test_senders_of_opentelemetry_are_set_up_by_their_own_variables(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the README says: an endpoint with https, the authority, and the token as a header."""
    keyring = make_keyring(tmp_path)
    with serving(tmp_path, *files.options(), *keyring.options()) as daemon:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"https://{daemon.target}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(files.ca))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer%20{keyring.texts[Role.INGEST]}")
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(timeout=PATIENCE_S)))
        provider.get_logger("tests").emit(LogRecord(event_name="placed"))
        provider.shutdown()
        with trackd.Client(daemon.target, token=keyring.texts[Role.READ], tls=trackd.Tls(ca=files.ca)) as client:
            assert [stored.event.type for stored in client.list_events()] == ["placed"]


def test_strangers_at_the_door_write_no_lines_into_the_log(served: DaemonProcess) -> None:
    """A port scan is not worth a line each, and gRPC's own are no JSON."""
    host, _colon, port = served.target.rpartition(":")
    for _ in range(5):
        with socket.create_connection((host, int(port)), PATIENCE_S) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            connection.recv(100)
    lines = served.log.read_text().splitlines()
    assert [line for line in lines if not line.startswith("{")] == []
