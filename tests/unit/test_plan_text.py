"""How a plan reads, and the record of processing that a policy states."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from retention.facts import Copy, CopyKind, Facts, Held, MonthFacts, Stock
from retention.month import Month
from retention.numbers import NUMBERS
from retention.plan_text import Style, plan_lines
from retention.planning import plan
from retention.policy_file import parse
from retention.processing_record import NOT_STATED, markdown, record
from tests.support.policies import EXAMPLE, anonymize, archive, document, drop, event_class, policy

NOW_MS = int(datetime(2025, 9, 2, tzinfo=UTC).timestamp()) * 1000
POLICY = policy(
    event_class("reviews", ["review"], "3 years", anonymize("3 months"), drop("2 years")),
    event_class("signed", ["signed"], "2 years", archive("1 month", "1 year"), drop("2 months")),
    guards={"share_of_store_max": 0.5, "months_per_run_max": 9, "two_person": ["drop"]},
)


def facts() -> Facts:
    """Five months with a gap, a hold, an old archive, and a type without a class."""
    months = []
    for number in (1, 2, 3, 5, 7):
        month = Month(2025, number)
        stocks = [Stock("review", 1_000, 200_000)]
        if number == 5:
            stocks.append(Stock("signed", 30, 3_000, held=Held(10, (("H-7", 10),))))
        if number == 7:
            stocks.append(Stock("news", 1, 10))
        months.append(MonthFacts(month, 1, "d" * 64, True, tuple(stocks), month.start_ms, month.end_ms - 1))
    old = Copy(CopyKind.ARCHIVE, "a1", ("signed",), 5, 2_048, 0, "local", verified=True)
    months.append(MonthFacts(Month(2023, 1), 4, "d" * 64, True, copies=(old,)))
    return Facts(tuple(months))


def test_a_plan_reads_like_this() -> None:
    """What, to which months, why, what is left alone, what stops it, what is overdue, what it changes, in sum."""
    found = plan(POLICY, facts(), NOW_MS)
    lines = plan_lines(found)
    text = "\n".join(line.text for line in lines)
    assert text.replace(found.id[:12], "ID").replace(found.policy[:12], "POLICY") == EXPECTED
    styles = {line.text.split(":")[0]: line.style for line in lines}
    assert styles["~ anonymize reviews"] is Style.CHANGES
    assert styles["- drop signed"] is Style.DESTROYS
    assert styles["+ archive signed"] is Style.ADDS
    assert styles["Stopped"] is Style.HEADING
    assert styles["  share_of_store"] is Style.WARNING


EXPECTED = """Plan ID at 2025-09-02 00:00 UTC, policy POLICY

- destroy archive signed: 2023-01, 5 events, 2.0 KiB  [stopped: share_of_store]
    class "signed", step 1: keep = "1 year"; due 2024-02-01, the oldest month is 2 years 7 months old
    archive local: a1

+ freeze reviews: 2025-01 to 2025-05 (4 months, with gaps), 4,000 events, 781.2 KiB
    numbers are frozen before rows change; due 2025-05-01 to 2025-09-01, the oldest month is 7 months old

~ anonymize reviews: 2025-01 to 2025-05 (4 months, with gaps), 4,000 events, 781.2 KiB  [stopped: share_of_store]
    class "reviews", step 1: after = "3 months", do = "anonymize"; due 2025-05-01 to 2025-09-01, \
the oldest month is 7 months old
    afterwards "pseudonymous"

+ freeze signed: 2025-05, 30 events, 2.9 KiB
    numbers are frozen before rows change; due 2025-07-01, the oldest month is 3 months old

+ archive signed: 2025-05, 30 events, 2.9 KiB
    class "signed", step 1: after = "1 month", do = "archive"; due 2025-07-01, \
the oldest month is 3 months old
    archive local

- drop signed: 2025-05, 20 events, 2.0 KiB  [stopped: share_of_store]
    class "signed", step 2: after = "2 months", do = "drop"; due 2025-08-01, the oldest month is 3 months old
    leaves 10 events alone, held by H-7
    needs a second person

Stopped:
  share_of_store: 4,020 of 5,031 events would be lost (80%); guards.share_of_store_max is 50%; \
nothing is destroyed until an operator accepts it

Overdue:
  signed: 5 events, 1 month (archive), since 2025-02-01

Reported numbers (totals by type and month stay as they are):
  events are no longer listed; counts and distinct users stay at their frozen grains, all else is refused
  distinct users come from the frozen numbers, at their grains
  questions about one user are refused if these events are in question; lists do not find them
  questions about a session do not find these events
  plain counts by source come from the frozen numbers; else questions about a source miss these events
  questions about tags find only those that the profile keeps
  questions about metadata find only the keys that the profile keeps
  questions about a changed row do not find these events
  the archive cannot be asked or restored any more

Without a class:
  news: nothing ever happens to them

4 months to freeze, 4 months to anonymize (4,000 events), 1 month to archive (30 events), \
1 month to drop (20 events), 1 month to destroy archive (5 events). 6 of 12 actions are stopped."""


def test_every_month_can_have_its_own_entry() -> None:
    """For whoever wants to see one."""
    found = plan(POLICY, facts(), NOW_MS)
    entries = [line.text for line in plan_lines(found, every_month=True) if line.text.startswith("~")]
    assert [entry.split(",")[0] for entry in entries] == [
        f"~ anonymize reviews: 2025-0{number}" for number in (1, 2, 3, 5)
    ]


def test_nothing_to_do_is_said_so() -> None:
    """And what is due all the same."""
    assert [line.text for line in plan_lines(plan(POLICY, Facts(()), NOW_MS))][-1] == "Nothing to do."
    month = Month(2022, 1)
    held = Stock("review", 9, 90, held=Held(9, (("H-7", 9),)))
    kept = MonthFacts(month, 1, "d" * 64, True, (held,), month.start_ms, month.start_ms, frozen=frozenset({"review"}))
    text = [line.text for line in plan_lines(plan(POLICY, Facts((kept,)), NOW_MS))]
    assert "  drop reviews: 2022-01, 9 events: held by H-7" in text
    assert text[-1] == "Nothing to do; 9 events are due and withheld."


def test_every_number_that_may_change_has_its_words() -> None:
    """No action names one that nobody explained."""
    changed = {name for one in plan(POLICY, facts(), NOW_MS).actions for name in one.numbers}
    assert changed
    assert changed <= NUMBERS.keys()


# The record of processing


def test_the_record_has_what_article_30_asks_for() -> None:
    """Per class: purpose, legal basis, categories, recipients, and how long each copy exists in which form."""
    text = EXAMPLE.read_text("utf-8")
    told = record(parse(text))
    assert told["controller"] == {
        "name": "Example Project",
        "contact": "privacy@example.org",
        "data_protection_officer": None,
    }
    reviews = next(one for one in told["activities"] if one["name"] == "reviews")
    assert reviews["purpose"] == "Show who waits for a review, and share reviewing fairly"
    assert reviews["subjects"] == ["Contributors", "Reviewers"]
    assert reviews["keep_at_most"] == "3 years"
    assert reviews["copies"] == [
        {"copy": "live", "form": "as it was sent", "from": None, "until": "13 months"},
        {"copy": "live", "form": "pseudonymous, profile reviewing", "from": "13 months", "until": "2 years"},
        {"copy": "backups", "form": "as it was live", "from": None, "until": "2 years and another 35 days"},
    ]
    assert json.loads(json.dumps(told)) == told


def test_recipients_and_transfers_come_from_archives_as_well() -> None:
    """Whoever keeps an archive for somebody gets the data; what is anonymous has no end."""
    written = document(
        event_class("a", ["*"], "2 years", archive("1 month", "1 year", "far"), anonymize("1 year", "anon"),
            recipients=["Auditors"])
    )  # fmt: skip
    written["archive"]["far"] |= {"recipient": "A hosting company", "country": "Switzerland"}
    found = policy(*written["class"], archive=written["archive"])
    (told,) = record(found)["activities"]
    assert told["recipients"] == ["Auditors", "A hosting company"]
    assert told["transfers"] == [{"archive": "far", "country": "Switzerland"}]
    assert told["copies"][-1] == {"copy": "live", "form": "anonymous, profile anon", "from": "1 year", "until": None}
    text = markdown(found)
    assert "| live | anonymous, profile anon | 1 year | no end: not personal data any more |" in text
    assert "- Transfers to third countries: Switzerland (archive far)" in text
    assert f"- Controller: {NOT_STATED}" in text


def test_what_people_wrote_does_not_break_the_document() -> None:
    """Tables, headings and links of Markdown stay what they are."""
    found = policy(event_class("a", ["*"], "1 year", drop("1 month"), purpose="a | b\n# c [d](e) <f>"))
    assert "- Purpose: a \\| b \\# c \\[d\\](e) \\<f\\>\n" in markdown(found)
