"""What the figures of one kind of question mean, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INGEST_FACTOR = 3
"""While events come in, an answer may take this many times the bar."""
EQUAL = "equal"


def judge(entry: dict[str, Any]) -> None:
    """Adds `bars_met` (None without a bar), `slower_than` and `verdict` to the entry of a kind of question."""
    entry["bars_met"] = None if entry["bar_p99_ms"] is None else not _missed(entry)
    entry["slower_than"] = [name for name, peer in entry["peers"].items() if _slower(entry["idle"], peer)]
    entry["verdict"] = "; ".join(_words(entry))


def failed(entry: Mapping[str, Any]) -> bool:
    """Whether trackd gave no answer, or another one than a peer."""
    unanswered = any("error" in entry.get(phase, {}) for phase in ("idle", "with_ingest"))
    return unanswered or any(peer.get("answers", EQUAL) != EQUAL for peer in entry["peers"].values())


def _missed(entry: Mapping[str, Any]) -> list[str]:
    """The phases in which a bar is missed."""
    bars = {"idle": entry["bar_p99_ms"], "with_ingest": entry["bar_with_ingest_p99_ms"]}
    return [phase for phase, bar in bars.items() if bar and not entry[phase].get("p99_ms", bar) < bar]


def _slower(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """At which percentile we are slower and how many times, or ""."""
    if "error" in ours:
        return ""
    ratios = {name: ours[f"{name}_ms"] / max(theirs[f"{name}_ms"], 1e-3) for name in ("p50", "p99")}
    return " ".join(f"{name} x{ratio:.3g}" for name, ratio in ratios.items() if ratio > 1)


def _words(entry: Mapping[str, Any]) -> list[str]:
    words, peers = [], entry["peers"]
    if error := entry["idle"].get("error", "") or entry["with_ingest"].get("error", ""):
        words.append(f"NOT ANSWERED: {error}")
    for name, peer in peers.items():
        if peer.get("answers", EQUAL) != EQUAL:
            words.append(f"ANSWER DIFFERS from {name}: {peer['answers']}")
    slower = [f"{name} ({_slower(entry['idle'], peers[name])})" for name in entry["slower_than"]]
    if slower:
        words.append(f"slower than {', '.join(slower)}")
    elif peers and not words:
        words.append(f"faster than {' and '.join(peers)}")
    words += [f"bar missed {phase.replace('_', ' ')}" for phase in _missed(entry)]
    return words
