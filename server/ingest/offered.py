"""Events as a sender offers them: decoded, nothing checked yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class OfferedChange:
    """The audit part of an event as sent. Enums are bare numbers; 0 is unspecified."""

    table_name: str
    row_id: str
    action: int
    old_values: str
    new_values: str
    status: int
    rows_affected: int | None


@dataclass(frozen=True, slots=True)
class Offered:
    """The events of one message as parallel columns. Ids may be empty; a time that was not sent is None."""

    ids: Sequence[bytes]
    types: Sequence[str]
    user_ids: Sequence[str]
    timestamps_ms: Sequence[int | None]
    session_ids: Sequence[str]
    client_ips: Sequence[str]
    descriptions: Sequence[str]
    metadata: Sequence[str]
    tags: dict[int, tuple[str, ...]] = field(default_factory=dict)
    changes: dict[int, OfferedChange] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)
