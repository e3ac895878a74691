"""The boundaries between the steps of long work on a month, by name. Tests end the process there."""

from __future__ import annotations

SEALING = ("fenced", "drafted", "copied", "indexed", "described", "published", "adopting", "adopted", "retired")
REWRITING = SEALING[1:]
DROPPING = ("dropping", "dropped", "retired")
STEPS = (*SEALING, *DROPPING[:-1])


def reached(_step: str) -> None:
    """Does nothing. Every step in STEPS is announced here by whoever has just done it."""
