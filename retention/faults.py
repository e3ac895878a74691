"""What can be wrong with something that a person wrote: in words, with what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


class Misworded(ValueError):
    """A text or value that does not say what it should."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem}: {advice}")
        self.problem = problem
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a document, at this path of keys and indexes."""

    path: tuple[str | int, ...]
    problem: str
    advice: str
