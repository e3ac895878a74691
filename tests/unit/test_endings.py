"""When retention last ended well, and not, for each class."""

from __future__ import annotations

from retention.policy import Policy
from server.retention.endings import EVERY, Endings, overdue_seconds
from tests.support.policies import drop, event_class, policy


def classes(*names: str) -> Policy:
    """A policy that has these."""
    return policy(*(event_class(name, [f"{name}_*"], "2 years", drop("1 year")) for name in names))


def known(*names: str, at_ms: int = 100) -> Endings:
    """Classes that are known since then."""
    endings = Endings()
    endings.know(classes(*names), at_ms)
    return endings


def test_a_class_counts_from_when_it_is_known() -> None:
    """A policy that is new has time for its first run; one that is looked at again has not more of it."""
    endings = known("a", "b")
    assert (endings.success_ms, endings.failure_ms) == ({"a": 100, "b": 100}, {"a": 0, "b": 0})
    endings.know(classes("b", "c"), 200)
    assert endings.success_ms == {"b": 100, "c": 200}


def test_a_run_ends_well_for_classes_of_which_everything_was_done() -> None:
    """What waits, for a guard or a second person, is no failure, and no success."""
    endings = known("a", "b", "c")
    endings.ended(300, undone={"b", "c"}, failed={"c"})
    assert endings.success_ms == {"a": 300, "b": 100, "c": 100}
    assert endings.failure_ms == {"a": 0, "b": 0, "c": 300}
    endings.ended(400)
    assert endings.success_ms == {"a": 400, "b": 400, "c": 400}
    assert endings.failure_ms["c"] == 300


def test_what_stops_a_whole_run_stops_it_for_each_class() -> None:
    """Such as a policy that cannot be read."""
    endings = known("a", "b")
    endings.ended(300, failed=[EVERY])
    assert endings.failure_ms == {"a": 300, "b": 300}
    assert endings.success_ms == {"a": 100, "b": 100}


def test_what_is_overdue_is_so_for_so_many_seconds() -> None:
    """From the moment that it should have gone; a clock that is behind makes none of it negative."""
    assert overdue_seconds({"a": 0, "b": 1_000, "": 5_000}, 4_000) == {"a": 0, "b": 3, "(backups)": 0}
