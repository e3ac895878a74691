"""How retention stands for each class of the policy, as gauges show it: no names but those of classes."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from retention.applying import Receipt, Status
from retention.plan import Overdue, Plan
from retention.policy import Policy


class Marks:
    """When runs ended how, and since when something is overdue. Written on one thread; any may read."""

    def __init__(self) -> None:
        self.success_ms: Mapping[str, int] = {}
        """Class -> when a run last left nothing of it undone, or found nothing to do, or when it was first known."""
        self.failure_ms: Mapping[str, int] = {}
        """Class -> when a run last failed for it; 0 if none has."""
        self.overdue_since_ms: Mapping[str, int] = {}
        """Class -> since when something of it is overdue, as of the last look; 0 if nothing is."""

    def know(self, policy: Policy, now_ms: int) -> None:
        """These are the classes that there are now."""
        names = [one.name for one in policy.classes]
        self.success_ms = {name: self.success_ms.get(name, now_ms) for name in names}
        self.failure_ms = {name: self.failure_ms.get(name, 0) for name in names}
        self.overdue_since_ms = {name: self.overdue_since_ms.get(name, 0) for name in names}

    def looked(self, policy: Policy, found: Collection[Overdue], now_ms: int) -> None:
        """This much is overdue. Backups, which are of no class, are left to their own alarm."""
        self.know(policy, now_ms)
        late = {one.class_name: one.since_ms for one in found}
        self.overdue_since_ms = {name: late.get(name, 0) for name in self.overdue_since_ms}

    def planned(self, policy: Policy, plan: Plan) -> None:
        """This is to be done: classes that nothing is to be done for are as they should be."""
        self.looked(policy, plan.overdue, plan.now_ms)
        self._succeed({one.class_name for one in plan.actions}, plan.now_ms)

    def ran(self, policy: Policy, receipt: Receipt) -> None:
        """A run came to this receipt. Sealing is of all classes."""
        self.know(policy, receipt.ended_ms)
        self._succeed(
            {one.action.class_name for one in receipt.results if one.status is not Status.DONE}, receipt.ended_ms
        )
        failed = {one.action.class_name for one in receipt.results if one.status is Status.FAILED}
        hit = self.failure_ms if "" in failed else failed & self.failure_ms.keys()
        self.failure_ms = {**self.failure_ms, **dict.fromkeys(hit, receipt.ended_ms)}

    def failed(self, now_ms: int) -> None:
        """A run failed as a whole."""
        self.failure_ms = dict.fromkeys(self.failure_ms, now_ms)

    def _succeed(self, undone: Collection[str], now_ms: int) -> None:
        if "" not in undone:
            self.success_ms = {name: before if name in undone else now_ms for name, before in self.success_ms.items()}
