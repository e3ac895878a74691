"""The JSON Schema of the policy file, for editors: `#:schema retention.schema.json` in its first line.

Made of the same grammar that the parser reads with. It says what each key may be; what keys say together is for lint.
"""

from __future__ import annotations

from typing import Any

from retention.policy_keys import COUNT_MAX, ITEM_PATTERNS, PATTERNS, POLICY, Key, Kind

# Editors know draft 7 best.
_DRAFT = "http://json-schema.org/draft-07/schema#"
_CRON_PATTERN = r"^\s*\S+(\s+\S+){4}\s*$"
_LISTS = (Kind.TEXTS, Kind.GLOBS, Kind.SUBJECT_FIELDS, Kind.CHOICES)


def schema() -> dict[str, Any]:
    """The schema of a whole file."""
    return {
        "$schema": _DRAFT,
        "title": "Retention policy of trackd",
        "description": "Which events are kept how long, why, and what becomes of them.",
        **_table(POLICY),
    }


def _table(keys: tuple[Key, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {key.name: {"description": key.says, **_value(key), **_default(key)} for key in keys},
        "required": [key.name for key in keys if key.required and not key.only_with],
    }
    conditions = [_only_with(key, keys) for key in keys if key.name == "do"]
    return found | ({"allOf": conditions[0]} if conditions else {})


def _only_with(do: Key, keys: tuple[Key, ...]) -> list[dict[str, Any]]:
    """Which keys a step needs, and which it must not have, by what it does."""
    conditions = []
    for choice in do.choices:
        own = [key.name for key in keys if key.only_with == choice]
        foreign = {key.name: False for key in keys if key.only_with not in ("", choice)}
        is_choice = {"properties": {do.name: {"const": choice}}, "required": [do.name]}
        conditions.append({"if": is_choice, "then": {"required": own, "properties": foreign}})
    return conditions


def _value(key: Key) -> dict[str, Any]:
    names = {"pattern": PATTERNS[Kind.NAME]}
    match key.kind:
        case Kind.TABLE:
            found = _table(key.keys)
        case Kind.TABLES:
            found = {"type": "array", "minItems": 1, "items": _table(key.keys)}
        case Kind.NAMED_TABLES:
            found = {"type": "object", "propertyNames": names, "additionalProperties": _table(key.keys)}
        case Kind.COUNT:
            found = {"type": "integer", "minimum": key.least, "maximum": COUNT_MAX}
        case Kind.SHARE:
            found = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
        case Kind.RULE if key.allow_list:
            found = {"anyOf": [{"enum": list(key.choices)}, _list(key)]}
        case kind if kind in _LISTS:
            found = _list(key)
        case _:
            found = _text(key)
    return found


def _list(key: Key) -> dict[str, Any]:
    found = {"type": "array", "uniqueItems": True, "minItems": int(key.required), "items": {"type": "string"}}
    if key.kind is Kind.CHOICES:
        return found | {"items": {"enum": list(key.choices)}}
    pattern = ITEM_PATTERNS.get(key.kind)
    return found | {"items": {"type": "string"} | ({"pattern": pattern} if pattern else {"minLength": 1})}


def _text(key: Key) -> dict[str, Any]:
    if key.choices:
        return {"enum": list(key.choices)}
    pattern = _CRON_PATTERN if key.kind is Kind.CRON else PATTERNS.get(key.kind)
    bound = {"pattern": pattern} if pattern else {"minLength": int(key.required)}
    return {"type": "string", **bound}


def _default(key: Key) -> dict[str, Any]:
    if key.default is None or isinstance(key.default, dict):
        return {}
    return {"default": list(key.default) if isinstance(key.default, tuple) else key.default}
