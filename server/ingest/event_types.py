"""Which event types are taken: the registry as the validation sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from server.model import EventType


def _any(_name: str) -> bool:
    return True


class EventTypes:
    """The names of the registry. Used on the writer's thread only.

    Names are added here when a batch passes, before the store has them: the store registers them with the commit.
    """

    def __init__(self, entries: Iterable[EventType], *, open_registry: bool, types_max: int) -> None:
        self.known = {entry.name for entry in entries}
        self.open_registry = open_registry
        self.types_max = types_max
        self.has_policy: Callable[[str], bool] = _any
        """Whether the retention policy has a class for a type; without a policy it is not asked."""

    def refusal(self, name: str) -> tuple[str, str] | None:
        """Why an event of this (well-formed) type is not taken, as reason and message; None if it is."""
        if name in self.known:
            return None
        if not self.open_registry:
            return "TYPE_UNKNOWN", f"the type {name!r} is not registered and the registry is closed; register it first"
        if not self.has_policy(name):
            return (
                "TYPE_WITHOUT_POLICY",
                f"the retention policy has no class for the type {name!r}; ask the operator to add one",
            )
        if len(self.known) >= self.types_max:
            return "TYPE_LIMIT", f"{name!r} would be one type more than the {self.types_max} allowed"
        self.known.add(name)
        return None
