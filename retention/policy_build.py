"""From the values of a policy file, read and found without fault, to the policy."""

from __future__ import annotations

from typing import Any

from retention.policy import (
    Anonymize,
    Archive,
    ArchiveTarget,
    Claim,
    Controller,
    Drop,
    EventClass,
    FieldRule,
    Guards,
    Late,
    Policy,
    Profile,
    Schedule,
    Step,
    Treatment,
)
from retention.policy_keys import GRAINS_MS
from retention.policy_rules import Values, flat_fields


def build(values: Values) -> Policy:
    """The policy that the values say."""
    targets = {name: ArchiveTarget(name=name, **target) for name, target in values["archive"].items()}
    profiles = {name: _profile(name, profile) for name, profile in values["profile"].items()}
    classes = [_class(one, targets, profiles) for one in values["class"]]
    schedule = values.get("schedule")
    return Policy(
        classes=tuple(sorted(classes, key=lambda one: one.name)),
        seal_after=values["rotation"]["seal_after"],
        schedule=Schedule(schedule["cron"], schedule["jitter"]) if schedule else None,
        guards=Guards(
            share_of_store_max=values["guards"]["share_of_store_max"],
            months_per_run_max=values["guards"]["months_per_run_max"],
            clock_max_gap_ms=values["clock"]["max_gap"],
            two_person=frozenset(values["guards"]["two_person"]),
        ),
        backups_max_age=values.get("backups", {}).get("max_age"),
        controller=Controller(**values["controller"]),
    )


def _class(one: Values, targets: dict[str, ArchiveTarget], profiles: dict[str, Profile]) -> EventClass:
    plain = {key: value for key, value in one.items() if key not in ("step", "types", "late", "keep_at_least")}
    return EventClass(
        **plain,
        types=tuple(sorted(one["types"])),
        late=Late(one["late"]),
        keep_at_least=one.get("keep_at_least"),
        steps=tuple(_step(step, targets, profiles) for step in one["step"]),
    )


def _step(step: Values, targets: dict[str, ArchiveTarget], profiles: dict[str, Profile]) -> Step:
    match step["do"]:
        case "anonymize":
            return Anonymize(step["after"], profiles[step["profile"]])
        case "archive":
            return Archive(step["after"], targets[step["target"]], step["keep"])
        case _:
            return Drop(step["after"])


def _profile(name: str, profile: Values) -> Profile:
    rules = {field: _rule(rule) for field, rule in flat_fields(profile).items()}
    return Profile(name, Claim(profile["claim"]), profile.get("k", 0), tuple(sorted(rules.items())))


def _rule(rule: Any) -> FieldRule:
    if isinstance(rule, tuple):
        return FieldRule(Treatment.ALLOW, keys=tuple(sorted(rule)))
    words = rule.removeprefix("round to ")
    return FieldRule(Treatment.ROUND, GRAINS_MS[words]) if words != rule else FieldRule(Treatment(rule))
