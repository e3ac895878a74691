"""`trackd retention lint`, `record` and `schema`: what a policy file says, and what is wrong with it."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import orjson
import typer

from retention.policy import Policy
from retention.policy_file import PolicyProblems, Problem, parse
from retention.policy_rules import type_problems
from retention.policy_schema import schema
from retention.processing_record import markdown, record
from server.cli.importing.lines import LineReader, Unreadable
from server.cli.terminal import complain, connected, harmless, print_json, say, talks_to_a_daemon

EXIT_PROBLEMS = 1
EXIT_UNREADABLE = 2
EXIT_CODES = "Exit codes: 0 the policy is sound, 1 it has problems, 2 it cannot be read (or wrong usage)."

File = Annotated[Path, typer.Argument(metavar="FILE", help="The policy, in TOML; deploy/retention.toml is an example.")]


class Format(StrEnum):
    """How the record is printed."""

    MD = "md"
    JSON = "json"


@talks_to_a_daemon
def lint(
    file: File,
    types_from: Annotated[
        str | None,
        typer.Option(
            "--types-from",
            metavar="HOST:PORT|FILE",
            help="Check that each of these types has a class: those of a daemon, or of a file with one a line "
            "(names, or JSON objects with `name` or `type`, also gzip).",
        ),
    ] = None,
    closed_registry: Annotated[
        bool,
        typer.Option("--closed-registry", help="No types but registered ones come, so none has to have a class of *."),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help='Print {"policy": DIGEST, "problems": [{"place", "line", "problem", "advice"}]}.'),
    ] = False,
) -> None:
    """Say everything that is wrong with a policy file, all at once. Changes nothing.

    Beyond wrong keys and values that is what contradicts itself: types with two classes or none, steps out of order,
    classes without an end, copies kept longer than keep_at_most or not until keep_at_least, claims of anonymity over
    fields without a rule, names of people that a profile keeps.
    """
    policy, problems = _read(file)
    if policy:
        known, open_registry = _known_types(types_from) if types_from else ([], True)
        faults = type_problems(policy, known, open_registry=open_registry and not closed_registry)
        problems = [Problem("", None, fault.problem, fault.advice) for fault in faults]
    if as_json:
        told = [{name: getattr(one, name) for name in ("place", "line", "problem", "advice")} for one in problems]
        print_json({"policy": policy.digest if policy else None, "problems": told})
    for one in problems if not as_json else ():
        at = f"{file}:{one.line}" if one.line else str(file)
        typer.echo(harmless(f"{at}: {one.place + ': ' if one.place else ''}{one.problem}; {one.advice}"))
    if problems:
        raise typer.Exit(EXIT_PROBLEMS)
    if policy:
        say(f"sound: {len(policy.classes)} classes, policy {policy.digest[:12]}", "green")


def record_(
    file: File,
    output_format: Annotated[Format, typer.Option("--format", help="Markdown for people, JSON for programs.")] = (
        Format.MD
    ),
) -> None:
    """Print the record of processing activities (GDPR Art. 30) that a policy states, class by class.

    Purposes, legal bases, categories, recipients, and how long each copy is kept in which form. What nobody stated is
    called so.
    """
    policy, problems = _read(file)
    if policy is None:
        complain(f"{file} has {len(problems)} problems; see: trackd retention lint {file}")
        raise typer.Exit(EXIT_PROBLEMS)
    if output_format is Format.JSON:
        print_json(record(policy))
    else:
        typer.echo(harmless_lines(markdown(policy)))


def schema_() -> None:
    """Print the JSON Schema of policy files, for editors.

    Save it beside the policy as `retention.schema.json`, and begin the policy with `#:schema ./retention.schema.json`.
    """
    typer.echo(json.dumps(schema(), indent=2))


def harmless_lines(text: str) -> str:
    """A text of several lines that cannot steer the terminal."""
    return "\n".join(map(harmless, text.split("\n")))


def _read(file: Path) -> tuple[Policy | None, list[Problem]]:
    """The policy of a file, or what is wrong with it. Ends the command if there is nothing to read."""
    try:
        return parse(file.read_text("utf-8")), []
    except PolicyProblems as error:
        return None, error.problems
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        complain(f"{file}: {reason}; name a policy file, such as deploy/retention.toml")
        raise typer.Exit(EXIT_UNREADABLE) from None


def _known_types(origin: str) -> tuple[list[str], bool]:
    """The types of a file or a daemon, and whether others may come (of a file nobody knows, so they may)."""
    path = Path(origin)
    if path.is_file():
        return _types_in(path), True
    if not re.fullmatch(r"\S+:\d{1,5}", origin):
        complain(f"{origin} is neither a file nor the HOST:PORT of a daemon")
        raise typer.Exit(EXIT_UNREADABLE)
    with connected(origin) as client:
        return [one.name for one in client.list_event_types()], client.list_event_types_page(page_size=1).open_registry


def _types_in(path: Path) -> list[str]:
    names: dict[str, None] = {}
    try:
        with LineReader(path) as reader:
            for number, line in enumerate((line for block in reader.blocks() for line in block), 1):
                name = _type_of(line)
                if name is None:
                    complain(f"{path}:{number}: no type; write a name, or a JSON object with name or type")
                    raise typer.Exit(EXIT_UNREADABLE)
                names[name] = None
    except Unreadable as error:
        complain(str(error))
        raise typer.Exit(EXIT_UNREADABLE) from None
    names.pop("", None)
    return list(names)


def _type_of(line: bytes | None) -> str | None:
    """The type that a line names; "" for an empty line, None for one that names none."""
    text = (line or b"").strip()
    if not text.startswith(b"{"):
        return None if line is None else text.decode("utf-8", "replace")
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    name = found.get("name", found.get("type"))
    return name if isinstance(name, str) else None
