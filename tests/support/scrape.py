"""What a daemon exports, as numbers."""

from __future__ import annotations

import ssl
import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def scrape(address: str, *, context: ssl.SSLContext | None = None) -> dict[str, float]:
    """Every sample of /metrics: its name with its labels, as Prometheus writes it, and its value."""
    scheme = "https" if context else "http"
    # Either scheme is one that the caller chose.
    with urllib.request.urlopen(  # noqa: S310
        f"{scheme}://{address}/metrics", timeout=10, context=context
    ) as answer:
        text = answer.read().decode()
    return {
        sample.name + "".join(f"[{key}={value}]" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
