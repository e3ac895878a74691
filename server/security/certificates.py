"""Certificates of the listeners: read, judged, and read anew while the daemon runs.

They are judged here because gRPC would not say what is wrong with them, and because a pair that does not fit must never
replace one that does.
"""

from __future__ import annotations

import ssl
import time
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning

from server.config import Tls
from server.errors import ConfigurationError
from server.security.watched_files import WatchedFiles


@dataclass(frozen=True, slots=True)
class Certificates:
    """One set that fits together. PEM; times are seconds since 1970."""

    chain: bytes
    key: bytes
    client_ca: bytes | None
    """Who signs the certificates of clients; None: clients need none."""
    not_before_s: float
    expires_s: float
    """When the first certificate of the chain expires that does."""
    client_ca_expires_s: float | None
    """When the last one expires that signs for clients: from then on nobody gets in."""
    https: ssl.SSLContext | None
    """For the port of metrics, if it has TLS."""

    def valid_at(self, moment_s: float) -> bool:
        """Whether clients accept the chain at this moment."""
        return self.not_before_s <= moment_s < self.expires_s


class CertificateFiles:
    """The files that the settings name, and the last set in them that was good."""

    def __init__(self, settings: Tls) -> None:
        """Raises ConfigurationError(TLS_UNUSABLE). A set that has expired is taken: the next may come any moment."""
        self._settings = settings
        paths = (settings.certificate, settings.key, settings.client_ca)
        self._files = WatchedFiles([Path(path) for path in paths if path])
        self.current = read(settings)
        """Replaced as a whole; any thread may look."""

    def changed(self) -> bool:
        """Whether there is something new to take."""
        return self._files.changed()

    def reload(self) -> Certificates:
        """Takes what is in the files now. Raises ConfigurationError(TLS_UNUSABLE), and then `current` stays."""
        self._files.take()
        found = read(self._settings)
        now_s = time.time()
        if self.current.valid_at(now_s) and not found.valid_at(now_s):
            raise _unusable(
                self._settings.certificate,
                f"is valid only from {_day(found.not_before_s)} to {_day(found.expires_s)}; the present one is now",
                "tls.certificate",
            )
        self.current = found
        return found


def read(settings: Tls) -> Certificates:
    """What the files hold. Raises ConfigurationError(TLS_UNUSABLE) that names the file and what is wrong with it."""
    chain_pem = _bytes(settings.certificate, "tls.certificate")
    key_pem = _bytes(settings.key, "tls.key")
    chain = _certificates(settings.certificate, chain_pem, "tls.certificate")
    _fit(settings, chain[0], key_pem)
    client_ca = _bytes(settings.client_ca, "tls.client_ca") if settings.client_ca else None
    signers = _certificates(settings.client_ca, client_ca, "tls.client_ca") if client_ca is not None else []
    return Certificates(
        chain=chain_pem,
        key=key_pem,
        client_ca=client_ca,
        not_before_s=max(begin for begin, _end in map(_lifetime_s, chain)),
        expires_s=min(end for _begin, end in map(_lifetime_s, chain)),
        client_ca_expires_s=max((end for _begin, end in map(_lifetime_s, signers)), default=None),
        https=_https(settings) if settings.metrics else None,
    )


def _bytes(path: str, field: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise _unusable(path, error.strerror or str(error), field) from error


def _certificates(path: str, pem: bytes, field: str) -> list[x509.Certificate]:
    """At least one. What is read of them later is read here for the first time, because only that finds all damage."""
    try:
        with warnings.catch_warnings():
            # Old authorities have the number 0, which is to be refused one day; gRPC takes them.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            found = x509.load_pem_x509_certificates(pem)
            for one in found:
                _lifetime_s(one)
    except (ValueError, x509.InvalidVersion) as error:
        raise _unusable(path, "holds no certificates in PEM, or a broken one", field) from error
    return found


def _lifetime_s(certificate: x509.Certificate) -> tuple[float, float]:
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def _fit(settings: Tls, leaf: x509.Certificate, key_pem: bytes) -> None:
    """Raises unless this is the key of the certificate, and one that gRPC can use."""
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except TypeError as error:
        raise _unusable(settings.key, "is encrypted: nobody is there to type a password", "tls.key") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable(settings.key, "holds no private key in PEM", "tls.key") from error
    if not _usable(key):
        raise _unusable(settings.key, "is no key that gRPC can use: RSA, or the curves P-256 and P-384", "tls.key")
    shape = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        certified = leaf.public_key().public_bytes(*shape)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable(settings.certificate, "has a key of no known kind", "tls.certificate") from error
    if key.public_key().public_bytes(*shape) != certified:
        raise _unusable(settings.key, f"is not the key of the first certificate in {settings.certificate}", "tls.key")


def _usable(key: object) -> bool:
    """Others are taken by gRPC at the start and then fail every handshake, or the port (grpcio 1.85)."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    return isinstance(key, rsa.RSAPrivateKey)


def _https(settings: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except OSError as error:
        raise _unusable(settings.certificate, f"does not serve for metrics: {error}", "tls.certificate") from error
    return context


def _day(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _unusable(path: str, problem: str, field: str) -> ConfigurationError:
    return ConfigurationError("TLS_UNUSABLE", f"{path}: {problem}", hint=f"mend what {field} names", field=field)
