"""Reading again while the daemon runs: what is taken over, what waits for a restart, what changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from server import reload
from server.config import Access, Config, Ingest, Limits, Listen, Log, Query, Tls
from server.errors import ConfigurationError
from server.model import Role
from server.observe import Observer, Reloadable, Reloaded
from server.reload import LIVE, Reloader, differences, with_keys
from server.security import guards
from server.security.guards import Guards
from tests.support.access import Keyring, make_keyring, with_token
from tests.support.certificates import make_files

EXAMPLE = Path(__file__).parents[2] / "deploy" / "trackd.toml"
README = Path(__file__).parents[2] / "README.md"


class Bench(Observer):
    """A reloader with everything around it that it speaks to."""

    def __init__(self, config: Config) -> None:
        self.wanted: Config | ConfigurationError = config
        self.applied: list[Config] = []
        self.withdrawals = 0
        self.told: list[tuple[Reloadable, bool]] = []
        self.guards = Guards(config)
        self.reloader = Reloader(
            config, self._read, self.guards, self, apply=self.applied.append, withdraw=self._withdraw
        )

    def _read(self) -> Config:
        if isinstance(self.wanted, ConfigurationError):
            raise self.wanted
        return self.wanted

    def _withdraw(self) -> None:
        self.withdrawals += 1

    def reloaded(self, reload: Reloaded) -> None:
        """Notes it."""
        self.told.append((reload.what, reload.ok))


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What is logged."""
    logged: list[tuple[str, dict[str, Any]]] = []

    class Log:
        @staticmethod
        def info(event: str, **words: Any) -> None:
            logged.append((event, words))

        warning = error = exception = info

    monkeypatch.setattr(reload, "log", Log)
    return logged


def test_live_keys_exist_and_are_those_of_the_documents() -> None:
    """A key that is renamed must not fall out of the list unseen."""
    known = {
        f"{name}.{key}"
        for name, section in msgspec.to_builtins(Config()).items()
        if isinstance(section, dict)
        for key in section
    }
    assert known >= LIVE
    intro = EXAMPLE.read_text("utf-8").partition("SIGHUP reads this file again.")[2].partition(";")[0]
    assert {word.strip("#,\n ") for word in intro.split() if "." in word} == LIVE


def test_live_keys_are_taken_over_and_others_named(lines: list[tuple[str, dict[str, Any]]]) -> None:
    """Those that need a restart stay as they are, also for whoever gets the new settings."""
    bench = Bench(Config())
    bench.wanted = Config(
        data="elsewhere",
        listen=Listen(grpc="127.0.0.1:1"),
        limits=Limits(types_max=7, tags_max=3),
        ingest=Ingest(allow_accepted=True),
        log=Log(level="debug"),
    )
    bench.reloader.everything()
    (applied,) = bench.applied
    assert applied == Config(limits=Limits(types_max=7), ingest=Ingest(allow_accepted=True), log=Log(level="debug"))
    assert bench.told == [(Reloadable.SETTINGS, True)]
    told = dict(lines)
    assert told["settings_changed"] == {"keys": ["ingest.allow_accepted", "limits.types_max", "log.level"]}
    assert told["settings_need_restart"] == {"keys": ["data", "limits.tags_max", "listen.grpc"]}
    lines.clear()
    bench.reloader.everything()
    assert [event for event, _words in lines] == ["settings_need_restart", "reloaded"]


def test_settings_that_cannot_be_read_change_nothing(lines: list[tuple[str, dict[str, Any]]]) -> None:
    """Not even those keys that are right; the log has every problem."""
    bench = Bench(Config())
    bench.wanted = ConfigurationError("CONFIG_INVALID", "trackd.toml: a: wrong\ntrackd.toml: b: wrong")
    bench.reloader.everything()
    assert (bench.applied, bench.told) == ([], [(Reloadable.SETTINGS, False)])
    ((event, words),) = lines
    assert (event, words["reason"]) == ("reload_failed", "CONFIG_INVALID")
    assert "b: wrong" in words["problem"]


def test_live_keys_must_fit_those_that_wait_for_a_restart(lines: list[tuple[str, dict[str, Any]]]) -> None:
    """A queue that is smaller than one batch of today would never take any."""
    bench = Bench(Config())
    bench.wanted = Config(limits=Limits(batch_events_max=10, queue_events_max=10))
    bench.reloader.everything()
    assert (bench.applied, bench.told) == ([], [(Reloadable.SETTINGS, False)])
    assert "limits.batch_events_max" in lines[0][1]["problem"]


def test_a_signal_reads_tokens_even_if_the_settings_are_wrong(tmp_path: Path) -> None:
    """Revoking must not wait for somebody to mend a file."""
    keyring = make_keyring(tmp_path)
    bench = Bench(Config(access=Access(tokens=str(keyring.path))))
    bench.wanted = ConfigurationError("CONFIG_INVALID", "wrong")
    later = keyring.new(Role.READ)
    bench.reloader.everything()
    assert bench.told == [(Reloadable.SETTINGS, False), (Reloadable.TOKENS, True)]
    assert bench.withdrawals > 0
    assert admitted(bench, later)


def test_files_that_everybody_may_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start and at the signal; the tokens in them count all the same, or revoking would not."""
    named: list[str] = []

    class Log:
        @staticmethod
        def warning(event: str, *, file: str, hint: str) -> None:
            assert (event, hint) == ("file_readable_by_everybody", f"chmod o-r {file}")
            named.append(file)

    monkeypatch.setattr(guards, "log", Log)
    keyring, files = make_keyring(tmp_path), make_files(tmp_path)
    files.key.chmod(0o640)
    config = Config(
        access=Access(tokens=str(keyring.path)), tls=Tls(certificate=str(files.certificate), key=str(files.key))
    )
    bench = Bench(config)
    assert named == []
    for path in (keyring.path, files.key):
        path.chmod(0o644)
    bench.reloader.everything()
    assert named == [str(keyring.path), str(files.key)]
    assert admitted(bench, keyring.texts[Role.READ])
    Bench(config)
    assert len(named) == 4


def test_a_defect_in_reading_ends_nothing(
    lines: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever it raises is logged and counted, and looking goes on."""
    bench = Bench(Config(access=Access(tokens=str(make_keyring(tmp_path).path))))

    def broken() -> None:
        raise RuntimeError("not thought of")

    monkeypatch.setattr(bench.guards, "reload_tokens", broken)
    bench.reloader.everything()
    assert bench.told == [(Reloadable.SETTINGS, True), (Reloadable.TOKENS, False)]
    assert ("reload_failed", {"what": "tokens"}) in lines


def test_looking_takes_changed_files_once(tmp_path: Path) -> None:
    """Unchanged files cost a look; a bad one fails once and not at every look."""
    keyring: Keyring = make_keyring(tmp_path)
    bench = Bench(Config(access=Access(tokens=str(keyring.path))))
    for _ in range(5):
        bench.reloader.look()
    assert bench.told == []
    keyring.path.write_bytes(b"{")
    for _ in range(5):
        bench.reloader.look()
    assert bench.told == [(Reloadable.TOKENS, False)]
    assert admitted(bench, keyring.texts[Role.READ])


def admitted(bench: Bench, token: str) -> bool:
    """Whether a token is known."""
    ((_key, value),) = with_token(token)
    return bench.guards.access.admit_token(frozenset(Role), [value], 0).who != ""


def test_differences_are_named_by_key() -> None:
    """And taking them over one by one makes one of the other."""
    one, other = Config(), Config(data="x", query=Query(readers=5, timeout_max_ms=1), log=Log(level="error"))
    found = set(differences(one, other))
    assert found == {"data", "query.readers", "query.timeout_max_ms", "log.level"}
    assert set(differences(with_keys(one, other, found - {"data"}), other)) == {"data"}
