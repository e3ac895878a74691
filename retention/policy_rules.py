"""What cannot be, although each word of it can: the rules of lint, over the values of a policy file.

Rules look at what could be read and leave alone what could not: that was said already. Each yields faults.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import combinations, pairwise
from typing import Any

from retention import globs
from retention.faults import Fault
from retention.period import Period
from retention.policy import Policy
from retention.policy_keys import CHANGE_FIELDS, FIELDS, Kind

Values = dict[str, Any]
Path = tuple[str | int, ...]

FIELD_NAMES = tuple(
    name
    for key in FIELDS
    for name in ([f"change.{inner.name}" for inner in CHANGE_FIELDS] if key.kind is Kind.TABLE else [key.name])
)
"""All fields that a profile has rules for; of the id, the position and the type there is no choice."""

_MUST_DROP = ("received", "description", "change.old_values", "change.new_values")
_MUST_NOT_KEEP = ("user_id", "session_id", "client_ip", "timestamp", "change.row_id")


def faults(values: Values, unread: Collection[Path]) -> Iterator[Fault]:
    """Everything that the rules find. `unread` are the paths of what could not be read."""
    yield from _names_are_unique(values)
    yield from _types_have_one_class(values)
    if not any(path[:1] == ("class",) for path in unread):
        yield from _nothing_is_unused(values)
    for name, profile in values.get("profile", {}).items():
        if not any(path[:2] == ("profile", name) for path in unread):
            yield from _claim_is_covered(profile, ("profile", name))
    for index, one in enumerate(values.get("class", [])):
        path: Path = ("class", index)
        readable = not any(other[: len(path)] == path for other in unread)
        for of_class in _CLASS_RULES if readable else ():
            yield from of_class(one, path, values)


def type_problems(policy: Policy, known: Iterable[str], *, open_registry: bool) -> list[Fault]:
    """What is wrong between the policy and the types there are; empty if nothing is.

    With an open registry any type may come, so that there must be a class of all others.
    """
    problems = [
        Fault((), f'the type "{name}" has no class', 'add it to the types of one, or add a class with types = ["*"]')
        for name in policy.without_class(known)
    ]
    if open_registry and not any(one.takes_the_rest for one in policy.classes):
        problem = 'no class has types = ["*"], and events of new types would have no policy'
        problems.append(Fault((), problem, "add such a class, or close the registry (--closed-registry)"))
    return problems


def flat_fields(profile: Values) -> dict[str, str | tuple[str, ...]]:
    """Field -> rule of a profile, with "change.row_id" for the table in the table."""
    fields = profile.get("fields", {})
    of_change = {f"change.{name}": rule for name, rule in fields.get("change", {}).items()}
    return {name: rule for name, rule in fields.items() if name != "change"} | of_change


# The file as a whole


def _names_are_unique(values: Values) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, one in enumerate(values.get("class", [])):
        name = one.get("name")
        if name in seen:
            yield Fault(("class", index, "name"), f'there is another class "{name}"', "give one of them another name")
        if name is not None:
            seen.add(name)


def _types_have_one_class(values: Values) -> Iterator[Fault]:
    classes = [
        (index, one.get("name", index + 1), one.get("types", ())) for index, one in enumerate(values.get("class", []))
    ]
    for (_, first_name, first), (index, _, second) in combinations(classes, 2):
        for left in first:
            for right in second:
                both = left == right == globs.EVERYTHING
                if globs.EVERYTHING in (left, right) and not both:
                    continue  # takes what no other class matches
                witness = globs.common_name(left, right)
                if witness is not None:
                    yield Fault(
                        ("class", index, "types"),
                        f'"{right}" and "{left}" of class "{first_name}" both match "{witness}"',
                        "a type has one class: change one of the two",
                    )


def _nothing_is_unused(values: Values) -> Iterator[Fault]:
    steps = [step for one in values.get("class", []) for step in one.get("step", [])]
    for section, key in (("profile", "profile"), ("archive", "target")):
        used = {step.get(key) for step in steps}
        for name in values.get(section, {}):
            if name not in used:
                yield Fault((section, name), f"no step uses it as its {key}", "use it, or take it away")


def _claim_is_covered(profile: Values, path: Path) -> Iterator[Fault]:
    if profile.get("claim") == "pseudonymous" and "k" in profile:
        yield Fault((*path, "k"), 'means nothing under the claim "pseudonymous"', "take it away")
    if profile.get("claim") != "anonymous" or "fields" not in profile:
        return
    if "k" not in profile:
        yield Fault(path, "k is missing", 'say how many users a cell must have to be called "anonymous", as in k = 10')
    fields = flat_fields(profile)
    for name in FIELD_NAMES:
        place = (*path, "fields", *name.split("."))
        if name not in fields:
            yield Fault(
                place, 'the claim "anonymous" covers a field without a rule', f'say {name} = "drop", or another rule'
            )
        elif name in _MUST_DROP and fields[name] != "drop":
            yield Fault(
                place, 'rows that keep it are not "anonymous"', f'say {name} = "drop", or claim = "pseudonymous"'
            )
        elif name in _MUST_NOT_KEEP and fields[name] == "keep":
            yield Fault(
                place, 'rows that keep it whole are not "anonymous"', 'drop or coarsen it, or claim = "pseudonymous"'
            )
        elif name in ("metadata", "tags") and fields[name] == "keep":
            yield Fault(place, 'free content is not "anonymous"', 'list what to keep, as in ["repo"], or say "drop"')


# One class


def _has_an_end(one: Values, path: Path, values: Values) -> Iterator[Fault]:
    last = one["step"][-1]
    claim = values.get("profile", {}).get(last.get("profile"), {}).get("claim")
    if last["do"] == "archive" or claim == "pseudonymous":
        yield Fault(
            path,
            f"has no end: its last step is {last['do']}",
            'end with do = "drop", or anonymize with a profile that claims "anonymous"',
        )


def _names_exist(one: Values, path: Path, values: Values) -> Iterator[Fault]:
    for index, step in enumerate(one["step"]):
        for key, section in (("profile", "profile"), ("target", "archive")):
            if key in step and section in values and step[key] not in values[section]:
                known = ", ".join(values[section]) or "none"
                yield Fault(
                    (*path, "step", index, key),
                    f"there is no [{section}.{step[key]}]",
                    f"known are {known}; add it, or name another",
                )


def _steps_have_only_their_keys(one: Values, path: Path, _values: Values) -> Iterator[Fault]:
    own = {"anonymize": {"profile"}, "archive": {"target", "keep"}, "drop": set[str]()}
    for index, step in enumerate(one["step"]):
        for key in step.keys() - {"after", "do"} - own[step["do"]]:
            yield Fault((*path, "step", index, key), f'does not belong to do = "{step["do"]}"', "take it away")


def _steps_are_in_order(one: Values, path: Path, values: Values) -> Iterator[Fault]:
    steps = one["step"]
    for index, (before, step) in enumerate(pairwise(steps), 1):
        place = (*path, "step", index)
        if not before["after"].never_longer_than(step["after"]):
            yield Fault(
                (*place, "after"),
                f"{step['after']} is before the step above it, {before['after']}",
                "order the steps by age",
            )
        if before["do"] == "drop":
            yield Fault(place, "comes after a drop, when nothing is left", "put it before the drop, or take it away")
        if any(_same_outcome(step, other) for other in steps[:index]):
            yield Fault(place, f"does what an earlier step did: {step['do']}", "take one of them away")
    seal_after = values.get("rotation", {}).get("seal_after")
    if seal_after and not seal_after.never_longer_than(steps[0]["after"]):
        yield Fault(
            (*path, "step", 0, "after"),
            f"{steps[0]['after']} is before months are sealed, {seal_after}",
            "act later, or make rotation.seal_after shorter",
        )


def _same_outcome(step: Values, other: Values) -> bool:
    return (
        step["do"] == other["do"]
        and step.get("profile") == other.get("profile")
        and step.get("target") == other.get("target")
    )


def _least_is_within_most(one: Values, path: Path, _values: Values) -> Iterator[Fault]:
    least, most = one.get("keep_at_least"), one["keep_at_most"]
    if least and not least.never_longer_than(most):
        yield Fault((*path, "keep_at_least"), f"{least} is longer than keep_at_most, {most}", "change one of the two")


def _every_copy_ends_in_time(one: Values, path: Path, values: Values) -> Iterator[Fault]:
    most: Period = one["keep_at_most"]
    for index, step in enumerate(one["step"]):
        place = (*path, "step", index)
        if not step["after"].never_longer_than(most):
            yield Fault(
                (*place, "after"), f"{step['after']} is later than keep_at_most, {most}", "act sooner, or keep longer"
            )
        if step["do"] == "archive":
            if not step["keep"].never_longer_than(most):
                yield Fault(
                    (*place, "keep"),
                    f"the archive is kept {step['keep']}, longer than keep_at_most, {most}",
                    "change one of the two",
                )
            if step["keep"].never_longer_than(step["after"]):
                yield Fault(
                    (*place, "keep"),
                    f"at the age of {step['keep']} the archive is destroyed, and made at {step['after']}",
                    "ages count from the end of the month: keep it longer",
                )
    backups = values.get("backups", {}).get("max_age")
    last = one["step"][-1]
    if backups and _can_be_longer(last["after"], backups, most):
        yield Fault(
            (*path, "step", len(one["step"]) - 1, "after"),
            f"{last['after']}, and another {backups} in backups, are longer than keep_at_most, {most}",
            "act sooner, keep backups shorter, or raise keep_at_most",
        )


def _can_be_longer(first: Period, second: Period, most: Period) -> bool:
    """Whether two periods one after the other can be longer than the third, from the end of whichever month."""
    if first.months and second.months:
        return not Period(months=first.months + second.months).never_longer_than(most)
    # Days after months: as many days as both can have at most.
    return not Period(days=first.most_days + second.most_days).never_longer_than(most)


def _kept_at_least(one: Values, path: Path, _values: Values) -> Iterator[Fault]:
    """Before keep_at_least nothing takes away the last complete copy."""
    least = one.get("keep_at_least")
    if least is None:
        return
    for index, step in enumerate(one["step"]):
        complete = any(
            other["do"] == "archive" and least.never_longer_than(other["keep"]) for other in one["step"][:index]
        )
        if step["do"] != "archive" and not least.never_longer_than(step["after"]) and not complete:
            yield Fault(
                (*path, "step", index, "after"),
                f"{step['do']} at {step['after']} is before keep_at_least, {least}",
                "act later, or archive before it and keep the archive that long",
            )
        if step["do"] == "anonymize":
            return  # what is archived from here on is not complete


def _anonymous_is_the_only_copy(one: Values, path: Path, values: Values) -> Iterator[Fault]:
    """Rows are not anonymous while their originals lie in an archive."""
    for index, step in enumerate(one["step"]):
        if values.get("profile", {}).get(step.get("profile"), {}).get("claim") != "anonymous":
            continue
        for other in one["step"][:index]:
            if other["do"] == "archive" and not other["keep"].never_longer_than(step["after"]):
                yield Fault(
                    (*path, "step", index, "profile"),
                    f'"anonymous", although the archive "{other["target"]}" has the originals until {other["keep"]}',
                    'keep that archive shorter, or claim = "pseudonymous"',
                )


def _subjects_are_not_kept(one: Values, path: Path, values: Values) -> Iterator[Fault]:
    """A profile that hides the user and keeps another name of a person hides nothing."""
    for index, step in enumerate(one["step"]):
        fields = flat_fields(values.get("profile", {}).get(step.get("profile"), {}))
        if not fields or fields.get("user_id") == "keep":
            continue
        for subject in one["subject_fields"]:
            name, key = _field_and_key(subject)
            rule = fields.get(name, "drop")
            if rule == "keep" or (isinstance(rule, tuple) and (key in rule or not key)):
                yield Fault(
                    (*path, "step", index, "profile"),
                    f'"{step["profile"]}" keeps {subject}, which names a person as subject_fields say',
                    "take it out of what the profile keeps, or out of subject_fields",
                )


def _field_and_key(subject: str) -> tuple[str, str]:
    """The field of an event that a subject field is in, and the key within it; "" where it is all of the field."""
    parts = subject.split(".")
    depth = 2 if parts[0] == "change" else 1
    return ".".join(parts[:depth]), "".join(parts[depth : depth + 1])


_CLASS_RULES: tuple[Callable[[Values, Path, Values], Iterator[Fault]], ...] = (
    _has_an_end,
    _names_exist,
    _steps_have_only_their_keys,
    _steps_are_in_order,
    _least_is_within_most,
    _every_copy_ends_in_time,
    _kept_at_least,
    _anonymous_is_the_only_copy,
    _subjects_are_not_kept,
)
