"""The series about permissions and about what is read again while the daemon runs."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from server.observe import CallDenied, Reloadable, Reloaded

DENIAL_REASONS = (
    "CERTIFICATE_UNKNOWN",
    "CONTROL_ONLY",
    "METHOD_UNLISTED",
    "ROLE_MISSING",
    "TOKEN_EXPIRED",
    "TOKEN_MALFORMED",
    "TOKEN_MISSING",
    "TOKEN_UNKNOWN",
)
"""Why callers are denied what they ask for; the README explains each."""


class SecuritySeries:
    """Denials by reason, and reloads by what was read and whether it could be used."""

    def __init__(self, registry: CollectorRegistry, reasons: Iterable[str] = DENIAL_REASONS) -> None:
        """Every series exists from now on, with 0; what was never read again counts as fine."""
        text = "Calls denied because of who made them, by reason."
        denials = Counter("trackd_calls_denied", text, ("reason",), registry=registry)
        self._denials = {reason: denials.labels(reason) for reason in reasons}
        text = "Attempts to take over changed settings, tokens or certificates, by whether they could be used."
        reloads = Counter("trackd_reloads", text, ("what", "result"), registry=registry)
        self._reloads = {
            (what, ok): reloads.labels(what.value, "ok" if ok else "failed")
            for what in Reloadable
            for ok in (True, False)
        }
        text = "1 if the last attempt to take them over succeeded (or none was made), 0 if what was before holds on."
        last = Gauge("trackd_last_reload_ok", text, ("what",), registry=registry)
        self._last_ok = {what: last.labels(what.value) for what in Reloadable}
        for series in self._last_ok.values():
            series.set(1)

    def denied(self, denial: CallDenied) -> None:
        """Counts it by reason."""
        self._denials[denial.reason].inc()

    def reloaded(self, reload: Reloaded) -> None:
        """Counts it, and keeps whether the last one of its kind succeeded."""
        self._reloads[reload.what, reload.ok].inc()
        self._last_ok[reload.what].set(reload.ok)
