"""What is told while entries are pulled: not too much of one thing, and that somebody is waited for."""

from __future__ import annotations

import pytest
from rich.progress import Progress
from structlog.testing import capture_logs

from server.cli.pulling.entry import Entry
from server.cli.pulling.ledger import Counts, Refusal
from server.cli.pulling.show import COUNTS_EVERY_S, REFUSALS_TOLD, SILENCE_S, LogLines, Watch, result, verdict

SECRET = "Zq9Xw"  # noqa: S105 - that of nobody


def refusal(number: int, reason: str) -> Refusal:
    """Of an entry that must not be quoted."""
    entry = Entry("s", f"{number}-0", [b"type", SECRET.encode()])
    return Refusal(entry, reason, f"no event: {SECRET}", "no event")


def test_only_the_first_refusals_of_each_reason_are_told_and_none_is_quoted() -> None:
    """A stream of nonsense must not fill the disk with log lines."""
    with capture_logs() as logged:
        lines = LogLines(dead_letter="dead")
        for reason in ("A", "B"):
            for number in range(REFUSALS_TOLD + 5):
                lines.refused(refusal(number, reason))
    assert len(logged) == 2 * REFUSALS_TOLD
    assert logged[0] == {
        "event": "entry_refused",
        "log_level": "warning",
        "stream": "s",
        "entry": "0-0",
        "reason": "A",
        "why": "no event",
        "kept": "dead letter",
    }
    assert SECRET not in str(logged)


def test_waiting_for_the_daemon_is_told_once_and_so_is_its_end() -> None:
    """Not while there is nothing that it could answer."""
    now_s = [0.0]
    with capture_logs() as logged:
        watch = Watch(Progress(disable=True), LogLines(dead_letter=None), lambda: now_s[0])
        looks = [(0.0, 5, 5), (SILENCE_S, 5, 5), (SILENCE_S + 1, 9, 5), (2 * SILENCE_S, 9, 5), (3 * SILENCE_S, 9, 5)]
        looks += [(3 * SILENCE_S + 1, 9, 6), (3 * SILENCE_S + 2, 9, 9)]
        for at_s, read, stored in looks:
            now_s[0] = at_s
            watch.look(Counts(read=read, stored=stored))
    told = [one["event"] for one in logged]
    assert told == ["waiting_for_the_daemon", "the_daemon_answers"]
    assert logged[0]["unanswered"] == 4


def test_the_account_is_logged_now_and_then_while_it_changes() -> None:
    """Where no terminal shows it."""
    now_s = [0.0]
    with capture_logs() as logged:
        watch = Watch(Progress(disable=True), LogLines(dead_letter=None), lambda: now_s[0])
        for minute, stored in enumerate([0, 3, 3, 3, 4]):
            now_s[0] = minute * COUNTS_EVERY_S
            watch.look(Counts(read=stored, stored=stored))
    assert [(one["event"], one["stored"]) for one in logged] == [("pulled", 3), ("pulled", 4)]


def test_the_result_names_every_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    """In a sentence, and with its number in the table."""
    counts = Counts(read=15, stored=1, duplicate=2, trimmed=3, deferred=4, parked=4, acknowledged=7)
    counts.refused.update({"A": 3, "B": 2})
    told = verdict(counts)
    assert counts.settled == 15
    for part in (
        "1 event stored",
        "2 were stored already",
        "1 refused and copied",
        "4 refused, which stay",
        "4 put off",
    ):
        assert part in told
    assert "3 were deleted" in told
    result(counts, 3.0, None)
    said = capsys.readouterr().out
    for part in ("refused: A", "refused: B", "put off", "deleted before", "acknowledged"):
        assert part in said
