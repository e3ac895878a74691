"""What people write on the command line: times, comparisons, formats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import trackd
import typer
import typer.main
from hypothesis import given
from hypothesis import strategies as st
from trackd import where

from server.cli import export
from server.cli.comparisons import one_of, parse_comparison, together
from server.cli.export import Format
from server.cli.main import app
from server.cli.moments import moment_of, parse_moment, show_moment

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2025, 11, 27, 12, 34, 56, 789_000, tzinfo=UTC)
"""A Thursday, 13:34 in Berlin."""


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025", "2025-01-01T00:00+01:00"),
        ("2025-07", "2025-07-01T00:00+02:00"),
        ("2025-11-24", "2025-11-24T00:00+01:00"),
        ("2025-11-24T18:30", "2025-11-24T18:30+01:00"),
        ("2025-11-24T18:30Z", "2025-11-24T18:30+00:00"),
        ("2025-11-24 18:30:05.25-03:00", "2025-11-24T18:30:05.25-03:00"),
        ("now", "2025-11-27T12:34:56.789+00:00"),
        ("today", "2025-11-27T00:00+01:00"),
        ("yesterday", "2025-11-26T00:00+01:00"),
        ("-0d", "2025-11-27T00:00+01:00"),
        ("33d", "2025-10-25T00:00+02:00"),
        ("-1w", "2025-11-17T00:00+01:00"),
        ("-0mo", "2025-11-01T00:00+01:00"),
        ("-11mo", "2024-12-01T00:00+01:00"),
        ("-1y", "2024-01-01T00:00+01:00"),
        ("-2h", "2025-11-27T11:00+01:00"),
        ("-10min", "2025-11-27T13:24+01:00"),
    ],
)
def test_times_are_read_by_the_clocks_of_the_zone(text: str, moment: str) -> None:
    """Absolute ones, and whole days, weeks, months before this one."""
    read_ms = parse_moment(text, BERLIN, NOW)
    assert moment_of(read_ms, UTC) == datetime.fromisoformat(moment)


@pytest.mark.parametrize(
    "text", ["", "soon", "tomorrow", "-3", "d", "-7D", "2025-13", "2025-02-30", "-9999y", "999999w"]
)
def test_what_is_no_time_is_wrong_usage(text: str) -> None:
    """With the forms that are."""
    with pytest.raises(typer.BadParameter, match="is no time; write 2025"):
        parse_moment(text, BERLIN, NOW)


def test_instants_beyond_the_calendar_are_shown_as_numbers() -> None:
    """Events can have such times."""
    assert show_moment(2**62) == str(2**62)
    assert show_moment(0, BERLIN) == "1970-01-01 01:00:00"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("type=pr_opened", where.is_("type", "pr_opened")),
        ("type=a, b,c", where.is_("type", "a", "b", "c")),
        ("user=", where.is_("user", "")),
        ('tag="a,b","say ""hi"""', where.is_("tag", "a,b", 'say "hi"')),
        ("type!=a,b", where.not_(where.is_("type", "a", "b"))),
        ("user^=team-", where.starts_with("user", "team-")),
        ("user!^=bot-,x", where.not_(where.starts_with("user", "bot-", "x"))),
        ("metadata:state?", where.present("metadata:state")),
        ("tag!?", where.not_(where.present("tag"))),
        ("metadata:a:b=c=d!^?", where.is_("metadata:a:b", "c=d!^?")),
        ('metadata:"a=b ""c""?"!=d', where.not_(where.is_('metadata:a=b "c"?', "d"))),
    ],
)
def test_a_comparison_means_what_it_says(text: str, meant: trackd.Predicate) -> None:
    """Sets, prefixes, presence, and the opposite of each."""
    assert parse_comparison(text) == meant


@pytest.mark.parametrize("text", ["", "type", "=a", "type==", "tag?x", "type!a", 'type="a', 'type="a"b', "type=a\nb"])
def test_what_is_no_comparison_is_wrong_usage(text: str) -> None:
    """Never a comparison with something else than was meant; == is a comparison with "="."""
    if text == "type==":
        assert parse_comparison(text) == where.is_("type", "=")
        return
    with pytest.raises(typer.BadParameter):
        parse_comparison(text)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0")), min_size=1, max_size=4))
def test_any_values_can_be_written_in_quotes(values: list[str]) -> None:
    """As in CSV."""
    quoted = ",".join('"' + value.replace('"', '""') + '"' for value in values)
    assert parse_comparison(f"user={quoted}") == where.is_("user", *values)


def test_options_and_comparisons_hold_together() -> None:
    """One alone is the filter, several are joined, none is no filter."""
    parts: Sequence[trackd.Predicate] = [*one_of("type", ["a", "b"]), *one_of("user", None)]
    assert together(parts) == where.is_("type", "a", "b")
    assert together([*parts, *parts]) == where.all_(*parts, *parts)
    assert together([]) is None


@pytest.mark.parametrize(
    ("given_format", "name", "as_json", "meant"),
    [
        (None, None, False, Format.TABLE),
        (None, None, True, Format.JSON),
        (Format.CSV, None, False, Format.CSV),
        (None, "a.CSV", False, Format.CSV),
        (None, "a.jsonl", False, Format.JSON),
        (None, "a.parquet", False, Format.PARQUET),
        (Format.JSON, "a.txt", False, Format.JSON),
        (Format.CSV, None, True, None),
        (None, "a.txt", False, None),
        (Format.TABLE, "a.csv", False, None),
    ],
)
def test_the_format_is_the_one_that_is_said_or_that_the_file_is_called(
    given_format: Format | None, name: str | None, as_json: bool, meant: Format | None
) -> None:
    """Options that contradict each other are wrong usage; a table goes to the terminal only."""
    output = None if name is None else Path(name)
    if meant is None:
        with pytest.raises(typer.BadParameter):
            export.chosen(given_format, output, as_json=as_json)
    else:
        assert export.chosen(given_format, output, as_json=as_json) is meant


def test_without_pyarrow_parquet_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is asked."""
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(typer.BadParameter, match=r"trackd\[parquet\]"):
        export.chosen(Format.PARQUET, Path("a"), as_json=False)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """What was there before stays when the answer breaks off, and nothing else is left."""
    output = tmp_path / "a.json"
    output.write_text("before")

    def breaking() -> Iterator[str]:
        yield "one"
        raise trackd.Unreachable("gone")

    with pytest.raises(trackd.Unreachable):
        export.write_lines(output, breaking())
    assert output.read_text() == "before"
    export.write_lines(output, ["one", "two"])
    assert output.read_text() == "one\ntwo\n"
    assert list(tmp_path.iterdir()) == [output]
    with pytest.raises(typer.BadParameter, match="No such file"):
        export.write_lines(tmp_path / "no" / "a.json", [])


def commands(group: Any, *names: str) -> Iterator[tuple[str, Any]]:
    """Every command with all its words, and those of its groups."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *names, name)
        else:
            yield " ".join((*names, name)), command


def test_every_command_that_talks_to_a_daemon_can_do_so_over_tls_and_with_a_token() -> None:
    """Whatever has --target, and the one that names a daemon in another way; nobody else offers it for nothing."""
    options = {
        name: {word for parameter in command.params for word in parameter.opts}
        for name, command in commands(typer.main.get_command(app))
    }
    talking = {name for name, known in options.items() if "--target" in known} | {"retention lint"}
    assert len(talking) > 8
    assert {name for name, known in options.items() if "--token-file" in known} == talking
    for name in talking:
        assert options[name] >= {"--ca", "--cert", "--key", "--tls"}, name
