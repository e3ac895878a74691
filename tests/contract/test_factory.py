"""Opening a store by the name of its engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.config import Config, Limits
from server.errors import ConfigurationError
from server.storage.factory import ENGINES, open_store
from tests.support.events import append, make_event, only_item


@pytest.mark.parametrize("engine", ENGINES)
def test_each_engine_opens_by_name(engine: str, tmp_path: Path) -> None:
    """A store of each engine opens in the configured place, with the configured limit on months."""
    store = open_store(engine, Config(data=str(tmp_path / "data"), limits=Limits(months_max=1)))
    try:
        answer = append(store, make_event(1, "2025-11"), make_event(2, "2025-12"))
        assert only_item(answer).reason == "MONTH_LIMIT"
        assert list(store.check()) == []
    finally:
        store.close()


def test_an_unknown_engine_is_refused(tmp_path: Path) -> None:
    """Another name is a mistake of the operator; the error says which names there are."""
    with pytest.raises(ConfigurationError, match="memory, sqlite") as caught:
        open_store("oracle", Config(data=str(tmp_path)))
    assert caught.value.reason == "ENGINE_UNKNOWN"
