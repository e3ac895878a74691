"""The settings: everything wrong is said at once, with its key and where it was written."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.config import Config, load
from server.errors import ConfigurationError

EXAMPLE = Path(__file__).parents[2] / "deploy" / "trackd.toml"


def write(directory: Path, text: str) -> Path:
    """A file of settings."""
    path = directory / "trackd.toml"
    path.write_text(text, "utf-8")
    return path


def problems(path: Path | None, overrides: dict[str, Any] | None = None) -> list[str]:
    """The lines of what is wrong."""
    with pytest.raises(ConfigurationError) as caught:
        load(path, overrides or {})
    assert caught.value.reason == "CONFIG_INVALID"
    assert "deploy/trackd.toml" in caught.value.hint
    return caught.value.message.splitlines()


def only_problem(path: Path | None, overrides: dict[str, Any] | None = None) -> str:
    """The one line of what is wrong."""
    (line,) = problems(path, overrides)
    return line


def test_without_file_and_options_the_defaults_hold() -> None:
    """The embedded default listens on loopback only and keeps its data beside the caller."""
    assert load(None, {}) == Config()
    assert load(None, {"listen.grpc": None, "data": None}) == Config()


def test_every_problem_is_said_at_once_with_file_and_key(tmp_path: Path) -> None:
    """One wrong key hides no other: sections, keys, kinds and values are all judged in one go."""
    path = write(
        tmp_path,
        """
        surprise = 1
        [limits]
        batch_events_max = "many"
        tags_maximum = 3
        oldest_month = "2025-13"
        tags_max = 0
        [query]
        readers = -1
        [listen]
        grpc = "nowhere"
        """,
    )
    assert [line.removeprefix(f"{path}: ").partition(": ")[0] for line in problems(path)] == [
        "surprise",
        "limits.batch_events_max",
        "limits.tags_maximum",
        "limits.tags_max",
        "query.readers",
        "limits.oldest_month",
        "listen.grpc",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[limit]\ntags_max = 1", "limit: no such section or key; known are data, listen, tls, access, limits,"),
        ("[query]\nreader = 1", "query.reader: no such key; known are readers, waiting_max, timeout_max_ms"),
        ("limits = 3", "limits: must be a table"),
        ("data = 3", "data: Expected `str`, got `int`"),
        ('data = ""', "data: must name a directory"),
        ("[query]\nreaders = true", "query.readers: Expected `int`, got `bool`"),
        ("[query]\nreaders = 1.5", "query.readers: Expected `int`, got `float`"),
        ('[ingest]\nallow_accepted = "yes"', "ingest.allow_accepted: Expected `bool`, got `str`"),
        ("[ingest]\nlinger_max_ms = nan", "ingest.linger_max_ms: must be at least 0, not nan"),
        ("[ingest]\nlinger_max_ms = inf", "ingest.linger_max_ms: must be at least 0, not inf"),
        ("[rotation]\nseal_after_days = -1", "rotation.seal_after_days: must be at least 0, not -1"),
        ("[retention]\nrows_per_second_max = -1", "retention.rows_per_second_max: must be at least 0, not -1"),
        ("[storage]\ndisk_free_bytes_min = -1", "storage.disk_free_bytes_min: must be at least 0, not -1"),
        ("[limits]\nbatch_bytes_max = 8_000_000", "limits.batch_bytes_max: must be at most 7340032 (7 MiB)"),
        (
            "[limits]\nqueue_events_max = 10",
            "limits.batch_events_max: must be at most limits.queue_events_max, which is 10",
        ),
        ("[limits]\nqueue_bytes_max = 99_999", "limits.batch_bytes_max: must be at most limits.queue_bytes_max"),
        (
            "[limits]\nmetadata_bytes_max = 5_000_000",
            "limits.metadata_bytes_max: must be at most limits.batch_bytes_max",
        ),
        ('[limits]\noldest_month = "January"', "limits.oldest_month: 'January' is not a month written YYYY-MM"),
        ('[tls]\ncertificate = "c"', "tls.key: is missing: certificate and key go together"),
        ('[tls]\nkey = "k"', "tls.certificate: is missing: certificate and key go together"),
        ('[tls]\nclient_ca = "c"', "tls.client_ca: needs tls.certificate and tls.key"),
        ("[tls]\nmetrics = true", "tls.metrics: needs tls.certificate and tls.key"),
        ('[access.client_roles]\na = ["read"]', "access.client_roles: needs tls.client_ca"),
        ('[access.client_roles]\na = ["root"]', "access.client_roles: Invalid enum value 'root'"),
        ("[access]\nclient_roles = 3", "access.client_roles: Expected `object`, got `int`"),
        ('[log]\nlevel = "loud"', "log.level: Invalid enum value 'loud'"),
        ('[listen]\nmetrics = "127.0.0.1:7077"', "listen.metrics: 127.0.0.1:7077 is taken by listen.grpc"),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(text: str, expected: str, tmp_path: Path) -> None:
    """Each problem is one line: where, which key, and what it takes."""
    path = write(tmp_path, text)
    assert only_problem(path).startswith(f"{path}: {expected}")


@pytest.mark.parametrize(
    "text", ["[ingest]\nlinger_max_ms = 0", "[limits]\nfuture_skew_max_ms = 0", "[storage]\ndisk_free_bytes_min = 0"]
)
def test_none_is_a_setting_where_it_makes_sense(text: str, tmp_path: Path) -> None:
    """No waiting, no clock skew and no reserve of disk can be wanted."""
    load(write(tmp_path, text), {})


TLS = {"tls.certificate": "c.pem", "tls.key": "k.pem"}
TOKENS = {"access.tokens": "tokens.json"}
BEYOND = ["0.0.0.0:7000", "[::]:7000", "192.168.1.7:7000", "db.example.org:7000"]


@pytest.mark.parametrize("address", BEYOND)
@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, ["tls.certificate and tls.key", "access.tokens"]),
        (TLS, ["access.tokens"]),
        (TOKENS, ["tls.certificate and tls.key"]),
        (TLS | TOKENS, []),
        (TLS | {"tls.client_ca": "ca.pem"}, ["access.tokens"]),
        (TLS | {"tls.client_ca": "ca.pem", "access.client_roles": {"svc": ["read"]}}, []),
        ({"listen.allow_insecure": True}, []),
    ],
)
def test_beyond_loopback_needs_tls_and_permissions_or_a_word_of_the_operator(
    given: dict[str, Any], missing: list[str], address: str
) -> None:
    """What is missing is named, and the flag that says it is meant."""
    overrides = given | {"listen.grpc": address}
    if not missing:
        assert load(None, overrides).listen.grpc == address
        return
    line = only_problem(None, overrides)
    assert line.startswith(f"command line: listen.grpc: {address} is not a loopback address")
    assert "--allow-insecure" in line
    assert [word for word in ("tls.certificate and tls.key", "access.tokens") if f"set {word}" in line] == missing
    assert only_problem(None, overrides | {"listen.allow_insecure_metrics": True}) == line


@pytest.mark.parametrize("address", BEYOND)
def test_metrics_beyond_loopback_need_https_or_a_word_of_the_operator(address: str) -> None:
    """They are no secret that needs a token, but nobody may change them on their way."""
    for overrides in ({}, TLS | TOKENS):
        line = only_problem(None, overrides | {"listen.metrics": address})
        assert line.startswith(f"command line: listen.metrics: {address} is not a loopback address")
        assert "set tls.metrics = true" in line
    for good in (
        TLS | {"tls.metrics": True},
        {"listen.allow_insecure": True},
        {"listen.allow_insecure_metrics": True},
    ):
        assert load(None, good | {"listen.metrics": address}).listen.metrics == address


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.8.8.8:7000", "[::1]:7000", "localhost:7000"])
def test_loopback_needs_no_word(address: str) -> None:
    """Every way to write this machine's own address will do."""
    assert load(None, {"listen.grpc": address}).listen.grpc == address


@pytest.mark.parametrize(
    "address", ["7077", ":7077", "localhost", "localhost:", "localhost:65536", "localhost:x", "::1:7077"]
)
def test_what_is_not_host_and_port_is_refused(address: str) -> None:
    """Also an IPv6 address without brackets, for nobody can tell where it ends."""
    assert f"{address!r} is not HOST:PORT" in only_problem(None, {"listen.grpc": address})


def test_a_name_without_roles_is_a_mistake(tmp_path: Path) -> None:
    """It would be let in and then be denied everything."""
    path = write(tmp_path, '[tls]\ncertificate = "c"\nkey = "k"\nclient_ca = "a"\n[access.client_roles]\n"svc" = []\n')
    assert only_problem(path).endswith("access.client_roles: 'svc' must be a name with at least one role")


def test_two_free_ports_do_not_clash() -> None:
    """Port 0 is a different port each time."""
    load(None, {"listen.grpc": "127.0.0.1:0", "listen.metrics": "127.0.0.1:0"})


def test_the_command_line_comes_before_the_file(tmp_path: Path) -> None:
    """It replaces single keys; those it does not name are left to the file, and None means not named."""
    path = write(tmp_path, 'data = "there"\n[listen]\ngrpc = "127.0.0.1:1"\nmetrics = "127.0.0.1:2"')
    config = load(path, {"data": "here", "listen.grpc": "127.0.0.1:3", "listen.metrics": None, "query.readers": 5})
    assert (config.data, config.listen.grpc, config.listen.metrics) == ("here", "127.0.0.1:3", "127.0.0.1:2")
    assert config.query.readers == 5


def test_a_problem_says_whether_file_or_command_line_caused_it(tmp_path: Path) -> None:
    """Each is corrected elsewhere."""
    path = write(tmp_path, "[query]\nreaders = 0\ntimeout_max_ms = 0")
    assert problems(path, {"query.readers": -1}) == [
        "command line: query.readers: must be at least 1, not -1",
        f"{path}: query.timeout_max_ms: must be at least 1, not 0",
    ]


def test_an_override_does_not_hide_that_its_section_is_no_table(tmp_path: Path) -> None:
    """The file is still at fault, and that is what is said."""
    path = write(tmp_path, "listen = 7077")
    assert only_problem(path, {"listen.grpc": "127.0.0.1:1"}) == f"{path}: listen: must be a table"


@pytest.mark.parametrize("content", [None, b"[listen", b"\xff"])
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    """Missing, not TOML or not UTF-8: the error has its name and what it should be."""
    path = tmp_path / "trackd.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=re.escape(str(path))) as caught:
        load(path, {})
    assert caught.value.reason == "CONFIG_UNREADABLE"


def test_the_example_explains_every_key_with_its_default(tmp_path: Path) -> None:
    """deploy/trackd.toml as it is changes nothing, and with its keys uncommented names all there are, as they are."""
    assert load(EXAMPLE, {}) == Config()
    text = EXAMPLE.read_text("utf-8")
    uncommented = re.sub(r"^# (?=\w+ = |\[\[)", "", text, flags=re.MULTILINE)
    assert load(write(tmp_path, uncommented), {}) == Config()
    assert keys(tomllib.loads(uncommented)) == keys(msgspec.to_builtins(Config()))


def keys(tree: dict[str, Any]) -> set[str]:
    """All keys, as section.key."""
    nested = {name: value if isinstance(value, dict) else {"": 0} for name, value in tree.items()}
    return {f"{name}.{key}".removesuffix(".") for name, section in nested.items() for key in section}
