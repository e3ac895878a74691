"""What holds for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

NEED_PROMETHEUS = Path(__file__).parent / "prometheus"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Tests that need Prometheus itself run when they are asked for by name, and then fail where it is missing."""
    asked = any(Path(one.partition("::")[0]).resolve().is_relative_to(NEED_PROMETHEUS) for one in config.args)
    return True if collection_path == NEED_PROMETHEUS and not asked else None
