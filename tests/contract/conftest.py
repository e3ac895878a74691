"""Stores to test: each test that asks for one runs once an engine, and the store is checked when it is over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.storage.contract import Reader, Store
from tests.support.homes import FOLDING_HOMES, HOMES, Home

QUESTIONS = ("test_aggregate", "test_count", "test_frozen", "test_list", "test_remove")
"""Modules (by the begin of their names) that run once more in each state of derived data."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Chooses the homes of each test."""
    if "home" in metafunc.fixturenames:
        about_questions = metafunc.module.__name__.rpartition(".")[2].startswith(QUESTIONS)
        metafunc.parametrize("home", HOMES + FOLDING_HOMES if about_questions else HOMES, indirect=True)


@pytest.fixture
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
