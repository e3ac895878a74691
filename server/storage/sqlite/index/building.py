"""Making runs: from rows, from other runs, and anew without removed rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np

from retention.month import Month
from server.storage.sqlite.index.file import Run
from server.storage.sqlite.index.rollup import (
    Days,
    count_days,
    count_quarters,
    merge_days,
    merge_quarters,
)
from server.storage.sqlite.index.rows import (
    NOTHING_SORTED,
    Keys,
    Positions,
    Rows,
    Sorted,
    merge,
    sort,
)
from server.storage.sqlite.zone_offsets import offsets_of

Zones = Mapping[str, ZoneInfo]
"""The zones whose days are kept, by name; UTC among them."""


@dataclass(frozen=True, slots=True)
class Labels:
    """Which rows carry which labels: parallel columns, in the order of positions."""

    position: Positions
    label: Keys


NO_LABELS = Labels(np.empty(0, np.int64), np.empty(0, np.uint32))


def build(rows: Rows, labels: Labels, covered: Sequence[tuple[int, str]], month: Month, zones: Zones) -> Run:
    """A run of rows of one month that are in the order of their positions."""
    by_type = sort(rows.type, rows, month.start_ms)
    by_label = NOTHING_SORTED
    if len(labels.position):
        kept = np.isin(labels.position, rows.position)
        places = np.searchsorted(rows.position, labels.position[kept])
        by_label = sort(labels.label[kept], rows.take(places), month.start_ms)
    return Run(
        by_user=sort(rows.user, rows, month.start_ms),
        by_type=by_type,
        by_label=by_label,
        quarters=count_quarters(by_type, month.start_ms),
        days=_days(by_type, month, zones),
        first=int(rows.position[0]),
        last=int(rows.position[-1]),
        covered=json.dumps(sorted(covered), separators=(",", ":")),
    )


def combine(runs: Sequence[Run], month: Month) -> Run:
    """One run out of several that follow each other."""
    zones = [zone for zone in runs[0].days if all(zone in run.days for run in runs)]
    covered = [entry for entry in json.loads(runs[0].covered) if all(entry in json.loads(run.covered) for run in runs)]
    return Run(
        by_user=merge([run.by_user for run in runs], month.start_ms),
        by_type=merge([run.by_type for run in runs], month.start_ms),
        by_label=merge([run.by_label for run in runs], month.start_ms),
        quarters=merge_quarters([run.quarters for run in runs]),
        days={zone: merge_days([run.days[zone] for run in runs]) for zone in zones},
        first=runs[0].first,
        last=runs[-1].last,
        covered=json.dumps(covered, separators=(",", ":")),
    )


def without(run: Run, positions: Positions, month: Month, zones: Zones) -> Run | None:
    """The run as if these rows had never been; None if it held none of them."""
    by_type = run.by_type.without(positions)
    if by_type is run.by_type:
        return None
    return Run(
        by_user=run.by_user.without(positions),
        by_type=by_type,
        by_label=run.by_label.without(positions),
        quarters=count_quarters(by_type, month.start_ms),
        days=_days(by_type, month, {zone: zones[zone] for zone in run.days if zone in zones}),
        first=run.first,
        last=run.last,
        covered=run.covered,
    )


def _days(by_type: Sorted, month: Month, zones: Zones) -> dict[str, Days]:
    return {name: count_days(by_type, offsets_of(zone, month.start_ms, month.end_ms)) for name, zone in zones.items()}
