"""Which reported numbers a retention action changes. Totals by type and month are never among them."""

from __future__ import annotations

from retention.policy import Claim, Profile, Treatment

NUMBERS = {
    "rows": "events are no longer listed; counts and distinct users stay at their frozen grains, all else is refused",
    "distinct_users": "distinct users come from the frozen numbers, at their grains",
    "by_user": "questions about one user are refused if these events are in question; lists do not find them",
    "by_session": "questions about a session do not find these events",
    "by_source": "plain counts by source come from the frozen numbers; else questions about a source miss these events",
    "by_tag": "questions about tags find only those that the profile keeps",
    "by_metadata": "questions about metadata find only the keys that the profile keeps",
    "by_row": "questions about a changed row do not find these events",
    "by_time": "times are rounded: questions below that grain are refused, but for plain counts by quarter-hour",
    "small_cells": (
        "of anonymous rows frozen numbers are left by day, week or month of UTC where k users or none share every one "
        "of them, none by source or quarter-hour; totals by type and month always"
    ),
    "archive": "the archive cannot be asked or restored any more",
}
"""Key -> what a person reads."""

_BY_FIELD = (
    ("user_id", "distinct_users"),
    ("user_id", "by_user"),
    ("session_id", "by_session"),
    ("source", "by_source"),
    ("tags", "by_tag"),
    ("metadata", "by_metadata"),
    ("change.row_id", "by_row"),
    ("timestamp", "by_time"),
)


def changed_by_profile(profile: Profile) -> tuple[str, ...]:
    """The keys of NUMBERS for rows that go through the profile."""
    changed = [number for field, number in _BY_FIELD if profile.rule(field).treatment is not Treatment.KEEP]
    return (*changed, "small_cells") if profile.claim is Claim.ANONYMOUS else tuple(changed)
