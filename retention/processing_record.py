"""The record of processing activities that GDPR Art. 30(1) asks for, as far as a policy file can say it.

It says what the policy orders. What was done is for the evidence to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from retention.policy import Anonymize, Archive, Claim, Drop, EventClass, Policy, Treatment

FORMAT = 1
NOT_STATED = "*not stated*"


def record(policy: Policy) -> dict[str, Any]:
    """The record as JSON values. A text that nobody stated is None, a list that nobody stated is empty."""
    controller = policy.controller
    return {
        "format": FORMAT,
        "policy": policy.digest,
        "controller": {
            "name": controller.name or None,
            "contact": controller.contact or None,
            "data_protection_officer": controller.data_protection_officer or None,
        },
        "measures": [*controller.measures, *_measures(policy)],
        "ages": "from the end of the UTC month in which an event happened",
        "activities": [_activity(policy, one) for one in policy.classes],
    }


def _activity(policy: Policy, one: EventClass) -> dict[str, Any]:
    targets = [step.target for step in one.steps if isinstance(step, Archive)]
    return {
        "name": one.name,
        "types": list(one.types),
        "purpose": one.purpose,
        "legal_basis": one.legal_basis,
        "subjects": list(one.subjects),
        "data": list(one.data),
        "subject_fields": ["user_id", *one.subject_fields],
        "recipients": [*one.recipients, *(target.recipient for target in targets if target.recipient)],
        "transfers": [{"archive": target.name, "country": target.country} for target in targets if target.country],
        "keep_at_least": str(one.keep_at_least) if one.keep_at_least else None,
        "keep_at_most": str(one.keep_at_most),
        "late_events": str(one.late),
        "copies": list(_copies(policy, one)),
    }


def _copies(policy: Policy, one: EventClass) -> Iterator[dict[str, Any]]:
    """Each copy with the age from which and the age until which it exists."""
    form, since = "as it was sent", None
    for step in one.steps:
        match step:
            case Anonymize():
                yield {"copy": "live", "form": form, "from": since, "until": str(step.after)}
                form, since = f"{step.profile.claim}, profile {step.profile.name}", str(step.after)
            case Archive():
                name = f"archive {step.target.name}"
                yield {"copy": name, "form": form, "from": str(step.after), "until": str(step.keep)}
            case Drop():
                yield {"copy": "live", "form": form, "from": since, "until": str(step.after)}
    if not isinstance(one.steps[-1], Drop):
        yield {"copy": "live", "form": form, "from": since, "until": None}
    if policy.backups_max_age:
        last = one.steps[-1].after
        until = f"{last} and another {policy.backups_max_age}"
        yield {"copy": "backups", "form": "as it was live", "from": None, "until": until}


def _measures(policy: Policy) -> Iterator[str]:
    """What the policy itself orders for the protection of the data."""
    profiles = sorted(policy.profiles.values(), key=lambda one: one.name)
    for profile in profiles:
        kept = [name for name, rule in profile.rules if rule.treatment is Treatment.KEEP]
        changed = [f"{name} ({rule})" for name, rule in profile.rules if name not in kept]
        claim = f"k = {profile.k}, checked" if profile.claim is Claim.ANONYMOUS else "personal data still"
        yield (
            f"Profile {profile.name} ({profile.claim}, {claim}) keeps {', '.join(kept) or 'nothing as it is'}; "
            f"changes {', '.join(changed) or 'nothing'}; drops all other fields."
        )
    yield f"Months are closed {policy.seal_after} after their end."
    guards = policy.guards
    yield (
        f"A run that would take away more than {guards.share_of_store_max:.0%} of the events, or something from more "
        f"than {guards.months_per_run_max} months, waits for an operator; so does one whose clock is not believed."
    )
    if guards.two_person:
        yield f"Two persons are needed to {', '.join(name.replace('_', ' ') for name in sorted(guards.two_person))}."


def markdown(policy: Policy) -> str:
    """The record as a document."""
    told = record(policy)
    lines = (*_head(told), *(line for one in told["activities"] for line in _section(one)))
    return "\n".join(lines).rstrip()


def _head(told: dict[str, Any]) -> Iterator[str]:
    controller = told["controller"]
    yield "# Record of processing activities (GDPR Art. 30(1))"
    yield ""
    yield f"What policy `{told['policy']}` orders. Ages count {told['ages']}."
    yield ""
    yield f"- Controller: {_stated(controller['name'])}"
    yield f"- Contact: {_stated(controller['contact'])}"
    yield f"- Data protection officer: {_stated(controller['data_protection_officer'])}"
    yield ""
    yield "## Measures (Art. 30(1)(g))"
    yield ""
    yield from (f"- {_plain(one)}" for one in told["measures"])
    yield ""


def _section(one: dict[str, Any]) -> Iterator[str]:
    yield f"## {one['name']}"
    yield ""
    yield f"- Events: {', '.join(f'`{name}`' for name in one['types'])}"
    yield f"- Purpose: {_plain(one['purpose'])}"
    yield f"- Legal basis: {_plain(one['legal_basis'])}"
    yield f"- Categories of people: {_listed(one['subjects'])}"
    yield f"- Categories of data: {_listed(one['data'])}"
    yield f"- A person is named in: {', '.join(f'`{name}`' for name in one['subject_fields'])}"
    yield f"- Recipients: {_listed(one['recipients'])}"
    transfers = [f"{each['country']} (archive {each['archive']})" for each in one["transfers"]]
    yield f"- Transfers to third countries: {_listed(transfers)}"
    yield f"- Kept at least: {one['keep_at_least'] or 'no obligation'}; at most, in any copy: {one['keep_at_most']}"
    yield ""
    yield "| copy | form | from | until |"
    yield "|---|---|---|---|"
    for copy in one["copies"]:
        until = copy["until"] or "no end: not personal data any more"
        yield f"| {copy['copy']} | {copy['form']} | {copy['from'] or 'receipt'} | {until} |"
    yield ""


def _stated(text: str | None) -> str:
    return _plain(text) if text else NOT_STATED


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(map(_plain, texts)) or NOT_STATED


def _plain(text: str) -> str:
    """What somebody wrote, on one line and without effect on the document."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in " ".join(text.split()))
