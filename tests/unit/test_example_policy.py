"""deploy/retention.toml works as shipped: for what `trackd import --git` makes, and for twenty years of it."""

from __future__ import annotations

import gzip
import json
import os
import tomllib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from retention.facts import Facts, MonthFacts, Stock
from retention.guards import GUARDS
from retention.month import Month
from retention.plan import Kind
from retention.plan_text import plan_lines
from retention.planning import plan
from retention.policy_file import parse
from server.cli.importing.git_log import Commit, Person
from server.cli.importing.review import events_of
from tests.support.policies import EXAMPLE

REVIEW_EVENTS = Path(os.environ.get("TRACKD_REVIEW_EVENTS", "../shared/data/review-events.jsonl.gz"))
TRAILERS = ("Reviewed", "Acked", "Tested", "Reported", "Signed-off", "Helped", "Suggested", "Co-authored")
NOW_MS = int(datetime(2026, 11, 22, tzinfo=UTC).timestamp()) * 1000
TEXT = EXAMPLE.read_text("utf-8")


def test_its_types_are_those_that_an_import_makes() -> None:
    """Each is matched by a class of its own, none of them by `*`; and no glob of it is there for nothing."""
    ann = Person("Ann", "ann@example.org")
    body = "".join(f"{name}-by: Ben <ben@example.org>\n" for name in TRAILERS) + "Fixes #7\n"
    commit = Commit("a" * 40, 1, 1, 1, ann, ann, "Merge pull request #4", body, 1, 1, 1, {"src": 1})
    made = {event.type for event in events_of(commit, "trackd")}
    assert len(made) == 12
    policy = parse(TEXT)
    classes = {name: policy.class_of(name) for name in made}
    assert {one.name for one in classes.values() if one} == {"contributions", "reviews", "sign-offs"}
    for one in policy.classes:
        assert one.takes_the_rest or {name for name in made if one.matches(name)}


def test_defaults_that_it_names_are_the_defaults() -> None:
    """So that a line may be taken away without changing what is meant."""
    document = tomllib.loads(TEXT)
    for section in ("rotation", "guards", "clock"):
        assert section in document
    shorter = TEXT.replace('seal_after = "7 days"\n', "").replace("months_per_run_max = 6\n", "")
    shorter = shorter.replace("share_of_store_max = 0.2\n", "").replace('max_gap = "40 days"\n', "")
    assert parse(shorter).digest == parse(TEXT).digest


@pytest.mark.skipif(not REVIEW_EVENTS.exists(), reason="the shared review events are not beside this checkout")
def test_a_plan_over_twenty_years_of_reviews_can_be_read() -> None:
    """262 months: every month is sealed, nothing goes before its time, and the text fits on a page or two."""
    counts: Counter[tuple[Month, str]] = Counter()
    with gzip.open(REVIEW_EVENTS, "rb") as file:
        for line in file:
            event = json.loads(line)
            counts[Month.of(event["ts"]), event["type"]] += 1
    by_month: dict[Month, list[Stock]] = {}
    for (month, name), rows in counts.items():
        by_month.setdefault(month, []).append(Stock(name, rows, rows * 100))
    facts = Facts(
        tuple(
            MonthFacts(month, 1, "", False, tuple(stocks), month.start_ms, month.end_ms - 1)
            for month, stocks in by_month.items()
        )
    )
    policy = parse(TEXT)
    found = plan(policy, facts, NOW_MS)
    assert sum(one.kind is Kind.SEAL for one in found.actions) == len(by_month) == 262
    assert {one.name for one in found.guards} == {"share_of_store", "months_per_run"}
    assert found.without_policy == ()
    dropped = sum(one.rows for one in found.actions if one.kind is Kind.DROP)
    due = {one.name: next(step.after for step in one.steps if step == one.steps[-1]) for one in policy.classes}
    expected = 0
    for (month, name), rows in counts.items():
        one = policy.class_of(name)
        assert one
        expected += rows if due[one.name].after(month) <= NOW_MS else 0
    assert dropped == expected
    assert not any(one.blocked for one in plan(policy, facts, NOW_MS, GUARDS).actions)
    assert len(plan_lines(found)) < 80
