"""Reading policy files: the values, the lines of what is wrong, and all of it at once."""

from __future__ import annotations

import copy
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retention.period import Period
from retention.policy import Anonymize, Archive, Claim, Drop, FieldRule, Late, Policy, Treatment
from retention.policy_file import FILE_BYTES_MAX, PolicyProblems, parse, read
from retention.policy_lines import lines_of
from tests.support.policies import EXAMPLE, PROFILES, documents, drop, event_class, policy

TEXT = EXAMPLE.read_text("utf-8")


def problems(text: str) -> list[str]:
    """What is wrong, as sentences."""
    with pytest.raises(PolicyProblems) as caught:
        parse(text)
    assert str(caught.value).splitlines() == [str(one) for one in caught.value.problems]
    return [str(one) for one in caught.value.problems]


def test_the_example_says_what_it_says() -> None:
    """Values, defaults and the order of steps."""
    found = parse(TEXT)
    assert [one.name for one in found.classes] == ["contributions", "other", "reviews", "sign-offs"]
    assert found.seal_after == Period(days=7)
    assert found.schedule
    assert (found.schedule.cron, found.schedule.jitter_ms) == ("17 3 * * *", 1_200_000)
    assert found.guards.two_person == {"destroy_archive"}
    reviews, signed = found.classes[2:]
    assert (reviews.late, signed.late) == (Late.REOPEN, Late.REJECT)
    hidden, gone = reviews.steps
    assert isinstance(hidden, Anonymize)
    assert hidden.profile.claim is Claim.PSEUDONYMOUS
    assert hidden.profile.rule("user_id") == FieldRule(Treatment.REKEY)
    assert hidden.profile.rule("metadata").keys == ("deletions", "files", "insertions", "repo", "state")
    assert hidden.profile.rule("session_id") == hidden.profile.rule("change.row_id") == FieldRule(Treatment.DROP)
    assert gone == Drop(Period(months=24))
    assert isinstance(signed.steps[0], Archive)
    assert (signed.steps[0].target.url, str(signed.steps[0].keep)) == ("./trackd-archive", "10 years")


def test_rounding_has_a_grain_and_change_fields_their_names() -> None:
    """A table in the table of fields, and words for times."""
    step = policy(
        event_class("a", ["*"], "9 months", {"after": "1 month", "do": "anonymize", "profile": "anon"})
    ).classes[0].steps[0]  # fmt: skip
    assert isinstance(step, Anonymize)
    assert step.profile.rule("timestamp") == FieldRule(Treatment.ROUND, 3_600_000)
    assert step.profile.rule("change.table_name") == FieldRule(Treatment.KEEP)
    assert step.profile.k == 10


def test_every_type_has_at_most_one_class_and_star_takes_the_rest() -> None:
    """The class of all others is asked last, wherever it stands."""
    found = parse(TEXT)
    assert {name: getattr(found.class_of(name), "name", None) for name in ("review_acked", "pr_merged", "new")} == {
        "review_acked": "reviews",
        "pr_merged": "contributions",
        "new": "other",
    }
    closed = policy(event_class("a", ["x*"], "2 months", drop("1 month")))
    assert closed.class_of("y") is None
    assert closed.without_class(["y", "xa", "b", "y"]) == ("b", "y")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# All ages", "# Ages"),
        ('after = "2 years"', 'after = "24 months"'),
        ('types = ["change_authored", "change_landed"', 'types = ["change_landed", "change_authored"'),
    ],
)
def test_the_digest_is_of_what_is_said(old: str, new: str) -> None:
    """Comments, order and units do not count; the order of classes neither."""
    assert old in TEXT
    assert parse(TEXT.replace(old, new)).digest == parse(TEXT).digest
    document = tomllib.loads(TEXT)
    document["class"].reverse()
    assert read(document).digest == parse(TEXT).digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('after = "2 years"', 'after = "25 months"'),
        ('seal_after = "7 days"', 'seal_after = "8 days"'),
        ('late = "reopen"', 'late = "reject"'),
        ('tags = "keep"', 'tags = "drop"'),
        ("months_per_run_max = 6", "months_per_run_max = 7"),
        ("Prove under", "Know under"),
        ('url = "./trackd-archive"', 'url = "./elsewhere"'),
        ('max_age = "35 days"', 'max_age = "34 days"'),
    ],
)
def test_another_policy_has_another_digest(old: str, new: str) -> None:
    """Whatever part of it changed."""
    assert old in TEXT
    assert parse(TEXT.replace(old, new)).digest != parse(TEXT).digest


def test_a_profile_is_known_by_what_it_does() -> None:
    """So that renaming one does not rewrite ten years of months."""
    renamed = TEXT.replace("reviewing", "renamed")
    assert set(parse(renamed).profiles) == set(parse(TEXT).profiles)
    assert set(parse(TEXT.replace('tags = "keep"', 'tags = "drop"')).profiles) != set(parse(TEXT).profiles)


# What is wrong


def test_all_problems_are_said_at_once_with_their_lines() -> None:
    """Wrong keys, kinds and values and what contradicts itself; none hides another."""
    text = """surprise = 1
[rotation]
seal_after = 7
[guards]
share_of_store_max = 2
months_per_run_max = 0
two_person = ["dropp"]
[[class]]
name = "A"
types = ["a b"]
purpose = ""
keep_at_most = "1 fortnight"
step = []
[[class]]
name = "late"
types = ["*"]
purpose = "p"
legal_basis = "l"
keep_at_least = "3 months"
keep_at_most = "2 months"

[[class.step]]
after = "1 month"
do = "drop"
"""
    found = problems(text)
    assert [one.partition(";")[0] for one in found] == [
        "line 1: surprise: no such key",
        "line 3: rotation, seal_after: must be a text, not 7",
        "line 5: guards, share_of_store_max: 2 is no share",
        "line 6: guards, months_per_run_max: 0 is no count",
        "line 7: guards, two_person: 'dropp' is not known here",
        'line 8: class "A": legal_basis is missing',
        "line 9: class \"A\", name: 'A' is no name",
        "line 10: class \"A\", types: 'a b' is no type",
        'line 11: class "A", purpose: must not be empty',
        "line 12: class \"A\", keep_at_most: '1 fortnight' is no period",
        'line 13: class "A", step: must be one or more tables',
        'line 19: class "late", keep_at_least: 3 months is longer than keep_at_most, 2 months',
        'line 23: class "late", step 1, after: drop at 1 month is before keep_at_least, 3 months',
    ]
    assert all("; " in one for one in found), "each says what to do"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "class is missing"),
        ("class = 3", "class: must be one or more tables"),
        ("class = [3]", "class: must be a table, not 3"),
        ("[guards\n", "line 1: is not TOML"),
        ("a = 1\nb = = 2\n", "line 2: is not TOML"),
        ("archive = 1", "archive: must be a table"),
        ("[archive.Big]\nurl='x'", "'Big' is no name"),
        ("x" * (FILE_BYTES_MAX + 1), "more than 1048576 bytes"),
        ("[schedule]\ncron = '* * * *'", "has 4 fields and not 5"),
        ("[schedule]\njitter = '1 month'", "cron is missing"),
        ("[profile.p.fields]\ntimestamp = 'drop'", "'drop' is no rule for timestamp"),
        ("[profile.p.fields]\nuser_id = ['a']", "no rule for user_id"),
        ("[profile.p.fields]\ntags = ['a', 'a']", "says something twice"),
        ("[profile.p.fields.change]\nrow = 'drop'", 'did you mean "row_id"?'),
        ("[[class]]\nsubject_fields = ['author']", "'author' is no field of an event"),
        ("[profile.p]\nk = 1", "1 is no count"),
        ("[profile.p]\nk = true", "True is no count"),
        ("[profile.p]\nclaim = 'anon'", 'did you mean "anonymous"?'),
    ],
)
def test_what_is_badly_written_is_told(text: str, expected: str) -> None:
    """Each with its own words, beside what is missing altogether."""
    assert any(expected in one for one in problems(text)), problems(text)


# Lines


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All tables and keys of a document."""
    found: list[tuple[Any, ...]] = []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += [(*path, key), *paths(inner, (*path, key))]
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        for index, inner in enumerate(value):
            found += [(*path, index), *paths(inner, (*path, index))]
    return found


def test_every_key_of_the_example_has_its_line() -> None:
    """The line on which it is written, or the heading of its table."""
    lines = lines_of(TEXT)
    written = TEXT.splitlines()
    for path in paths(tomllib.loads(TEXT)):
        if (
            not isinstance(path[-1], int)
            and path not in (("class",), ("archive",), ("profile",))
            and path[-1] != "step"
        ):
            assert path[-1] in written[lines[path] - 1], path
    assert {path[-1] for path in paths(tomllib.loads(TEXT)) if path not in lines} == {
        "class",
        "archive",
        "profile",
        "step",
    }
    assert written[lines["class", 2, "step", 1] - 1] == "[[class.step]]"
    assert written[lines["class", 3, "name"] - 1] == 'name = "other"'


def test_values_of_any_form_do_not_confuse_the_lines() -> None:
    """Texts over several lines, brackets in texts, comments in lists, dotted and quoted keys."""
    text = '''a = """
[x]
b = 1 """ # "
c.d = ["]", # [
  'x = 1',
  { y = "}" } ]
"e f"."g" = 1
[[t]]
h = \'\'\'
[[t]]\'\'\'
[t.u]
i = 1
[[t]]
j = -1979-05-27
'''
    document = tomllib.loads(text.replace("-1979", "1979"))
    lines = lines_of(text.replace("-1979", "1979"))
    assert {path: lines[path] for path in paths(document) if path in lines} == {
        ("a",): 1,
        ("c",): 4,
        ("c", "d"): 4,
        ("e f",): 7,
        ("e f", "g"): 7,
        ("t", 0): 8,
        ("t", 0, "h"): 9,
        ("t", 0, "u"): 11,
        ("t", 0, "u", "i"): 12,
        ("t", 1): 13,
        ("t", 1, "j"): 14,
    }


# Whatever is written


SCRAPS = st.recursive(
    st.one_of(
        st.booleans(), st.integers(), st.floats(allow_nan=False), st.sampled_from(["", "x", "1 day", "*", "drop"])
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "do"]), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_document_is_a_policy_or_has_problems(data: st.DataObject) -> None:
    """The example with parts taken away or replaced by anything: no other error, and each problem has its advice."""
    document = copy.deepcopy(tomllib.loads(TEXT))
    chosen = data.draw(st.sets(st.sampled_from(paths(document)), min_size=1, max_size=3))
    for path in sorted(chosen, key=lambda one: (len(one), one[-1] if isinstance(one[-1], int) else 0), reverse=True):
        inner: Any = document
        for key in path[:-1]:
            inner = inner[key]
        if data.draw(st.booleans()):
            del inner[path[-1]]
        else:
            inner[path[-1]] = data.draw(SCRAPS)
    problems = []
    try:
        assert isinstance(read(document), Policy)
    except PolicyProblems as error:
        problems = error.problems
    assert all(one.problem and one.advice for one in problems)


@settings(max_examples=100, deadline=None)
@given(documents())
def test_the_policies_that_properties_are_tested_on_are_sound(document: dict[str, Any]) -> None:
    """So that those tests look at plans, not at refusals."""
    assert read(document).classes
    assert PROFILES
