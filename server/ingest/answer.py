"""What becomes of one batch, as its sender is told."""

from __future__ import annotations

from dataclasses import dataclass, replace

from server.ingest.admission import Admitted
from server.model import Appended, Durability, Item


@dataclass(frozen=True, slots=True)
class Answer:
    """Every event of the batch, counted once. With ACCEPTED there are no outcomes yet: all are `queued`."""

    durability: Durability
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    queued: int = 0
    first_position: int | None = None
    last_position: int | None = None
    items: tuple[Item, ...] = ()


NOTHING = Appended(0, None, None)


def settled(admitted: Admitted, appended: Appended) -> Answer:
    """Puts together what admission rejected and what the store says of the rest, by the sender's numbering."""
    items = appended.items
    if admitted.rows is not None:
        items = tuple(replace(item, index=admitted.rows[item.index]) for item in items)
    if admitted.rejected:
        items = tuple(sorted((*items, *admitted.rejected), key=lambda item: item.index))
    return Answer(
        Durability.DURABLE,
        accepted=appended.accepted,
        duplicate=appended.duplicate,
        rejected=appended.rejected + len(admitted.rejected),
        first_position=appended.first_position,
        last_position=appended.last_position,
        items=items,
    )
