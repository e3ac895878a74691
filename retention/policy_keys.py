"""The grammar of the policy file, as data: the parser reads with it, and the JSON Schema for editors is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from retention.globs import GLOB_PATTERN
from retention.period import PERIOD_PATTERN, SPAN_PATTERN

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
SUBJECT_PATTERN = (
    r"^(session_id|client_ip|description|tags|change\.row_id"
    r"|(metadata|change\.old_values|change\.new_values)\.[^\s.]+(\.[^\s.]+)*)$"
)
RULE_NAMES = ("keep", "drop", "truncate", "rekey per day")
GRAINS_MS = {"minute": 60_000, "quarter-hour": 900_000, "hour": 3_600_000, "day": 86_400_000}
ROUND_NAMES = tuple(f"round to {grain}" for grain in GRAINS_MS)
COUNT_MAX = 1_000_000
DESTRUCTIVE = ("anonymize", "drop", "destroy_archive", "expire")


class Kind(Enum):
    """What a value is written as."""

    TEXT = auto()
    NAME = auto()
    """Goes into evidence and metrics: lower-case letters, digits, "_" and "-"."""
    PERIOD = auto()
    SPAN = auto()
    COUNT = auto()
    SHARE = auto()
    CRON = auto()
    CHOICE = auto()
    TEXTS = auto()
    GLOBS = auto()
    SUBJECT_FIELDS = auto()
    CHOICES = auto()
    RULE = auto()
    TABLE = auto()
    TABLES = auto()
    NAMED_TABLES = auto()


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table, with what it says to whoever writes the file."""

    name: str
    kind: Kind
    says: str
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    """Of a CHOICE, of CHOICES, and the named rules of a RULE."""
    allow_list: bool = False
    """A RULE that may also be a list: what is not in it is dropped."""
    least: int = 1
    """Of a COUNT."""
    only_with: str = ""
    """Belongs to steps that `do` this and to no other."""
    keys: tuple[Key, ...] = ()
    """Of the table or tables."""


PATTERNS = {Kind.NAME: NAME_PATTERN, Kind.PERIOD: PERIOD_PATTERN, Kind.SPAN: SPAN_PATTERN}
ITEM_PATTERNS = {Kind.GLOBS: GLOB_PATTERN, Kind.SUBJECT_FIELDS: SUBJECT_PATTERN}

_PERSON = ("keep", "drop", "rekey per day")
CHANGE_FIELDS = (
    Key("table_name", Kind.RULE, "Which table changed.", choices=("keep", "drop")),
    Key("row_id", Kind.RULE, "Which row changed.", choices=_PERSON),
    Key("old_values", Kind.RULE, "What was there. A list keeps the keys in it.", choices=("keep", "drop"),
        allow_list=True),
    Key("new_values", Kind.RULE, "What is there now. A list keeps the keys in it.", choices=("keep", "drop"),
        allow_list=True),
    Key("outcome", Kind.RULE, "Action, status and rows affected.", choices=("keep", "drop")),
)  # fmt: skip
FIELDS = (
    Key("user_id", Kind.RULE, "Who did it.", choices=_PERSON),
    Key("session_id", Kind.RULE, "Which session it was in.", choices=_PERSON),
    Key("client_ip", Kind.RULE, "From where. truncate: IPv4 /24, IPv6 /48.", choices=("keep", "drop", "truncate")),
    Key("timestamp", Kind.RULE, "When it happened; always needed.", required=True, choices=("keep", *ROUND_NAMES)),
    Key("received", Kind.RULE, "When trackd got it.", choices=("keep", "drop", *ROUND_NAMES)),
    Key("source", Kind.RULE, "Which service sent it.", choices=("keep", "drop")),
    Key("description", Kind.RULE, "Free text.", choices=("keep", "drop")),
    Key("tags", Kind.RULE, "A list keeps the tags in it.", choices=("keep", "drop"), allow_list=True),
    Key("metadata", Kind.RULE, "A list keeps the keys in it.", choices=("keep", "drop"), allow_list=True),
    Key("change", Kind.TABLE, "The audit part of an event.", default={}, keys=CHANGE_FIELDS),
)  # fmt: skip

PROFILE = (
    Key("claim", Kind.CHOICE, "What is said of the rows afterwards. anonymous is checked before it is believed.",
        required=True, choices=("pseudonymous", "anonymous")),
    Key("k", Kind.COUNT, 'Fewest users a cell may have under the claim "anonymous".', least=2),
    Key("fields", Kind.TABLE, "Field -> rule. A field without a rule is dropped.", required=True, keys=FIELDS),
)  # fmt: skip

STEP = (
    Key("after", Kind.PERIOD, "The age at which it is due, from the end of the month.", required=True),
    Key("do", Kind.CHOICE, "What happens.", required=True, choices=("anonymize", "archive", "drop")),
    Key("profile", Kind.NAME, "The [profile.NAME] that rows go through.", required=True, only_with="anonymize"),
    Key("target", Kind.NAME, "The [archive.NAME] that the copy goes to.", required=True, only_with="archive"),
    Key("keep", Kind.PERIOD, "The age, from the end of the month, at which the archive is destroyed.", required=True,
        only_with="archive"),
)  # fmt: skip

CLASS = (
    Key("name", Kind.NAME, "What plans, receipts and metrics call it.", required=True),
    Key("types", Kind.GLOBS, 'Event types; * is any run of letters. "*" alone: all types of no other class.',
        required=True),
    Key("purpose", Kind.TEXT, "What the events are kept for, GDPR Art. 30(1)(b).", required=True),
    Key("legal_basis", Kind.TEXT, "Why that is lawful, GDPR Art. 6(1).", required=True),
    Key("keep_at_least", Kind.PERIOD, "Until this age a complete copy is kept, live or archived."),
    Key("keep_at_most", Kind.PERIOD, "At this age every copy that is not anonymous is gone.", required=True),
    Key("late", Kind.CHOICE, "Events that arrive after their month was sealed.", default="reject",
        choices=("reject", "reopen")),
    Key("subject_fields", Kind.SUBJECT_FIELDS, "Who is in an event beyond user_id.", default=()),
    Key("subjects", Kind.TEXTS, "Categories of people, for the record of processing.", default=()),
    Key("data", Kind.TEXTS, "Categories of personal data, for the record of processing.", default=()),
    Key("recipients", Kind.TEXTS, "Categories of recipients, for the record of processing.", default=()),
    Key("step", Kind.TABLES, "What becomes of the events, in the order in which it is due.", required=True, keys=STEP),
)  # fmt: skip

POLICY = (
    Key("rotation", Kind.TABLE, "When a month is closed.", default={}, keys=(
        Key("seal_after", Kind.PERIOD, "How long after its end a month is sealed.", default="7 days"),
    )),
    Key("schedule", Kind.TABLE, "When the daemon plans and applies by itself. Without it, never.", keys=(
        Key("cron", Kind.CRON, "Five fields: minute, hour, day, month, weekday; UTC.", required=True),
        Key("jitter", Kind.SPAN, "Starts up to this much later.", default="10 minutes"),
    )),
    Key("guards", Kind.TABLE, "What one run may destroy without being asked.", default={}, keys=(
        Key("share_of_store_max", Kind.SHARE, "Largest share of the live events, 0 to 1.", default=0.2),
        Key("months_per_run_max", Kind.COUNT, "Most months that lose something.", default=6),
        Key("two_person", Kind.CHOICES, "Actions that need a second person's word.", default=(), choices=DESTRUCTIVE),
    )),
    Key("clock", Kind.TABLE, "When the clock is not believed.", default={}, keys=(
        Key("max_gap", Kind.SPAN, "Longest time between two runs, and since the newest event.", default="40 days"),
    )),
    Key("backups", Kind.TABLE, "Copies of the whole data directory. Without it there are none.", keys=(
        Key("max_age", Kind.PERIOD, "The age at which the oldest backup is destroyed.", required=True),
    )),
    Key("controller", Kind.TABLE, "Who answers for the processing, for the record of it.", default={}, keys=(
        Key("name", Kind.TEXT, "The organization.", default=""),
        Key("contact", Kind.TEXT, "How to reach it.", default=""),
        Key("data_protection_officer", Kind.TEXT, "How to reach that person.", default=""),
        Key("measures", Kind.TEXTS, "What protects the data beyond this file, Art. 30(1)(g).", default=()),
    )),
    Key("archive", Kind.NAMED_TABLES, "Where archives go, by name.", default={}, keys=(
        Key("url", Kind.TEXT, "A folder, or a URL that fsspec knows.", required=True),
        Key("recipient", Kind.TEXT, "Who runs that place, if it is somebody else.", default=""),
        Key("country", Kind.TEXT, "Where it is, if outside of the EEA.", default=""),
    )),
    Key("profile", Kind.NAMED_TABLES, "How rows are anonymized, by name.", default={}, keys=PROFILE),
    Key("class", Kind.TABLES, "Events that are kept alike.", required=True, keys=CLASS),
)  # fmt: skip
