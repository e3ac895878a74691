"""`trackd bench security`: what TLS and tokens cost, as ratios of the same work without them."""

from __future__ import annotations

import ipaddress
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from operator import truediv
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from server.bench import load, peers
from server.bench.load import PLAIN, Run, Security
from server.bench.peers import Peer
from server.bench.traffic import Traffic
from server.model import Role
from server.security import tokens

CALLS = 4_000
CALLERS = 64
BATCH = 1_000


def measure(*, events: int, rounds: int, directory: Path, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Figures of four daemons side by side: plain, with tokens, with TLS, with both.

    Each round streams to and calls each of them once, one after the other, so that what else the machine does hits all
    alike. The figures are medians over the rounds; ratios are to the plain one of the same round.
    """
    peers.refuse_tmpfs(directory)
    with tempfile.TemporaryDirectory(dir=directory, prefix="trackd-bench-") as scratch, ExitStack() as stack:
        ways = {
            name: stack.enter_context(_daemon(Path(scratch), name, tls=tls, token=token))
            for name, tls, token in (
                ("plain", False, False),
                ("tokens", False, True),
                ("tls", True, False),
                ("tls_and_tokens", True, True),
            )
        }
        measured = {name: _Measured() for name in ways}
        for number in range(rounds):
            for name, (peer, security) in ways.items():
                say(f"round {number + 1} of {rounds}: {name.replace('_', ' ')}")
                traffic = Traffic(seed + number)
                messages, requests = traffic.batches(events, BATCH), list(traffic.requests(CALLS))
                before_s = peer.cpu_s()
                run = load.stream(peer.target, messages, security=security)
                between_s = peer.cpu_s()
                calls = load.unary(peer.target, requests, callers=CALLERS, security=security)
                measured[name].note(run, between_s - before_s, calls, peer.cpu_s() - between_s)
    report: dict[str, Any] = {"events": events, "rounds": rounds}
    for name, one in measured.items():
        for figure, values in one.figures.items():
            report[f"{name}_{figure}"] = round(statistics.median(values), 2)
            if name != "plain":
                ratios = map(truediv, values, measured["plain"].figures[figure])
                report[f"{name}_{figure}_ratio"] = round(statistics.median(ratios), 3)
    return report


class _Measured:
    """The figures of one daemon, a value a round."""

    def __init__(self) -> None:
        self.figures: dict[str, list[float]] = {}

    def note(self, run: Run, run_cpu_s: float, calls: Run, calls_cpu_s: float) -> None:
        """One round. Processor time is the daemon's: what else the machine does changes it least."""
        for name, value in {
            "events_per_second": run.accepted / run.seconds,
            "cpu_us_per_event": run_cpu_s * 1e6 / run.accepted,
            f"unary_{CALLERS}_calls_per_second": calls.accepted / calls.seconds,
            f"unary_{CALLERS}_cpu_us_per_call": calls_cpu_s * 1e6 / calls.accepted,
        }.items():
            self.figures.setdefault(name, []).append(value)


@contextmanager
def _daemon(scratch: Path, name: str, *, tls: bool, token: bool) -> Iterator[tuple[Peer, Security]]:
    options: list[str] = []
    security = PLAIN
    home = scratch / name
    home.mkdir()
    if tls:
        certificate, key = home / "server.pem", home / "server.key"
        _self_signed(certificate, key)
        options += ["--tls-cert", str(certificate), "--tls-key", str(key)]
        security = Security(ca=certificate.read_bytes())
    if token:
        file = home / "tokens.json"
        text, _token = tokens.create(file, name="bench", roles=[Role.INGEST], now_ms=time.time_ns() // 1_000_000)
        options += ["--tokens", str(file)]
        security = Security(ca=security.ca, token=text)
    with peers.daemon(home / "data", *options) as peer:
        yield peer, security


def _self_signed(certificate: Path, key: Path) -> None:
    """A certificate for this machine's loopback address, valid for a day."""
    own = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "trackd bench")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder(name, name, own.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(own, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
