"""What archives need beyond the daemon's own dependencies."""

from __future__ import annotations

from importlib.util import find_spec

from server.errors import ConfigurationError


def require(*modules: str) -> None:
    """Raises ConfigurationError(EXTRA_MISSING) if one of the modules is not installed."""
    for module in modules or ("pyarrow",):
        if find_spec(module) is None:
            raise ConfigurationError(
                "EXTRA_MISSING",
                f"archives need {module}, which is not installed",
                hint="pip install 'trackd[archive]'",
            )
