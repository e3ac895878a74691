"""Files of a newer format than this trackd knows: it refuses to start and changes nothing (deploy/UPGRADING.md)."""

from __future__ import annotations

import hashlib
import re
import shutil
import textwrap
import time
from pathlib import Path

import apsw
import pytest
import trackd

from server.storage.sqlite.schema import FORMAT_VERSION
from tests.e2e.conftest import DaemonProcess, run
from tests.support.serving import serving

EVENTS = 30
INDEXED_S = 20.0


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two months with their indexes, not in use; to be copied."""
    directory = tmp_path_factory.mktemp("filled")
    day_ms = 86_400_000
    events = [trackd.new_event("t", timestamp_ms=1_764_000_000_000 + n * day_ms) for n in range(EVENTS)]
    with serving(directory) as daemon, trackd.Client(daemon.target) as client:
        client.append(events, source="tests")
        until_s = time.monotonic() + INDEXED_S
        while len(list(daemon.data.rglob("index-*.db"))) < 2:
            assert time.monotonic() < until_s
            time.sleep(0.02)
    return daemon.data


def file_of(data: Path, name: str) -> Path:
    """The first of this name."""
    return min(data.rglob(name))


def set_format(file: Path, version: int) -> None:
    """As if a trackd of this format had written it."""
    connection = apsw.Connection(str(file))
    connection.execute("UPDATE about SET value = ? WHERE key = 'format_version'", (version,))
    connection.close()


def digests(data: Path) -> dict[str, str]:
    """Of all files of months."""
    return {
        str(path.relative_to(data)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((data / "months").rglob("*.db"))
    }


def count(daemon: DaemonProcess) -> int:
    """Events that it answers with."""
    with trackd.Client(daemon.target) as client:
        return client.count_events(by=["type"]).events


@pytest.mark.parametrize("name", ["catalog.db", "events.db"])
def test_a_newer_format_is_refused_and_left_alone(name: str, filled: Path, tmp_path: Path) -> None:
    """By name, with what to do and with the exit code that no supervisor restarts; the newer one goes on after it."""
    data = tmp_path / "data"
    shutil.copytree(filled, data)
    file = file_of(data, name)
    set_format(file, FORMAT_VERSION + 1)
    before = digests(data)
    refused = run("serve", "--data", str(data), "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
    assert refused.returncode == 2, refused.stderr
    assert "FORMAT_TOO_NEW" in refused.stderr
    assert "run the trackd that wrote it, or a newer one" in refused.stderr
    assert digests(data) == before
    checked = run("check", str(data))
    assert checked.returncode == 1
    assert "format version" in checked.stdout + checked.stderr
    set_format(file, FORMAT_VERSION)
    with serving(tmp_path) as daemon:
        assert count(daemon) == EVENTS


def test_an_index_of_a_newer_format_is_made_anew(filled: Path, tmp_path: Path) -> None:
    """It is derived: after going back to an older trackd nothing is missing."""
    data = tmp_path / "data"
    shutil.copytree(filled, data)
    set_format(file_of(data, "index-*.db"), FORMAT_VERSION + 1)
    with serving(tmp_path) as daemon:
        assert count(daemon) == EVENTS


def test_the_way_back_brings_everything_along(filled: Path, tmp_path: Path) -> None:
    """The program of deploy/UPGRADING.md, as it stands there: each event once, with its id."""
    text = (Path(__file__).parents[2] / "deploy" / "UPGRADING.md").read_text("utf-8")
    (program,) = re.findall(r"^ *```python\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "newer").mkdir()
    shutil.copytree(filled, tmp_path / "newer" / "data")
    with serving(tmp_path / "newer") as newer, serving(tmp_path) as older:
        with trackd.Client(older.target) as client, trackd.Client(newer.target) as source:
            events = [one.event for one in source.list_events()]
            client.append(events[:10], source="tests")
            addressed = program.replace("127.0.0.1:7077", newer.target).replace("127.0.0.1:7078", older.target)
            exec(textwrap.dedent(addressed), {})  # noqa: S102  # our own
            moved = {bytes(one.event.id): one.event for one in client.list_events()}
        assert moved == {bytes(one.id): one for one in events}
