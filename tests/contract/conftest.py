"""Stores to test: each test that asks for one runs once an engine, and the store is checked when it is over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.storage.contract import Reader, Store
from tests.support.homes import HOMES, Home


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    """A place for a store of each engine."""
    yield from _home(request.param, tmp_path)


@pytest.fixture(params=[kind for kind in HOMES if kind.persists])
def lasting_home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    """A place for a store of each engine that persists."""
    yield from _home(request.param, tmp_path)


@pytest.fixture
def store(home: Home) -> Store:
    """An empty store of each engine."""
    return home.open()


@pytest.fixture
def reader(store: Store) -> Iterator[Reader]:
    """A reader of `store`."""
    reader = store.reader()
    yield reader
    reader.close()


def _home(kind: type[Home], path: Path) -> Iterator[Home]:
    place = kind(path / "data")
    yield place
    place.finish()
