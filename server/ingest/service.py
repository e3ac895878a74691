"""Ingest as the surface sees it: offer a batch, get its answer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from server.config import Config
from server.errors import Invalid, Precondition, TrackdError, Unavailable
from server.ingest import rules
from server.ingest.answer import Answer
from server.ingest.bundle import Offer
from server.ingest.event_types import EventTypes
from server.ingest.offered import Offered
from server.ingest.rules import Fault
from server.ingest.writer import Writer
from server.model import Durability, EventType
from server.observe import BatchAbandoned, BatchAnswered, BatchRefused, Observer
from server.storage.contract import Store

DIMENSIONS_MAX = 8
DIMENSION_CHARACTERS_MAX = 128
NO_REASONS: Mapping[str, int] = {}


class Pending:
    """A batch that was taken: await `answer()` once. Its size counts against its stream until then."""

    __slots__ = ("_answer", "_done")

    def __init__(self, done: asyncio.Future[Answer], answer: Answer | None) -> None:
        self._done = done
        self._answer = answer

    async def answer(self) -> Answer:
        """What became of it; raises the TrackdError that refused the batch as a whole."""
        # A client that goes away cancels this future; the writer commits all the same and finds nobody to tell.
        return self._answer or await self._done


class IngestService:
    """The way in: names and limits, admission, the queue, and what is told to the observer."""

    def __init__(self, config: Config, store: Store, writer: Writer, types: EventTypes, observer: Observer) -> None:
        self._config = config
        self._store = store
        self._writer = writer
        self._types = types
        self._observer = observer
        self._sources = set(store.sources())

    def reconfigure(self, config: Config) -> None:
        """Takes over other settings, for whoever comes from now on."""
        self._config = config

    @property
    def head(self) -> int:
        """The highest durable position."""
        return self._store.head

    def introduce(self, source: str, durability: Durability) -> None:
        """Checks who is sending and what they want; raises if that is not possible here."""
        known = source in self._sources
        if not known and not rules.NAME.fullmatch(source):
            raise Invalid(
                "SOURCE_INVALID",
                'a source is 1 to 128 characters out of letters, digits and "_.:/-"',
                hint="name the service that sends",
                field="source",
            )
        if durability is Durability.ACCEPTED and not self._config.ingest.allow_accepted:
            raise Precondition(
                "ACCEPTED_NOT_ALLOWED",
                "this daemon answers only when events are on disk",
                hint="ask for DURABILITY_DURABLE, or have the operator set ingest.allow_accepted",
                field="durability",
            )
        if not known:
            if len(self._sources) >= self._config.limits.sources_max:
                raise Precondition(
                    "SOURCE_LIMIT",
                    f"{source!r} would be one source more than the {self._config.limits.sources_max} allowed",
                    hint="name services, not instances or requests; or raise limits.sources_max",
                    field="source",
                )
            self._sources.add(source)

    def offer(
        self,
        decode: Callable[[], tuple[Offered, dict[int, Fault]]],
        *,
        events: int,
        size_bytes: int,
        source: str,
        durability: Durability,
        atomic: bool,
    ) -> Pending:
        """Queues a batch; `decode` is called later, on the writer's thread. Raises if it is refused as a whole."""
        self.refuse_too_many(events)
        done = self._writer.submit(Offer(source, atomic, events, size_bytes, decode))
        if durability is Durability.DURABLE:
            return Pending(done, None)
        done.add_done_callback(lambda future: self._count_lost(future, events))
        return Pending(done, Answer(durability, queued=events))

    def refuse_too_many(self, events: int) -> None:
        """Raises Invalid if a message has more events than a batch may have."""
        if events > self._config.limits.batch_events_max:
            raise Invalid(
                "BATCH_TOO_LARGE",
                f"{events:,} events in one batch; at most {self._config.limits.batch_events_max:,} are taken",
                hint="send smaller batches",
                field="events",
            )

    def _count_lost(self, done: asyncio.Future[Answer], events: int) -> None:
        """Events that were answered as accepted and then not stored: nobody is told, so at least it is counted."""
        if done.cancelled() or done.exception():
            self._observer.accepted_lost(events)
        elif rejected := done.result().rejected:
            self._observer.accepted_lost(rejected)

    def refuse_if_full(self) -> None:
        """For senders that cannot be slowed down by not reading from them: raises while the queue is full."""
        if not self._writer.has_room:
            raise Unavailable(
                "QUEUE_FULL", "the write queue is full", hint="slow down, or send over a stream", retry_after_ms=250
            )

    async def room(self) -> None:
        """Waits while the queue is full."""
        await self._writer.room()

    async def register_type(self, name: str, description: str, dimensions: Sequence[str] = ()) -> EventType:
        """Declares a type with its description and dimensions; durable at return."""
        if fault := rules.type_name(name) or rules.plain_text(description, "description", bytes_max=4_096):
            raise Invalid(fault.reason, fault.message, field="name" if fault.field == "type" else fault.field)
        _judge_dimensions(dimensions)
        entry: EventType = await self._writer.call(lambda: self._register(name, description, dimensions))
        return entry

    def _register(self, name: str, description: str, dimensions: Sequence[str]) -> EventType:
        """On the writer's thread, which alone uses the registry."""
        if name not in self._types.known and len(self._types.known) >= self._types.types_max:
            raise Precondition(
                "TYPE_LIMIT", f"{name!r} would be one type more than the {self._types.types_max} allowed"
            )
        entry = self._store.register_type(name, description, time.time_ns() // 1_000_000, dimensions=dimensions)
        self._types.known.add(name)
        return entry

    # What is announced

    def announce(self, answer: Answer, seconds: float, size_bytes: int, *, streamed: bool = False) -> None:
        """Tells the observer about an answer that was handed to the transport."""
        reasons: Mapping[str, int] = NO_REASONS
        if answer.items:
            reasons = Counter(item.reason for item in answer.items if item.reason)
        self._observer.batch_answered(
            BatchAnswered(
                durability=answer.durability.value,
                seconds=seconds,
                accepted=answer.accepted,
                duplicate=answer.duplicate,
                rejected=answer.rejected,
                queued=answer.queued,
                reasons=reasons,
                bytes=size_bytes,
                streamed=streamed,
            )
        )

    def announce_refusal(self, error: TrackdError, events: int, *, streamed: bool = False) -> None:
        """Tells the observer about a batch that was refused as a whole."""
        self._observer.batch_refused(BatchRefused(error.reason, events, error.owed, streamed))

    def announce_failure(
        self, error: BaseException, events: int, seconds: float, durability: Durability = Durability.DURABLE
    ) -> None:
        """Tells the observer about a batch whose call got no answer but this error, `seconds` after it was read."""
        if isinstance(error, asyncio.CancelledError):
            self.announce_abandoned(durability, seconds)
        elif isinstance(error, TrackdError):
            self.announce_refusal(error, events)
        else:
            self._observer.batch_refused(BatchRefused("INTERNAL", events, owed=True))

    def announce_abandoned(self, durability: Durability, seconds: float) -> None:
        """Tells the observer about a batch that was taken and whose sender no longer waits for the answer."""
        self._observer.batch_abandoned(BatchAbandoned(durability.value, seconds))


def _judge_dimensions(keys: Sequence[str]) -> None:
    """Invalid(DIMENSION_INVALID) unless they are a few metadata keys, each once."""
    if len(keys) > DIMENSIONS_MAX:
        raise Invalid(
            "DIMENSION_INVALID",
            f"{len(keys)} dimensions; a type has at most {DIMENSIONS_MAX}",
            hint="choose the keys that questions use most",
            field="dimensions",
        )
    for place, key in enumerate(keys):
        if not 1 <= len(key) <= DIMENSION_CHARACTERS_MAX or "\0" in key:
            raise Invalid(
                "DIMENSION_INVALID",
                f"a dimension is a metadata key of 1 to {DIMENSION_CHARACTERS_MAX} characters, without U+0000",
                field=f"dimensions[{place}]",
            )
        if key in keys[:place]:
            raise Invalid("DIMENSION_INVALID", f"{key!r} is a dimension already", field=f"dimensions[{place}]")
