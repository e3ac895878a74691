"""The JSON Schema for editors: the one that is shipped, and what it says of policy files."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft7Validator

from retention.policy_file import PolicyProblems, read
from retention.policy_keys import POLICY, Key
from retention.policy_rules import Values
from retention.policy_schema import schema
from tests.support.policies import EXAMPLE, SCHEMA, documents

VALIDATOR = Draft7Validator(json.loads(SCHEMA.read_text("utf-8")))


def keys_of(keys: tuple[Key, ...], path: str = "") -> set[str]:
    """Every key that the parser knows, as a path."""
    return {path + key.name for key in keys} | {
        inner for key in keys for inner in keys_of(key.keys, f"{path}{key.name}.")
    }


def properties_of(part: dict[str, Any], path: str = "") -> set[str]:
    """Every key that the schema knows, as a path."""
    found: set[str] = set()
    for name, inner in part.get("properties", {}).items():
        found |= {path + name} | properties_of(inner, f"{path}{name}.")
    for inside in ("items", "additionalProperties"):
        if isinstance(part.get(inside), dict):
            found |= properties_of(part[inside], path)
    return found


def test_the_shipped_schema_is_the_one_of_this_version() -> None:
    """`trackd retention schema > deploy/retention.schema.json` writes it anew."""
    assert json.loads(SCHEMA.read_text("utf-8")) == schema()
    Draft7Validator.check_schema(schema())


def test_parser_and_schema_know_the_same_keys() -> None:
    """All of them, at every depth, each with a word of explanation."""
    assert properties_of(schema()) == keys_of(POLICY)
    assert "class.step.after" in keys_of(POLICY)
    assert "profile.fields.change.row_id" in keys_of(POLICY)


def test_the_example_names_the_schema_and_follows_it() -> None:
    """In its first line, as editors look for it."""
    text = EXAMPLE.read_text("utf-8")
    first = text.splitlines()[0]
    assert first == f"#:schema ./{SCHEMA.name}"
    assert list(VALIDATOR.iter_errors(tomllib.loads(text))) == []


@settings(max_examples=60, deadline=None)
@given(documents())
def test_what_the_parser_takes_the_schema_takes(document: Values) -> None:
    """An editor marks nothing that is right."""
    read(document)
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("rotation", "seal_after", "7 dayz"),
        ("rotation", "seal", "7 days"),
        ("schedule", "cron", "* * * *"),
        ("schedule", "jitter", "1 month"),
        ("guards", "share_of_store_max", 0),
        ("guards", "months_per_run_max", 0),
        ("guards", "two_person", ["dropp"]),
        ("backups", "max_age", ""),
        ("controller", "measures", "none"),
        ("archive", "Local", {"url": "x"}),
        ("archive", "local", {}),
        ("profile", "reviewing", {"claim": "pseudonymous"}),
        ("profile", "reviewing", {"claim": "anonymos", "fields": {"timestamp": "keep"}}),
        ("profile", "reviewing", {"claim": "pseudonymous", "fields": {"timestamp": "drop"}}),
        ("profile", "reviewing", {"claim": "pseudonymous", "k": 1, "fields": {"timestamp": "keep"}}),
        ("profile", "reviewing", {"claim": "pseudonymous", "fields": {"timestamp": "keep", "user_id": ["a"]}}),
        ("profile", "reviewing", {"claim": "pseudonymous", "fields": {"timestamp": "keep", "change": {"row": "drop"}}}),
        ("class", "name", "A"),
        ("class", "types", []),
        ("class", "types", ["a b"]),
        ("class", "purpose", ""),
        ("class", "late", "maybe"),
        ("class", "subject_fields", ["author"]),
        ("class", "keep_at_most", None),
        ("class", "step", []),
        ("class", "step", [{"after": "1 month", "do": "archive", "keep": "1 year"}]),
        ("class", "step", [{"after": "1 month", "do": "drop", "keep": "1 year"}]),
        ("class", "step", [{"after": "1 month", "do": "anonymize"}]),
    ],
)
def test_what_the_schema_marks_the_parser_refuses(section: str, key: str, value: object) -> None:
    """And the other way round, for everything that one key says."""
    document = tomllib.loads(EXAMPLE.read_text("utf-8"))
    table = document[section][0] if section == "class" else document[section]
    if value is None:
        del table[key]
    else:
        table[key] = value
    assert not VALIDATOR.is_valid(document)
    with pytest.raises(PolicyProblems):
        read(document)
