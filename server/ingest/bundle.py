"""Small batches of one sender, judged and stored as if they were one.

What a batch costs beside its rows (admission, dictionary, statement) is as much as dozens of rows. Callers that send
one event at a time, many at once, would pay it for every event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from server.ingest.admission import Admission, Admitted
from server.ingest.answer import NOTHING, Answer, settled
from server.ingest.offered import Offered
from server.ingest.rules import Fault
from server.model import Absent, Appended, Durability

EVENTS_MAX = 400
"""A bundle holds no more; a larger batch goes by itself."""


@dataclass(slots=True)
class Offer:
    """A batch on its way in: who sends it, its size, and how to read it (on the writer's thread)."""

    source: str
    atomic: bool
    events: int
    bytes: int
    decode: Callable[[], tuple[Offered, dict[int, Fault]]]


@dataclass(slots=True)
class Bundle:
    """Batches that go to the store as one; most often one alone."""

    offers: list[Offer]
    events: int
    admitted: Admitted | None = field(default=None)

    def takes(self, offer: Offer) -> bool:
        """Whether one more batch may go with these."""
        first = self.offers[0]
        return (
            self.events + offer.events <= EVENTS_MAX
            and not first.atomic
            and not offer.atomic
            and first.source == offer.source
        )

    def admit(self, admission: Admission) -> Admitted:
        """Decodes and judges all of it; raises what refuses a batch as a whole."""
        decoded = [offer.decode() for offer in self.offers]
        offered, faults = decoded[0] if len(decoded) == 1 else _joined(decoded)
        first = self.offers[0]
        self.admitted = admission.admit(offered, source=first.source, atomic=first.atomic, faults=faults)
        return self.admitted

    def alone(self) -> list[Bundle]:
        """Each batch by itself again: when something fails, only the one at fault shall."""
        return [Bundle([offer], offer.events) for offer in self.offers]

    def answers(self, appended: Appended = NOTHING) -> list[Answer]:
        """One answer a batch, from what the store says of all of them."""
        assert self.admitted is not None  # noqa: S101  # admit comes first
        whole = settled(self.admitted, appended)
        if len(self.offers) == 1:
            return [whole]
        if not whole.items and whole.first_position is not None:
            return list(_plain(self.offers, whole.first_position))
        return list(_split(self.offers, whole, _positions(self.admitted, appended)))


def bundled(offers: Iterable[Offer]) -> list[Bundle]:
    """The offers in their order, put together where they may be."""
    bundles: list[Bundle] = []
    for offer in offers:
        if bundles and bundles[-1].takes(offer):
            bundles[-1].offers.append(offer)
            bundles[-1].events += offer.events
        else:
            bundles.append(Bundle([offer], offer.events))
    return bundles


def _plain(offers: Sequence[Offer], first_position: int) -> Iterable[Answer]:
    at = first_position
    for offer in offers:
        if offer.events:
            yield Answer(
                Durability.DURABLE,
                accepted=offer.events,
                first_position=at,
                last_position=at + offer.events - 1,
            )
        else:
            yield Answer(Durability.DURABLE)
        at += offer.events


def _split(offers: Sequence[Offer], whole: Answer, positions: dict[int, int]) -> Iterable[Answer]:
    start = 0
    for offer in offers:
        end = start + offer.events
        items = tuple(replace(item, index=item.index - start) for item in whole.items if start <= item.index < end)
        given = [positions[row] for row in range(start, end) if row in positions]
        rejected = sum(bool(item.reason) for item in items)
        yield Answer(
            Durability.DURABLE,
            accepted=len(given),
            duplicate=len(items) - rejected,
            rejected=rejected,
            first_position=given[0] if given else None,
            last_position=given[-1] if given else None,
            items=items,
        )
        start = end


def _positions(admitted: Admitted, appended: Appended) -> dict[int, int]:
    """The position of every stored row, by its place in the bundle: row i of a batch has position base + i."""
    if appended.first_position is None:
        return {}
    elsewhere = {item.index for item in appended.items}
    stored = [row for row in range(len(admitted.batch)) if row not in elsewhere]
    base = appended.first_position - stored[0]
    place = admitted.rows if admitted.rows is not None else range(len(admitted.batch))
    return {place[row]: base + row for row in stored}


def _joined(decoded: Sequence[tuple[Offered, dict[int, Fault]]]) -> tuple[Offered, dict[int, Fault]]:
    parts = [offered for offered, _faults in decoded]
    starts = [0]
    for part in parts:
        starts.append(starts[-1] + len(part))

    def texts(columns: Sequence[Sequence[str]]) -> Sequence[str]:
        if all(isinstance(column, Absent) for column in columns):
            return Absent(starts[-1])
        return list(chain.from_iterable(columns))

    offered = Offered(
        list(chain.from_iterable(part.ids for part in parts)),
        list(chain.from_iterable(part.types for part in parts)),
        list(chain.from_iterable(part.user_ids for part in parts)),
        list(chain.from_iterable(part.timestamps_ms for part in parts)),
        texts([part.session_ids for part in parts]),
        texts([part.client_ips for part in parts]),
        texts([part.descriptions for part in parts]),
        list(chain.from_iterable(part.metadata for part in parts)),
        {start + row: tags for start, part in zip(starts, parts, strict=False) for row, tags in part.tags.items()},
        {
            start + row: change
            for start, part in zip(starts, parts, strict=False)
            for row, change in part.changes.items()
        },
    )
    faults = {
        start + row: fault
        for start, (_offered, found) in zip(starts, decoded, strict=False)
        for row, fault in found.items()
    }
    return offered, faults
