"""The policy: which events are kept how long, why, and what becomes of them. Frozen values without any doubt left.

A policy comes out of `policy_file.parse`, which lets none pass that lint complains about: whoever holds one may rely
on what the docstrings here say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from retention import globs
from retention.canonical import digest
from retention.period import Period


class Late(StrEnum):
    """What becomes of an event that arrives after its month was sealed."""

    REJECT = "reject"
    REOPEN = "reopen"
    """The month is opened again, as long as nothing was anonymized or archived."""


class Claim(StrEnum):
    """What the operator says about rows that went through a profile. GDPR Art. 4(5) and Recital 26 tell them apart."""

    PSEUDONYMOUS = "pseudonymous"
    """Still personal data."""
    ANONYMOUS = "anonymous"
    """Nobody's data; checked before the label is given."""


class Treatment(StrEnum):
    """What a profile does to a field. What cannot be treated so is dropped."""

    KEEP = "keep"
    DROP = "drop"
    TRUNCATE = "truncate"
    """Addresses: IPv4 to 24 bits, IPv6 to 48."""
    REKEY = "rekey per day"
    """Another random value each UTC day; the key is not kept."""
    ROUND = "round"
    """Times, down to a whole `grain_ms`."""
    ALLOW = "allow"
    """Of a JSON object only `keys`, of a list only these words."""


@dataclass(frozen=True, slots=True)
class FieldRule:
    """What happens to one field."""

    treatment: Treatment
    grain_ms: int = 0
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.treatment is Treatment.ALLOW:
            return f"only {', '.join(self.keys) or 'nothing'}"
        return f"round to {self.grain_ms // 60_000} min" if self.treatment is Treatment.ROUND else self.treatment


@dataclass(frozen=True)
class Profile:
    """How rows are anonymized. A field without a rule is dropped."""

    name: str
    claim: Claim
    k: int
    """Fewest users a cell may have under the claim "anonymous"; 0 under any other."""
    rules: tuple[tuple[str, FieldRule], ...]
    """Field -> rule, by name of field."""

    def rule(self, field_name: str) -> FieldRule:
        """What happens to the field."""
        return dict(self.rules).get(field_name, FieldRule(Treatment.DROP))

    @cached_property
    def digest(self) -> str:
        """Of what it does, not of what it is called: 64 hexadecimal digits."""
        return digest([self.claim, self.k, [[name, asdict(rule)] for name, rule in self.rules]])


@dataclass(frozen=True, slots=True)
class ArchiveTarget:
    """Where archives go."""

    name: str
    url: str
    recipient: str = ""
    """Who runs that place, if somebody else (Art. 30(1)(d))."""
    country: str = ""
    """Where it is, if outside of the EEA (Art. 30(1)(e))."""


@dataclass(frozen=True, slots=True)
class Anonymize:
    """At this age rows go through the profile."""

    after: Period
    profile: Profile


@dataclass(frozen=True, slots=True)
class Archive:
    """At this age rows are copied to the target, and the copy is destroyed at the age `keep`."""

    after: Period
    target: ArchiveTarget
    keep: Period


@dataclass(frozen=True, slots=True)
class Drop:
    """At this age rows go. Nothing comes after it."""

    after: Period


Step = Anonymize | Archive | Drop


def verb(step: Step) -> str:
    """What the step is called in the policy file."""
    return {Anonymize: "anonymize", Archive: "archive", Drop: "drop"}[type(step)]


@dataclass(frozen=True, slots=True)
class EventClass:
    """Events that are kept alike. All ages count from the end of the month.

    Steps are in the order in which they are due. The last one is a drop, or an anonymize that claims "anonymous".
    """

    name: str
    types: tuple[str, ...]
    """Globs. The single `*` stands for the types that no other class matches."""
    purpose: str
    legal_basis: str
    keep_at_least: Period | None
    """Until this age a copy with all its fields is kept somewhere, live or archived."""
    keep_at_most: Period
    """At this age no copy is left that is not anonymous: live, archived, restored, exported or in a backup."""
    late: Late
    subject_fields: tuple[str, ...]
    """Who is in an event beyond its user: "metadata.author", "change.new_values.reviewer", "change.row_id"."""
    subjects: tuple[str, ...]
    data: tuple[str, ...]
    recipients: tuple[str, ...]
    """Categories of people, of data and of recipients, for the record of processing."""
    steps: tuple[Step, ...]

    def matches(self, event_type: str) -> bool:
        """Whether one of the globs, `*` aside, stands for the type."""
        return any(globs.matches(glob, event_type) for glob in self.types if glob != globs.EVERYTHING)

    @property
    def takes_the_rest(self) -> bool:
        """Whether this is the class of all types that no other matches."""
        return globs.EVERYTHING in self.types


@dataclass(frozen=True, slots=True)
class Guards:
    """What one run may do without being asked. Beyond it a run waits until an operator accepts."""

    share_of_store_max: float
    """Of the live rows, 0 to 1."""
    months_per_run_max: int
    clock_max_gap_ms: int
    """Between the clock of two runs, and between the newest event and the clock while events come in."""
    two_person: frozenset[str]
    """Actions (plan.Kind) that need a second person's word."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When the daemon plans and applies by itself."""

    cron: str
    """Five fields, UTC."""
    jitter_ms: int


@dataclass(frozen=True, slots=True)
class Controller:
    """Who answers for the processing, Art. 30(1)(a). Empty texts are not stated."""

    name: str = ""
    contact: str = ""
    data_protection_officer: str = ""
    measures: tuple[str, ...] = ()
    """Art. 30(1)(g): what protects the data beyond this policy."""


@dataclass(frozen=True)
class Policy:
    """All of it."""

    classes: tuple[EventClass, ...]
    """By name."""
    seal_after: Period
    schedule: Schedule | None
    guards: Guards
    backups_max_age: Period | None
    """None: there are no backups."""
    controller: Controller = field(default_factory=Controller)

    def class_of(self, event_type: str) -> EventClass | None:
        """The one class of a type; None if no class has it."""
        if event_type not in self._found:
            rest = next((one for one in self.classes if one.takes_the_rest), None)
            self._found[event_type] = next((one for one in self.classes if one.matches(event_type)), rest)
        return self._found[event_type]

    @cached_property
    def _found(self) -> dict[str, EventClass | None]:
        """What was looked up before: planning asks for the same types month after month."""
        return {}

    def without_class(self, event_types: Iterable[str]) -> tuple[str, ...]:
        """Those of the types that no class has, by name."""
        return tuple(sorted({name for name in event_types if self.class_of(name) is None}))

    @cached_property
    def digest(self) -> str:
        """Of everything the policy says; 64 hexadecimal digits. Comments and the order of classes say nothing."""
        return digest(_plain(self))

    @cached_property
    def targets(self) -> tuple[ArchiveTarget, ...]:
        """The targets that steps use."""
        steps = (step for one in self.classes for step in one.steps)
        return tuple(dict.fromkeys(step.target for step in steps if isinstance(step, Archive)))

    @cached_property
    def profiles(self) -> dict[str, Profile]:
        """The profiles that steps use, by their digest."""
        steps = (step for one in self.classes for step in one.steps)
        return {step.profile.digest: step.profile for step in steps if isinstance(step, Anonymize)}


def _plain(value: Any) -> Any:
    """Values of JSON: steps with their verb, sets sorted."""
    if isinstance(value, Anonymize | Archive | Drop):
        return {"do": verb(value), **{name: _plain(getattr(value, name)) for name in value.__slots__}}
    if isinstance(value, Period):
        return str(value)
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value
