"""The exporter over real sockets on loopback."""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from server import exporter as module
from server.errors import ConfigurationError
from server.exporter import REQUEST_BYTES_MAX, THREADS, Exporter
from tests.support.certificates import make_files

PATIENCE_S = 10.0


class Signs:
    """What the daemon would say of itself."""

    alive = True
    ready = True


@pytest.fixture
def signs() -> Signs:
    """A daemon that is well."""
    return Signs()


@pytest.fixture
def exporter(signs: Signs) -> Iterator[Exporter]:
    """One that serves on a free port, with a registry of one counter."""
    registry = CollectorRegistry()
    Counter("reviews", "Reviews.", registry=registry).inc(3)
    serving = Exporter("127.0.0.1:0", registry, alive=lambda: signs.alive, ready=lambda: signs.ready)
    serving.start()
    yield serving
    serving.close()


def connect(exporter: Exporter) -> socket.socket:
    """A bare connection."""
    host, _colon, port = exporter.address.rpartition(":")
    return socket.create_connection((host, int(port)), PATIENCE_S)


def ask(exporter: Exporter, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    """One request by a well-behaved client; underscores in names of headers stand for hyphens."""
    connection = HTTPConnection(exporter.address, timeout=PATIENCE_S)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def send(exporter: Exporter, request: bytes) -> bytes:
    """Everything that comes back for some bytes."""
    with connect(exporter) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def drip(connection: socket.socket) -> None:
    """Sends byte after byte, far longer than anybody should listen."""
    for _ in range(round(PATIENCE_S / 0.02)):
        connection.sendall(b"G")
        time.sleep(0.02)


def samples(text: bytes) -> dict[str, float]:
    """The series of a scrape without labels."""
    families = text_string_to_metric_families(text.decode())
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_a_scrape_shows_the_registry(exporter: Exporter) -> None:
    """As text that a parser of the format reads."""
    response, body = ask(exporter, "/metrics")
    assert response.status == 200
    assert (response.getheader("Content-Type") or "").startswith("text/plain; version=")
    assert samples(body)["reviews_total"] == 3


def test_the_query_of_a_scrape_is_ignored(exporter: Exporter) -> None:
    """Scrapers add parameters; the path decides."""
    response, body = ask(exporter, "/metrics?x=1")
    assert (response.status, samples(body)["reviews_total"]) == (200, 3)


def test_a_scrape_is_compressed_only_if_asked_for(exporter: Exporter) -> None:
    """With gzip among the accepted codings, whatever its case and weight."""
    response, body = ask(exporter, "/metrics", Accept_Encoding="deflate, GZIP;q=0.5")
    assert response.getheader("Content-Encoding") == "gzip"
    assert samples(gzip.decompress(body))["reviews_total"] == 3
    response, body = ask(exporter, "/metrics", Accept_Encoding="deflate")
    assert response.getheader("Content-Encoding") is None
    assert samples(body)["reviews_total"] == 3


def test_openmetrics_is_spoken_if_asked_for(exporter: Exporter) -> None:
    """The format that Prometheus prefers ends with its own mark."""
    response, body = ask(exporter, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert (response.getheader("Content-Type") or "").startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_health_follows_the_writer(exporter: Exporter, signs: Signs) -> None:
    """200 as long as the process and its writer live, 503 with a reason when not; readiness is another matter."""
    signs.ready = False
    assert ask(exporter, "/healthz")[0].status == 200
    signs.alive = False
    response, body = ask(exporter, "/healthz")
    assert (response.status, body) == (503, b"the writer is stuck or has failed\n")


def test_readiness_follows_the_daemon(exporter: Exporter, signs: Signs) -> None:
    """200 while it takes events, 503 with a reason while it does not, and back again."""
    assert ask(exporter, "/readyz")[0].status == 200
    signs.ready = False
    response, body = ask(exporter, "/readyz")
    assert (response.status, body) == (503, b"not taking events now\n")
    signs.ready = True
    assert ask(exporter, "/readyz")[0].status == 200


@pytest.mark.parametrize("path", ["/", "/metrics/", "/Metrics", "/debug", "/metrics/../healthz", "/healthz%20"])
def test_nothing_else_is_served(exporter: Exporter, path: str) -> None:
    """Any other path is not found."""
    assert ask(exporter, path)[0].status == 404


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_only_get_is_served(exporter: Exporter, method: str) -> None:
    """Other methods are told which one there is."""
    response, body = ask(exporter, "/metrics", method)
    assert (response.status, response.getheader("Allow"), body) == (405, "GET", b"")


@pytest.mark.parametrize(
    "request_line", ["GET /metrics", "GET  /metrics HTTP/1.1", "GET /metrics HTTP/2", "\x16\x03\x01", ""]
)
def test_what_is_no_http_is_a_bad_request(exporter: Exporter, request_line: str) -> None:
    """It is answered, and the exporter goes on."""
    assert send(exporter, f"{request_line}\r\n\r\n".encode()).startswith(b"HTTP/1.1 400 ")
    assert ask(exporter, "/healthz")[0].status == 200


def test_a_request_in_pieces_is_put_together(exporter: Exporter) -> None:
    """TCP knows no messages."""
    with connect(exporter) as connection:
        for piece in (b"GET /hea", b"lthz HTTP/1.1\r\nHost: x\r", b"\n\r\n"):
            connection.sendall(piece)
            time.sleep(0.02)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_a_request_that_is_too_long_is_refused(exporter: Exporter) -> None:
    """Headers without end take a bounded amount of memory, and the sender hears why it is over."""
    endless = b"GET /metrics HTTP/1.1\r\nX: " + b"x" * (3 * REQUEST_BYTES_MAX)
    assert send(exporter, endless).startswith(b"HTTP/1.1 431 ")
    fitting = b"GET /healthz HTTP/1.1\r\nX: " + b"x" * (REQUEST_BYTES_MAX // 2) + b"\r\n\r\n"
    assert send(exporter, fitting).startswith(b"HTTP/1.1 200 ")


def test_one_connection_is_one_request(exporter: Exporter) -> None:
    """A second request on it is not answered: the connection is closed."""
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    assert send(exporter, request * 2).count(b"HTTP/1.1 200 ") == 1


def test_a_client_that_says_nothing_is_dropped(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer, when its time is over."""
    monkeypatch.setattr(module, "READ_S", 0.2)
    started = time.monotonic()
    assert send(exporter, b"") == b""
    assert time.monotonic() - started >= 0.15


def test_a_client_that_drips_cannot_hold_a_thread(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is for the whole request, not for each byte of it."""
    monkeypatch.setattr(module, "READ_S", 0.3)
    started = time.monotonic()
    with connect(exporter) as connection, pytest.raises(OSError, match=r"[Bb]roken pipe|reset"):
        drip(connection)
    assert time.monotonic() - started < PATIENCE_S / 2


def test_idle_connections_do_not_pile_up(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are open, threads stay as they are, and a scrape comes through when the idle ones are dropped."""
    monkeypatch.setattr(module, "READ_S", 0.3)
    threads = threading.active_count()
    idle = [connect(exporter) for _ in range(2 * THREADS)]
    try:
        assert ask(exporter, "/healthz")[0].status == 200
        assert threading.active_count() == threads
    finally:
        for connection in idle:
            connection.close()


def test_many_scrapes_at_once_are_all_answered(exporter: Exporter) -> None:
    """More than there are threads."""
    answers: list[int] = []
    callers = [
        threading.Thread(target=lambda: answers.append(ask(exporter, "/metrics")[0].status)) for _ in range(3 * THREADS)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE_S)
    assert answers == [200] * len(callers)


def test_a_defect_costs_one_connection_only(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """More requests that fail inside than there are threads, and it still serves."""

    def defect() -> bool:
        raise RuntimeError

    monkeypatch.setattr(exporter, "_ready", defect)
    for _ in range(THREADS + 1):
        assert send(exporter, b"GET /readyz HTTP/1.1\r\n\r\n") == b""
    assert ask(exporter, "/healthz")[0].status == 200


def test_the_address_is_the_one_that_was_bound() -> None:
    """Port 0 takes a free one; the host stays as it was written."""
    exporter = Exporter("127.0.0.1:0", CollectorRegistry(), alive=lambda: True, ready=lambda: True)
    host, _colon, port = exporter.address.rpartition(":")
    assert (host, int(port) > 0) == ("127.0.0.1", True)
    exporter.close()


def test_an_address_in_use_is_the_operators_error(exporter: Exporter) -> None:
    """Named with the address and the option, before anything is served."""
    with pytest.raises(ConfigurationError, match=exporter.address) as caught:
        Exporter(exporter.address, CollectorRegistry(), alive=lambda: True, ready=lambda: True)
    assert (caught.value.reason, caught.value.field) == ("ADDRESS_IN_USE", "listen.metrics")
    assert "--metrics" in caught.value.hint


def test_an_address_that_is_not_ours_is_the_operators_error() -> None:
    """192.0.2.0/24 is for documentation (RFC 5737): no machine has it."""
    with pytest.raises(ConfigurationError) as caught:
        Exporter("192.0.2.1:0", CollectorRegistry(), alive=lambda: True, ready=lambda: True)
    assert caught.value.reason == "ADDRESS_UNUSABLE"


def test_close_cuts_off_who_is_connected_and_leaves_nothing() -> None:
    """It does not wait for slow clients, ends every thread and frees the port; closing twice is fine."""
    threads = threading.active_count()
    exporter = Exporter("127.0.0.1:0", CollectorRegistry(), alive=lambda: True, ready=lambda: True)
    exporter.start()
    assert ask(exporter, "/healthz")[0].status == 200
    with connect(exporter) as idle:
        idle.sendall(b"GET")
        time.sleep(0.05)
        started = time.monotonic()
        exporter.close()
        exporter.close()
        assert time.monotonic() - started < 1.0
        assert idle.recv(1) == b""
    assert threading.active_count() == threads
    Exporter(exporter.address, CollectorRegistry(), alive=lambda: True, ready=lambda: True).close()


def test_one_that_never_started_can_be_closed() -> None:
    """A daemon that fails on its way up closes what it has."""
    Exporter("127.0.0.1:0", CollectorRegistry(), alive=lambda: True, ready=lambda: True).close()


def test_over_https_a_client_that_never_shakes_hands_holds_nobody_up(tmp_path: Path) -> None:
    """Certificates may change between two connections; whoever does not get that far is let go."""
    files = make_files(tmp_path)

    def context() -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(files.certificate, files.key)
        return made

    exporter = Exporter("127.0.0.1:0", CollectorRegistry(), alive=lambda: True, ready=lambda: True, tls=context)
    exporter.start()
    try:
        trusting = ssl.create_default_context(cafile=str(files.ca))
        with contextlib.ExitStack() as stack:
            for _ in range(THREADS - 1):
                stack.enter_context(connect(exporter))
            for _ in range(2):
                connection = HTTPSConnection(exporter.address, timeout=PATIENCE_S, context=trusting)
                connection.request("GET", "/healthz")
                assert connection.getresponse().read() == b"OK\n"
                connection.close()
                files.rotate()
            silent = stack.enter_context(connect(exporter))
            assert silent.recv(1) == b""
    finally:
        exporter.close()
