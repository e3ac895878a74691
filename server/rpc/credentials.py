"""TLS of the gRPC listener: certificates that can be replaced while connections come in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from server.security.certificates import CertificateFiles, Certificates


def credentials(files: CertificateFiles) -> grpc.ServerCredentials:
    """Credentials that serve `files.current`, whatever that is when a connection begins.

    gRPC asks before each handshake, on threads of its own; open connections keep what they began with. Whether clients
    need a certificate is decided here for good.
    """
    given = files.current

    def changed() -> grpc.ServerCertificateConfiguration | None:
        """Cheap, and never raises: a handshake waits for it. None: the same as last time."""
        nonlocal given
        current = files.current
        if current is given:
            return None
        given = current
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(given),
        changed,  # type: ignore[arg-type]  # types-grpcio leaves out that None is an answer
        given.client_ca is not None,
    )


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(certificates.key, certificates.chain)], root_certificates=certificates.client_ca
    )
