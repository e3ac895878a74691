"""Every client can be given TLS and a token, and is told apart from one that has none."""

from __future__ import annotations

from pathlib import Path

import pytest
import trackd

from server.model import Role
from tests.conformance.driver import commands, driving
from tests.support.access import make_keyring
from tests.support.certificates import make_files
from tests.support.serving import serving

COMMANDS = commands()
EVENT = {"type": "one"}


@pytest.mark.parametrize("language", COMMANDS)
def test_a_client_speaks_tls_and_carries_its_token(
    language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over single calls and streams; with the wrong token it is refused by name."""
    files, keyring = make_files(tmp_path / "tls"), make_keyring(tmp_path)
    with serving(tmp_path, *files.options(), *keyring.options()) as daemon:
        monkeypatch.setenv("TRACKD_CA", str(files.ca))
        monkeypatch.setenv("TRACKD_TOKEN", keyring.texts[Role.INGEST])
        with driving(COMMANDS[language], daemon.target, tmp_path) as driver:
            appended = driver.ask({"cmd": "append", "source": "tests", "events": [EVENT]})
            assert appended["result"]["accepted"] == 1
            driver.ask({"cmd": "open", "source": "tests", "batch_events": 2, "window_batches": 2})
            driver.ask({"cmd": "send", "events": [EVENT] * 5})
            assert driver.ask({"cmd": "close"})["totals"]["accepted"] == 5
        monkeypatch.setenv("TRACKD_TOKEN", keyring.texts[Role.READ])
        with driving(COMMANDS[language], daemon.target, tmp_path) as driver:
            driver.send({"cmd": "append", "source": "tests", "events": [EVENT]})
            error = driver.answer()["error"]
            assert (error["code"], error["reason"], error["retryable"]) == ("PERMISSION_DENIED", "ROLE_MISSING", False)
        with trackd.Client(daemon.target) as reader:
            assert reader.count_events().events == 6
