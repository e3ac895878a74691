"""What lint finds: each rule by a policy that is sound but for one thing."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from retention.policy_file import PolicyProblems, read
from retention.policy_rules import FIELD_NAMES, type_problems
from tests.support.policies import (
    PROFILES,
    TARGETS,
    anonymize,
    archive,
    document,
    drop,
    event_class,
    policy,
)

Document = dict[str, Any]


def found(written: Document) -> list[str]:
    """The problems of a document, as "place: problem"; empty if it is a policy."""
    try:
        read(written)
    except PolicyProblems as error:
        return [f"{one.place}: {one.problem}" for one in error.problems]
    return []


def one_class(*steps: Document, most: str = "3 years", **more: Any) -> Document:
    """A policy with one class of all types."""
    return document(event_class("a", ["*"], most, *steps, **more))


def with_profile(name: str, **changes: Any) -> Document:
    """A policy that ends in this profile, changed; None takes a field away. Dots lead into tables."""
    written = copy.deepcopy(one_class(anonymize("1 month", name), *([drop("2 months")] if name == "pseudo" else [])))
    profile = written["profile"][name]
    for path, value in changes.items():
        *tables, key = path.split("__")
        inner = profile
        for table in tables:
            inner = inner.setdefault(table, {})
        if value is None:
            del inner[key]
        else:
            inner[key] = value
    return written


SOUND: list[Document] = [
    one_class(drop("1 year")),
    one_class(anonymize("1 year"), drop("2 years")),
    one_class(anonymize("1 year", "anon")),
    one_class(archive("1 year", "3 years"), drop("1 year")),
    one_class(archive("1 year", "3 years"), drop("13 months"), keep_at_least="3 years"),
    one_class(archive("1 month", "2 months"), anonymize("2 months", "anon")),
    one_class(archive("1 month", "2 months"), archive("1 month", "3 months", "far"), drop("1 month")),
    one_class(drop("2 years"), keep_at_least="2 years"),
    one_class(drop("35 months")) | {"backups": {"max_age": "20 days"}},
    document(event_class("a", ["x*"], "1 year", drop("1 month")), event_class("b", ["*"], "1 year", drop("1 month"))),
    one_class(anonymize("1 year"), drop("2 years"), subject_fields=["metadata.author", "change.row_id"]),
]


@pytest.mark.parametrize("written", SOUND)
def test_what_is_sound_has_no_problems(written: Document) -> None:
    """None of the rules is stricter than it says."""
    assert found(written) == []


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (one_class(archive("1 year", "2 years")), 'class "a": has no end: its last step is archive'),
        (one_class(anonymize("1 year")), 'class "a": has no end: its last step is anonymize'),
        (
            document(*(event_class("a", [glob], "1 year", drop("1 month")) for glob in "xy")),
            'class "a", name: there is another class "a"',
        ),
        (
            document(
                event_class("a", ["pr_*"], "1 year", drop("1 month")),
                event_class("b", ["x", "*_merged"], "1 year", drop("1 month")),
            ),
            'class "b", types: "*_merged" and "pr_*" of class "a" both match "pr_merged"',
        ),
        (
            document(*(event_class(name, ["*"], "1 year", drop("1 month")) for name in "ab")),
            'class "b", types: "*" and "*" of class "a" both match "x"',
        ),
        (
            one_class(anonymize("3 months"), drop("2 months")),
            'class "a", step 2, after: 2 months is before the step above it, 3 months',
        ),
        (
            one_class(archive("1 month", "1 year"), drop("30 days")),
            'class "a", step 2, after: 30 days is before the step above it, 1 month',
        ),
        (
            one_class(drop("1 month"), drop("2 months")),
            'class "a", step 2: comes after a drop, when nothing is left',
        ),
        (
            one_class(anonymize("1 month"), anonymize("2 months"), drop("3 months")),
            'class "a", step 2: does what an earlier step did: anonymize',
        ),
        (one_class(drop("6 days")), 'class "a", step 1, after: 6 days is before months are sealed, 7 days'),
        (
            one_class(drop("2 years"), keep_at_least="4 years"),
            'class "a", keep_at_least: 4 years is longer than keep_at_most, 3 years',
        ),
        (one_class(drop("4 years")), 'class "a", step 1, after: 4 years is later than keep_at_most, 3 years'),
        (
            one_class(archive("1 year", "4 years"), drop("2 years")),
            'class "a", step 1, keep: the archive is kept 4 years, longer than keep_at_most, 3 years',
        ),
        (
            one_class(archive("1 year", "1 year"), drop("2 years")),
            'class "a", step 1, keep: at the age of 1 year the archive is destroyed, and made at 1 year',
        ),
        (
            one_class(drop("2 years"), keep_at_least="25 months"),
            'class "a", step 1, after: drop at 2 years is before keep_at_least, 25 months',
        ),
        (
            one_class(anonymize("1 month"), drop("2 years"), keep_at_least="2 months"),
            'class "a", step 1, after: anonymize at 1 month is before keep_at_least, 2 months',
        ),
        (
            one_class(archive("1 month", "2 months"), drop("1 month"), keep_at_least="3 months"),
            'class "a", step 2, after: drop at 1 month is before keep_at_least, 3 months',
        ),
        (
            one_class(archive("1 month", "3 months"), anonymize("2 months", "anon")),
            'class "a", step 2, profile: "anonymous", although the archive "local" has the originals until 3 months',
        ),
        (
            one_class(drop("3 years")) | {"backups": {"max_age": "1 day"}},
            'class "a", step 1, after: 3 years, and another 1 day in backups, are longer than keep_at_most, 3 years',
        ),
        (
            one_class(drop("2 years"), most="25 months") | {"backups": {"max_age": "2 months"}},
            'class "a", step 1, after: 2 years, and another 2 months in backups, are longer than keep_at_most',
        ),
        (
            one_class({**drop("1 month"), "profile": "pseudo"}) | {"profile": {"pseudo": PROFILES["pseudo"]}},
            'class "a", step 1, profile: does not belong to do = "drop"',
        ),
        (
            one_class(anonymize("1 month", "nobody"), drop("1 year")),
            'class "a", step 1, profile: there is no [profile.nobody]',
        ),
        (
            one_class(archive("1 month", "2 months", "moon"), drop("1 year")),
            'class "a", step 1, target: there is no [archive.moon]',
        ),
        (one_class(drop("1 year")) | {"archive": TARGETS | {}}, "archive, local: no step uses it as its target"),
        (one_class(drop("1 year")) | {"profile": PROFILES | {}}, "profile, anon: no step uses it as its profile"),
        (
            one_class(
                anonymize("1 month"), drop("1 year"), subject_fields=["metadata.author.email", "client_ip"]
            )
            | {"profile": {"pseudo": {**PROFILES["pseudo"], "fields": {"timestamp": "keep", "metadata": ["author"]}}}},
            'class "a", step 1, profile: "pseudo" keeps metadata.author.email, which names a person',
        ),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_found(written: Document, problem: str) -> None:
    """At its place."""
    assert any(one.startswith(problem) for one in found(written)), found(written)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (with_profile("anon", k=None), "profile, anon: k is missing"),
        (with_profile("pseudo", k=5), 'profile, pseudo, k: means nothing under the claim "pseudonymous"'),
        (
            with_profile("anon", fields__user_id="keep"),
            'profile, anon, fields, user_id: rows that keep it whole are not "anonymous"',
        ),
        (
            with_profile("anon", fields__timestamp="keep"),
            'profile, anon, fields, timestamp: rows that keep it whole are not "anonymous"',
        ),
        (
            with_profile("anon", fields__description="keep"),
            'profile, anon, fields, description: rows that keep it are not "anonymous"',
        ),
        (
            with_profile("anon", fields__change__new_values=["state"]),
            'profile, anon, fields, change, new_values: rows that keep it are not "anonymous"',
        ),
        (with_profile("anon", fields__tags="keep"), 'profile, anon, fields, tags: free content is not "anonymous"'),
    ],
)
def test_claims_of_anonymity_are_questioned(written: Document, problem: str) -> None:
    """Before any row is looked at."""
    assert found(written) == [problem]


@pytest.mark.parametrize("name", FIELD_NAMES)
def test_a_claim_covers_every_field(name: str) -> None:
    """A field that is left out is a problem under "anonymous", and dropped under "pseudonymous"."""
    path = "fields__" + name.replace(".", "__")
    place = ", ".join(("profile, anon, fields", *name.split(".")))
    if name != "timestamp":
        assert found(with_profile("anon", **{path: None})) == [
            f'{place}: the claim "anonymous" covers a field without a rule'
        ]
    else:
        assert found(with_profile("anon", **{path: None})) == ["profile, anon, fields: timestamp is missing"]


def test_what_could_not_be_read_is_not_judged() -> None:
    """One wrong word is one problem, not one and all that follows from it."""
    written = one_class(anonymize("1 yaer"), drop("2 years"), keep_at_least="2 years")
    assert found(written) == ["class \"a\", step 1, after: '1 yaer' is no period"]
    written = copy.deepcopy(one_class(anonymize("1 year", "anon")))
    written["profile"]["anon"]["claim"] = "anonymos"
    assert found(written) == ["profile, anon, claim: 'anonymos' is not known here"]


def test_types_without_a_class_are_found() -> None:
    """Those that exist, by name; and with an open registry those that may come."""
    some = policy(event_class("a", ["pr_*"], "1 year", drop("1 month")))
    assert [one.problem for one in type_problems(some, ["pr_x", "z", "y"], open_registry=False)] == [
        'the type "y" has no class',
        'the type "z" has no class',
    ]
    (problem,) = type_problems(some, ["pr_x"], open_registry=True)
    assert 'no class has types = ["*"]' in problem.problem
    everything = policy(event_class("a", ["*"], "1 year", drop("1 month")))
    assert type_problems(everything, ["z"], open_registry=True) == []
