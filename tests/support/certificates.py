"""An authority of one's own, and certificates of all kinds."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key as certificates have today."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key, password: bytes = b"") -> bytes:
    """The key as a file holds it."""
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes

    def write(self, certificate: Path, key: Path) -> None:
        """Replaces the two files, one after the other, each as a whole."""
        for path, content in ((certificate, self.certificate), (key, self.key)):
            partial = path.with_name(path.name + ".new")
            partial.write_bytes(content)
            partial.chmod(0o600)
            partial.replace(path)


class Authority:
    """Signs certificates for this machine's loopback addresses, and for clients."""

    def __init__(self, *, name: str = "authority", valid: timedelta = timedelta(days=30)) -> None:
        self._key = new_key()
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        self._builder = x509.CertificateBuilder().issuer_name(self._name).not_valid_before(now - timedelta(days=2))
        signed = (
            self._builder.subject_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_after(now + valid)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = signed.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, name: str = "localhost", *, uri: str = "", valid: timedelta = timedelta(days=10), key: Key | None = None
    ) -> Pair:
        """A certificate of this common name, valid from yesterday (or longer ago) until `valid` from now."""
        own = key or new_key()
        names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        if uri:
            names.append(x509.UniformResourceIdentifier(uri))
        signed = (
            self._builder.subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_after(datetime.now(UTC).replace(microsecond=0) + valid)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Pair(signed.public_bytes(serialization.Encoding.PEM), key_pem(own))


@dataclass(frozen=True)
class Files:
    """Where a daemon with TLS finds what it needs, and who vouches for it."""

    directory: Path
    authority: Authority

    @property
    def ca(self) -> Path:
        """The certificate of the authority."""
        return self.directory / "ca.pem"

    @property
    def certificate(self) -> Path:
        """The daemon's."""
        return self.directory / "server.pem"

    @property
    def key(self) -> Path:
        """The daemon's."""
        return self.directory / "server.key"

    def rotate(self, name: str = "localhost", *, valid: timedelta = timedelta(days=10)) -> Pair:
        """Gives the daemon another certificate and key."""
        pair = self.authority.issue(name, valid=valid)
        pair.write(self.certificate, self.key)
        return pair

    def client(self, name: str, *, uri: str = "") -> tuple[Path, Path]:
        """A certificate and key for a client."""
        pair, stem = self.authority.issue(name, uri=uri), self.directory / f"client-{name}"
        paths = stem.with_suffix(".pem"), stem.with_suffix(".key")
        pair.write(*paths)
        return paths

    def options(self) -> list[str]:
        """For `trackd serve`."""
        return ["--tls-cert", str(self.certificate), "--tls-key", str(self.key)]


def make_files(directory: Path) -> Files:
    """An authority and a daemon's certificate in a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    files = Files(directory, Authority())
    files.ca.write_bytes(files.authority.pem)
    files.rotate()
    return files
