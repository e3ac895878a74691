"""What README.md says is true: its blocks run, its tables are those of the code, its links lead somewhere."""

from __future__ import annotations

import re
import runpy
import shutil
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import pytest
import typer.main
from prometheus_client.parser import text_string_to_metric_families

from server.cli.main import app
from server.metrics.observer import REFUSAL_REASONS, REJECTION_REASONS
from server.metrics.security import DENIAL_REASONS
from tests.support import readme
from tests.support.readme import Block, Follower
from tests.support.serving import assert_sound

TEXT = readme.README.read_text("utf-8")
CLIENT = readme.ROOT / "clients" / "python" / "README.md"
CI = runpy.run_path(str(readme.ROOT / ".ci" / "readme.py"))
NOT_STATUSES = {"start", "bench", "slo", "token"}
"""Errors that end a command before there is anybody to send a status to."""
ALL_OF_IT_S = 300
"""Some fifty commands, one after the other: a quarter of it on a quiet machine."""
BUF = shutil.which("buf", path=readme.search_path())


def section(heading: str) -> str:
    """What stands below `## heading`."""
    text: str = CI["section"](TEXT, heading)
    return text


def to_run(text: str, *, buf: bool) -> list[Block]:
    """The blocks of a README but for the two commands that set things up, and those of buf only if asked for.

    Those that need a Redis are run by tests/redis.
    """
    set_up = CI["set_up_commands"](text)
    found = [block for block in readme.blocks(text) if block.text.strip() not in set_up]
    found = [block for block in found if not block.text.startswith("redis-cli ")]
    return [block for block in found if buf or not block.text.startswith("buf ")]


def follow(directory: Path, blocks: Iterable[Block]) -> None:
    """Does it all. The daemon must end well, its data must be sound, and its metrics those of the table."""
    with Follower(directory) as reader:
        for block in blocks:
            reader.follow(block)
        with urllib.request.urlopen(f"http://{reader.metrics}/metrics", timeout=10) as answer:
            scraped = {family.name for family in text_string_to_metric_families(answer.read().decode())}
        documented = {readme.code_spans(row[0])[0] for row in readme.tables(section("Metrics"))}
        assert {re.sub("_total$", "", name) for name in documented} == scraped
    for data in directory.glob("*-data"):
        assert_sound(data)


@pytest.mark.timeout(ALL_OF_IT_S)
def test_every_block_of_the_readme_runs_and_shows_what_came_out(tmp_path: Path) -> None:
    """In their order, against one daemon. All but those that need buf."""
    follow(tmp_path, to_run(TEXT, buf=False))


@pytest.mark.timeout(ALL_OF_IT_S)
@pytest.mark.skipif(not BUF, reason="buf (of the extra dev) is not on the PATH: its blocks of the README were not run")
def test_they_run_with_those_that_need_buf_and_for_a_reader_whose_ports_are_taken(tmp_path: Path) -> None:
    """Over reflection, between the others; what those show does not depend on them."""
    assert len(to_run(TEXT, buf=True)) > len(to_run(TEXT, buf=False))
    with readme.ports_taken():
        follow(tmp_path, to_run(TEXT, buf=True))


def test_the_readme_of_the_client_library_runs(tmp_path: Path) -> None:
    """Its blocks, against a daemon as the main README starts it."""
    blocks = to_run(CLIENT.read_text("utf-8"), buf=False)
    assert len(blocks) > 1
    start = next(block for block in to_run(TEXT, buf=False) if block.text.startswith("trackd serve"))
    follow(tmp_path, [start, *blocks])


def test_the_quickstart_is_run_in_every_language_it_has() -> None:
    """Blocks are found, shown outputs belong to them, and no block is in a language that nobody runs."""
    found = to_run(TEXT, buf=True)
    assert {block.language for block in found} == {"python", "sh"}
    assert sum(block.output is not None for block in found) >= 8
    assert sum(block.text.startswith("trackd serve") for block in found) == 3
    assert len(readme.blocks(TEXT)) == len(found) + 3


@pytest.mark.parametrize(
    ("language", "text", "output", "complaint"),
    [
        ("python", "import trackd\ntrackd.nothing", None, "nothing"),
        ("python", "print(1)", ("text", "2\n"), "shows\n2\n"),
        ("python", "print(1)\nprint(2)", ("text", "1\n"), "came out\n1\n2\n"),
        ("sh", "false\ntrue", None, "code 1"),
        ("sh", "echo 1", ("text", "...2\n"), "shows"),
        ("sh", "echo '{\"a\": 1}'", ("json", '{"a": 2}'), "shows"),
        ("sh", 'echo \'{"a": 1, "b": 2}\'', ("json", '{"a": 1}'), "shows"),
        ("sh", "trackd health --target 127.0.0.1:1", None, "code 2"),
        ("sh", "trackd serve --log-level loud", None, "loud"),
        ("ruby", "puts 1", None, "nobody knows"),
    ],
)
def test_a_block_that_is_wrong_is_found(
    tmp_path: Path, language: str, text: str, output: tuple[str, str] | None, complaint: str
) -> None:
    """Code that fails, a command that fails, and an output that is not what is shown."""
    with Follower(tmp_path) as reader, pytest.raises((AssertionError, AttributeError), match=re.escape(complaint)):
        reader.follow(Block(language, text, 1, output))


def test_blocks_share_names_and_may_leave_out_what_is_never_the_same(tmp_path: Path) -> None:
    """A later block knows the names of an earlier one; "..." stands for anything in an output."""
    text = "```python\na = [1]\n```\n\n```python\nprint(a, id(a))\n```\n\n```text\n[1] ...\n```\n"
    text += '```sh\necho \'{"a": [1, 2], "b": 3}\'\n```\n\n```json\n{"a": [1, "..."], "b": "..."}\n```\n'
    blocks = readme.blocks(text)
    assert [block.line for block in blocks] == [2, 6, 13]
    with Follower(tmp_path) as reader:
        for block in blocks:
            reader.follow(block)


def test_every_reason_is_explained() -> None:
    """The table has the reasons in server/, all of them and no other, each with the statuses it is given with."""
    documented: dict[str, set[str]] = {}
    for reasons, statuses, advice in readme.tables(section("Errors")):
        assert advice
        for reason in readme.code_spans(reasons):
            assert reason not in documented, f"{reason} is explained twice"
            documented[reason] = set(readme.code_spans(statuses))
    given = readme.reasons_of_the_daemon()
    assert documented.keys() == given.keys()
    assert set(REJECTION_REASONS) | set(REFUSAL_REASONS) | set(DENIAL_REASONS) <= given.keys()
    missing = {
        reason: given[reason] - statuses
        for reason, statuses in documented.items()
        if not (statuses & NOT_STATUSES or given[reason] <= statuses)
    }
    assert missing == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('raise Invalid("A_B", "text", hint="no")', {"A_B": {"INVALID_ARGUMENT"}}),
        ('raise errors.NotFound("A_B", "text")', {"A_B": {"NOT_FOUND"}}),
        ('raise Corrupt("A" if one else "B", "text")', {"A": {"INTERNAL"}, "B": {"INTERNAL"}}),
        ('return Fault("A_B", "text", "field")', {"A_B": {"rejected"}}),
        ('Item(0, Outcome.REJECTED, "A_B")\nInvalid("A_B", "")', {"A_B": {"rejected", "INVALID_ARGUMENT"}}),
        ('Item(0, reason="A_B")', {"A_B": {"rejected"}}),
        ('BatchRefused(reason="A_B", events=1)', {"A_B": set()}),
        ('return "A_B", f"the text"', {"A_B": {"rejected"}}),
        ('reason, message = "A_B", "the text"', {"A_B": {"rejected"}}),
        ('NAMES = ("A_B", "C_D")', {}),
        ('NAMES = ("A_B", some.thing)', {}),
        ('log.info("A_B")\nprint("COMMIT")', {}),
    ],
)
def test_reasons_are_found_in_every_form_they_are_given_in(source: str, found: dict[str, set[str]]) -> None:
    """And texts in capitals that are no reasons are not."""
    assert readme.reasons(source) == found


def test_the_table_of_metrics_is_the_registry() -> None:
    """Row by row; `python -m tests.support.readme` writes it anew."""
    rows = [line for line in section("Metrics").splitlines() if line.startswith("| `")]
    assert rows == readme.registered_metrics()


def test_every_option_of_serve_is_explained() -> None:
    """The table under Operations has them all and no other."""
    serve = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    options = {name for option in serve.params for name in option.opts if name.startswith("--")}
    rows = [readme.code_spans(row[0])[0].split()[0] for row in readme.tables(section("Operations")) if "--" in row[0]]
    assert sorted(rows) == sorted(options)


def test_links_and_paths_lead_somewhere() -> None:
    """Every link to a file or a heading of the README, and every path of the table under Hacking."""
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in TEXT.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        known = target[1:] in headings if target.startswith("#") else (readme.ROOT / target).exists()
        assert known, f"README.md: nothing is at {target}"
    tree = readme.tables(section("Hacking").partition("| pattern |")[0])
    for path in (path for row in tree for path in readme.code_spans(row[0])):
        assert (readme.ROOT / path).exists(), f"README.md: there is no {path}"


def test_every_setting_that_is_named_exists() -> None:
    """What the README tells operators to raise or allow is a key of deploy/trackd.toml."""
    settings = (readme.ROOT / "deploy" / "trackd.toml").read_text("utf-8")
    named = re.findall(
        r"`(?:limits|ingest|storage|query|subscribe|doors|listen|tls|access|log|rotation|retention)\.(\w+)`", TEXT
    )
    assert named
    for key in named:
        assert re.search(rf"^# {key} = ", settings, re.MULTILINE), f"README.md: there is no setting {key}"
