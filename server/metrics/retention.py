"""The series about what runs of retention did."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from retention.applying import Status
from retention.plan import Kind
from server.observe import RetentionActed


class RetentionSeries:
    """Actions by what they do and how they ended, and the rows of those that were done."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Every series exists from now on, with 0."""
        text = "Actions of runs of retention, by how they ended."
        actions = Counter("trackd_retention_actions", text, ("action", "status"), registry=registry)
        self._actions = {
            (kind.value, status.value): actions.labels(kind.value, status.value) for kind in Kind for status in Status
        }
        text = "Rows that actions of retention were about, of those that were done."
        rows = Counter("trackd_retention_rows", text, ("action",), registry=registry)
        self._rows = {kind.value: rows.labels(kind.value) for kind in Kind}

    def acted(self, action: RetentionActed) -> None:
        """Counts it."""
        self._actions[action.action, action.status].inc()
        if action.status == Status.DONE.value:
            self._rows[action.action].inc(action.rows)
