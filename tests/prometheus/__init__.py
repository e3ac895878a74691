"""What only Prometheus itself can say: `pytest tests/prometheus`, with Debian's package prometheus installed."""
