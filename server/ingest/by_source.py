"""Messages whose events come from several services: each service's are a batch, and the sender gets one answer.

A batch has one source. Doors of other protocols take messages that a gateway put together from many services.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from server.errors import Invalid, Precondition
from server.ingest.answer import Answer
from server.ingest.offered import Offered
from server.ingest.rules import Fault
from server.ingest.service import IngestService
from server.model import Durability, Item, Outcome

NO_FAULTS: Mapping[int, Fault] = {}


@dataclass(frozen=True, slots=True)
class Part:
    """The events of one service, and where in the message each of them is.

    `decode` is called on the writer's thread; the faults that it finds are numbered within the part.
    """

    source: str
    rows: Sequence[int]
    decode: Callable[[], tuple[Offered, dict[int, Fault]]]


async def append(
    ingest: IngestService, parts: Sequence[Part], *, size_bytes: int, faults: Mapping[int, Fault] = NO_FAULTS
) -> Answer:
    """Stores the parts and tells of all of them, durable, as of one message of so many bytes.

    Together the parts and `faults` have every row of the message, each once and rising; faults are in no part because
    nobody knows whose they are. A source that is not taken rejects its events. Raises what refuses the message as a
    whole, or what refused one part: then others may be stored, and whoever sends all of it again stores nothing twice,
    if the events have ids.
    """
    total = sum(len(part.rows) for part in parts) + len(faults)
    ingest.refuse_too_many(total)
    ingest.refuse_if_full()
    items = [Item(row, Outcome.REJECTED, fault.reason, fault.message, fault.field) for row, fault in faults.items()]
    queued = []
    for part in parts:
        try:
            ingest.introduce(part.source, Durability.DURABLE)
        except (Invalid, Precondition) as error:
            items += [Item(row, Outcome.REJECTED, error.reason, str(error), error.field) for row in part.rows]
            continue
        pending = ingest.offer(
            part.decode,
            events=len(part.rows),
            size_bytes=size_bytes * len(part.rows) // total,
            source=part.source,
            durability=Durability.DURABLE,
            atomic=False,
        )
        queued.append((part, pending))
    answers = [(part, await pending.answer()) for part, pending in queued]
    if not items and len(answers) == 1:
        return answers[0][1]
    for part, answer in answers:
        items += [replace(item, index=part.rows[item.index]) for item in answer.items]
    return _merged([answer for _part, answer in answers], items)


def _merged(answers: Sequence[Answer], items: Sequence[Item]) -> Answer:
    firsts = [answer.first_position for answer in answers if answer.first_position is not None]
    lasts = [answer.last_position for answer in answers if answer.last_position is not None]
    return Answer(
        Durability.DURABLE,
        accepted=sum(answer.accepted for answer in answers),
        duplicate=sum(answer.duplicate for answer in answers),
        rejected=sum(item.outcome is Outcome.REJECTED for item in items),
        first_position=min(firsts, default=None),
        last_position=max(lasts, default=None),
        items=tuple(sorted(items, key=lambda item: item.index)),
    )
