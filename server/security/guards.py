"""What the settings name to keep strangers out: tokens and certificates, as they are in their files now."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from server.config import Config
from server.security import tokens
from server.security.access import Access
from server.security.watched_files import WatchedFiles, exposed

if TYPE_CHECKING:
    from server.security.certificates import CertificateFiles

log = structlog.get_logger(__name__)


class Guards:
    """Tokens and certificates. Nothing here looks at files by itself: see server/reload.py."""

    def __init__(self, config: Config) -> None:
        """Raises ConfigurationError (TLS_UNUSABLE, TOKENS_UNUSABLE) for files that cannot be used."""
        self.certificates = _certificates(config) if config.tls.certificate else None
        if self.certificates and not self.certificates.current.valid_at(time.time()):
            log.error("certificate_expired", file=config.tls.certificate)
        self._tokens = Path(config.access.tokens) if config.access.tokens else None
        self._tokens_watch = WatchedFiles([self._tokens] if self._tokens else [])
        self.access = Access(tokens.read(self._tokens) if self._tokens else None, config.access.client_roles)
        self._key = Path(config.tls.key) if config.tls.key else None
        self.warn_of_exposed_files()

    @property
    def has_tokens(self) -> bool:
        """Whether there is a file of tokens at all."""
        return self._tokens is not None

    def tokens_changed(self) -> bool:
        """Whether the file of tokens is another than the one in use."""
        return self._tokens_watch.changed()

    def reload_tokens(self) -> None:
        """From now on what is in the file counts. Raises ConfigurationError, and then all stays as it was."""
        if self._tokens:
            self._tokens_watch.take()
            self.access.replace_tokens(tokens.read(self._tokens))

    def warn_of_exposed_files(self) -> None:
        """A line for each file with a secret, or with hashes of some, that everybody on this machine may read."""
        for path in filter(None, (self._tokens, self._key)):
            if exposed(path):
                log.warning("file_readable_by_everybody", file=str(path), hint=f"chmod o-r {path}")

    # For gauges, on any thread.

    def certificate_start_s(self) -> float:
        """From when on the certificate is valid, in seconds since 1970; NaN without TLS."""
        return self.certificates.current.not_before_s if self.certificates else math.nan

    def certificate_expiry_s(self) -> float:
        """When the certificate expires, in seconds since 1970; NaN without TLS."""
        return self.certificates.current.expires_s if self.certificates else math.nan

    def client_ca_expiry_s(self) -> float:
        """When the last one expires that signs for clients; NaN if they need no certificate."""
        found = self.certificates.current.client_ca_expires_s if self.certificates else None
        return math.nan if found is None else found

    def token_expiry_s(self) -> float:
        """Access.next_expiry_ms, in seconds; NaN for none."""
        next_ms = self.access.next_expiry_ms()
        return math.nan if next_ms is None else next_ms / 1000


def _certificates(config: Config) -> CertificateFiles:
    # The library behind it takes a tenth of a second to import, which a restart without TLS need not wait for.
    from server.security.certificates import CertificateFiles

    return CertificateFiles(config.tls)
