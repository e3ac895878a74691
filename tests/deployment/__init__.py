"""What only other tools can say about deploy/: `pytest tests/deployment`, with the extra `deploy`, systemd and Go."""
