"""What holds for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

WHEN_NAMED = tuple(Path(__file__).parent / name for name in ("prometheus", "deployment"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Tests that need other programs run when they are asked for by name, and then fail where these are missing."""
    asked = [Path(one.partition("::")[0]).resolve() for one in config.args]
    return (
        True
        if collection_path in WHEN_NAMED and not any(one.is_relative_to(collection_path) for one in asked)
        else None
    )
