"""Policy documents, as tomllib gives them: small ones for examples, random ones for properties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from retention.policy import Policy
from retention.policy_file import read

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "retention.toml"
SCHEMA = ROOT / "deploy" / "retention.schema.json"

PROFILES: dict[str, Any] = {
    "pseudo": {"claim": "pseudonymous", "fields": {"user_id": "rekey per day", "timestamp": "keep"}},
    "anon": {
        "claim": "anonymous",
        "k": 10,
        "fields": {
            "user_id": "drop",
            "session_id": "drop",
            "client_ip": "drop",
            "timestamp": "round to hour",
            "received": "drop",
            "source": "keep",
            "description": "drop",
            "tags": "drop",
            "metadata": ["repo"],
            "change": {
                "table_name": "keep",
                "row_id": "drop",
                "old_values": "drop",
                "new_values": "drop",
                "outcome": "keep",
            },
        },
    },
}
TARGETS = {"local": {"url": "./archive"}, "far": {"url": "s3://bucket/archive"}}


def anonymize(after: str, profile: str = "pseudo") -> dict[str, Any]:
    """A step."""
    return {"after": after, "do": "anonymize", "profile": profile}


def archive(after: str, keep: str, target: str = "local") -> dict[str, Any]:
    """A step."""
    return {"after": after, "do": "archive", "target": target, "keep": keep}


def drop(after: str) -> dict[str, Any]:
    """A step."""
    return {"after": after, "do": "drop"}


def event_class(name: str, types: list[str], most: str, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A class."""
    why = {"purpose": "Testing", "legal_basis": "Art. 6(1)(f)"}
    return {"name": name, "types": types, "keep_at_most": most, "step": list(steps), **why, **more}


def document(*classes: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """A policy file with the profiles and targets that the classes use."""
    steps = [step for one in classes for step in one["step"]]
    chosen = {
        "profile": {name: one for name, one in PROFILES.items() if any(step.get("profile") == name for step in steps)},
        "archive": {name: one for name, one in TARGETS.items() if any(step.get("target") == name for step in steps)},
    }
    return {"class": list(classes), **chosen, **sections}


def policy(*classes: dict[str, Any], **sections: Any) -> Policy:
    """The policy of such a document."""
    return read(document(*classes, **sections))


LOOSE: dict[str, dict[str, Any]] = {
    "guards": {"share_of_store_max": 1.0, "months_per_run_max": 1_000},
    "clock": {"max_gap": "5000 days"},
}
"""Guards that stop nothing."""
TYPES = ("change_landed", "pr_merged", "review_submitted", "sign_off")


@st.composite
def classes(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Classes over TYPES, each type with one; some leave the rest to `*`."""
    names = draw(st.permutations(TYPES))
    cuts = sorted(draw(st.sets(st.integers(1, len(TYPES) - 1), max_size=2)))
    groups = [list(names[start:end]) for start, end in zip([0, *cuts], [*cuts, len(names)], strict=True)]
    if draw(st.booleans()):
        groups[-1] = ["*"]
    return [draw(_class(f"class-{index}", group)) for index, group in enumerate(groups)]


@st.composite
def _class(draw: st.DrawFn, name: str, types: list[str]) -> dict[str, Any]:
    """Steps at rising ages, in months or days, that lint has nothing to say about."""
    ages = sorted(draw(st.lists(st.integers(1, 30), min_size=5, max_size=5)))
    steps: list[dict[str, Any]] = []
    if draw(st.booleans()):
        steps.append(archive(f"{ages[0]} months", f"{ages[0] + draw(st.integers(1, 40))} months"))
    if draw(st.booleans()):
        steps.append(anonymize(f"{ages[1]} months"))
    if draw(st.booleans()):
        steps.append(archive(f"{ages[2]} months", f"{ages[2] + draw(st.integers(1, 40))} months", "far"))
    last_months = max(ages[3], *(int(step["keep"].split()[0]) for step in steps if "keep" in step), 1)
    if draw(st.integers(0, 3)) == 0:
        steps.append(anonymize(f"{last_months} months", "anon"))
    else:
        in_days = draw(st.booleans())
        steps.append(drop(f"{ages[3] * 31} days" if in_days else f"{ages[3]} months"))
    kept = [int(step["keep"].split()[0]) for step in steps if "keep" in step]
    most = max([ages[4], last_months, ages[3] * 31 // 28 + 1, *kept]) + draw(st.integers(0, 6))
    more: dict[str, Any] = {"late": draw(st.sampled_from(("reject", "reopen")))}
    first = next(step for step in steps if step["do"] != "archive")
    if draw(st.booleans()):
        complete = [int(step["keep"].split()[0]) for step in steps[: steps.index(first)]]
        unit = first["after"].split()[1]
        until = int(first["after"].split()[0]) if unit == "months" else int(first["after"].split()[0]) // 31
        more["keep_at_least"] = f"{max([until, *complete])} months"
    return event_class(name, types, f"{most} months", *steps, **more)


def documents(**sections: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Whole policy files without fault."""
    return classes().map(lambda found: document(*found, **sections))
