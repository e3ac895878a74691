"""The embedded engine: a SQLite file a month, one writer, a group of batches a commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from retention.chain import Deed
from retention.month import Month
from server import config
from server.errors import StoreFailed, TrackdError, Unavailable
from server.model import Appended, Batch, EventType, Finding, Item, MonthInfo, MonthState, Outcome, Rebuilt, Size
from server.rewriting import Claimed, Heard, Losses, OnWriter, Rewrite, Rewritten
from server.storage.contract import Reader, Store
from server.storage.sqlite import connection as sqlite
from server.storage.sqlite import recovery, schema
from server.storage.sqlite.answers.files import Files
from server.storage.sqlite.answers.names import Names
from server.storage.sqlite.catalog import Catalog, CatalogReader
from server.storage.sqlite.check import check_directory
from server.storage.sqlite.forgetting import forget_names
from server.storage.sqlite.group import Answer, added, insert, note_atomic, rows_by_month
from server.storage.sqlite.index.derived import Derived
from server.storage.sqlite.layout import Layout, sync_directory, take_possession
from server.storage.sqlite.month_file import Keys, Slice
from server.storage.sqlite.numbers import POSITION_BLOCK, Counter, UserKeys
from server.storage.sqlite.open_months import OpenMonths
from server.storage.sqlite.reader import SqliteReader
from server.storage.sqlite.records import CatalogRecords
from server.storage.sqlite.registries import Registries
from server.storage.sqlite.rewrite import Dictionary
from server.storage.sqlite.rotation import CLOSED, Rotation
from server.storage.sqlite.visits import Visits


class SqliteStore(Store):
    """Keeps events under one directory, which it holds locked until it is closed."""

    def __init__(
        self,
        root: Path,
        settings: config.Storage,
        questions: config.Query | None = None,
        *,
        months_max: int,
    ) -> None:
        self._settings = settings
        self._questions = questions or config.Query()
        self._months_max = months_max
        self._layout = Layout(root)
        with sqlite.translated(root):
            self._lock = take_possession(self._layout)
        self._closed = False
        self._failed = False
        try:
            with sqlite.translated(root):
                self._catalog = Catalog(self._layout.catalog, wal_bytes_max=settings.wal_bytes_max)
                sync_directory(root)
                self._positions = Counter(self._catalog, "position", POSITION_BLOCK)
                self._users = UserKeys(self._catalog)
                self._records = CatalogRecords(self._catalog)
                found = recovery.recover(self._layout, self._catalog, self._positions, self._users)
        except BaseException:
            self._lock.release()
            raise
        self._months: dict[Month, MonthInfo] = found.months
        self._damaged = found.damaged
        self._open = OpenMonths(self._layout, settings, lambda: self._months)
        self._visits = Visits()
        self._head = found.head
        self._last_positions = found.last_positions
        self._passed = 0
        """The head passes over this: rows of a group that failed half way."""
        self._registries = Registries(self._catalog, found.sources)
        self._derived = Derived(
            self._layout,
            settings,
            self._catalog.store_id,
            found.head,
            lambda: self._months,
            lambda: self._damaged,
            self._registries.types.copy,
            found.erased,
        )
        self._rotation = Rotation(
            self._layout, self._derived, self._open, self._visits, self._records, lambda: self._months, self._set
        )

    # What anybody may ask

    @property
    def head(self) -> int:
        return self._head

    def event_types(self) -> Sequence[EventType]:
        return self._registries.event_types()

    def sources(self) -> Sequence[str]:
        return sorted(self._registries.stored_sources.copy())

    def months(self) -> Sequence[MonthInfo]:
        return sorted(self._months.copy().values(), key=lambda info: info.month)

    def sizes(self) -> Mapping[MonthState, Size]:
        return self._derived.sizes(self.months())

    def last_positions(self) -> Mapping[Month, int]:
        return self._last_positions.copy()

    def reader(self) -> Reader:
        cache = self._settings.page_cache_bytes // self._settings.open_months_max
        # A month's truth and its index.
        open_max = 2 * self._settings.open_months_max
        files = Files(self._layout, self._derived.indexes, self._visits, open_max=open_max, cache_bytes=cache)
        catalog = CatalogReader(self._layout.catalog)
        names = Names(files, self._users, catalog, self._registries.types.copy, self._registries.sources.copy)
        return SqliteReader(
            files,
            names,
            catalog,
            self._derived,
            self.months,
            self._damaged,
            records=self._records,
            rows_max=self._questions.rows_max,
            groups_max=self._questions.groups_max,
        )

    @property
    def wal_bytes(self) -> int:
        """Size of the write-ahead logs of all open months."""
        return self._open.wal_bytes

    @property
    def disk_free_bytes(self) -> int:
        with sqlite.translated():
            return self._layout.free_bytes()

    # Appending

    def append(self, batches: Sequence[Batch]) -> Sequence[Appended | TrackdError]:
        if self.disk_free_bytes < self._settings.disk_free_bytes_min:
            raise sqlite.disk_full()
        self._derived.make_room(sum(map(len, batches)))
        try:
            try:
                return self._append_group(batches)
            except (Unavailable, StoreFailed):
                raise
            except TrackdError:
                # One batch is at fault: each by itself, so that only that one pays for it.
                return [self._append_alone(batch) for batch in batches]
        except StoreFailed:
            self._failed = True
            raise

    def _append_alone(self, batch: Batch) -> Appended | TrackdError:
        try:
            return self._append_group([batch])[0]
        except (Unavailable, StoreFailed):
            raise
        except TrackdError as error:
            return error

    def _append_group(self, batches: Sequence[Batch]) -> list[Appended]:
        answers = []
        keyed: list[Keys] = []
        parts: dict[Month, list[Slice]] = {}
        # All names of the group at once: a lookup for each of many small batches would cost more than their rows.
        users = iter(self._users.keys([name for batch in batches for name in batch.user_ids]))
        for number, batch in enumerate(batches):
            answer = Answer(self._positions.take(len(batch)), len(batch))
            answers.append(answer)
            if len(batch):
                keys = self._registries.keys(batch, list(islice(users, len(batch))))
                keyed.append(keys)
                for month, rows in rows_by_month(batch).items():
                    part = Slice(number, batch, keys, answer.base, rows)
                    if self._has_home(month, part, answer):
                        parts.setdefault(month, []).append(part)
        months = list(parts)
        try:
            for first in range(0, len(months), self._settings.open_months_max):
                self._write(
                    {month: parts[month] for month in months[first : first + self._settings.open_months_max]}, answers
                )
        except BaseException:
            head = max(self._head, self._passed)
            self._last_positions.update(dict.fromkeys(months, head))
            self._derived.give_up(head, months)
            self._head = head
            raise
        results = [answer.finish() for answer in answers]
        head = max([self._head, *(result.last_position or 0 for result in results)])
        self._last_positions.update(dict.fromkeys(months, head))
        # First what readers will find, then the head that they are told to cut at.
        self._derived.add(added(batches, keyed, answers), head)
        self._head = head
        self._registries.stored_sources |= {
            batch.source for batch, result in zip(batches, results, strict=True) if result.accepted
        }
        self._users.flush_if_due()
        return results

    def _write(self, parts: Mapping[Month, Sequence[Slice]], answers: Sequence[Answer]) -> None:
        """Inserts into every month, then commits one after the other.

        What can be refused is refused before the first commit: then nothing is stored. If a commit itself fails, the
        months before it keep their rows, unacknowledged: the head passes over them all the same, since a resend will be
        told that they are stored. The same holds between the runs of a group over more months than may be open.
        """
        files = {month: self._open.get(month, keep=parts) for month in parts}
        try:
            for month, slices in parts.items():
                files[month].begin()
                insert(files[month], slices, answers)
            for file in files.values():
                file.commit()
        except BaseException:
            for file in files.values():
                with suppress(TrackdError):
                    file.rollback()
                    self._passed = max(self._passed, file.last_position())
            raise

    def register_type(self, name: str, description: str, now_ms: int, *, dimensions: Sequence[str] = ()) -> EventType:
        return self._registries.register_type(name, description, now_ms, dimensions)

    def remove(self, month: Month, positions: Sequence[int]) -> int:
        info = self._months.get(month)
        if info is None:
            return 0
        self._rotation.check_open(info)
        file = self._open.get(month)
        try:
            with self._derived.removing(month):
                file.begin()
                found = file.remove(positions)
                file.commit()
                if found:
                    self._derived.removed(month, found)
        except BaseException:
            with suppress(TrackdError):
                file.rollback()
            raise
        return len(found)

    # Months

    def _has_home(self, month: Month, part: Slice, answer: Answer) -> bool:
        """Whether there is a month to write to; if not, says so for each of its events."""
        info = self._months.get(month)
        if info is not None and info.state in CLOSED:
            items = self._rotation.judge_late(info, part)
            if part.batch.atomic:
                note_atomic(answer, part, items)
            else:
                answer.items += items
            return False
        if month in self._damaged:
            reason, message = (
                "MONTH_DAMAGED",
                f"the file of {month} is damaged and takes no events until it is restored",
            )
        elif month in self._months:
            return True
        elif sum(info.state is not MonthState.DROPPED for info in self._months.values()) < self._months_max:
            self._create_month(month)
            return True
        else:
            reason, message = "MONTH_LIMIT", f"{month} would be one month more than the {self._months_max} allowed"
        answer.items += [Item(row, Outcome.REJECTED, reason, message, "timestamp_ms") for row in part.row_numbers()]
        return False

    def _create_month(self, month: Month) -> None:
        """Lays out the file, makes it durable under its name, and only then lets the catalog name it."""
        with sqlite.translated(self._layout.months / str(month)):
            generation = self._layout.next_generation(month)
            path = self._layout.draft(month, generation) / self._layout.events(month, generation).name
            about: dict[str, object] = {"store": self._catalog.store_id, "month": str(month), "generation": generation}
            schema.lay_out(path, schema.month_schema(month), about)
            self._layout.publish(month, generation)
        self._set(MonthInfo(month, generation, MonthState.OPEN))

    def fence(self, month: Month) -> MonthInfo:
        return self._rotation.fence(month)

    def rebuild(self, month: Month, state: MonthState, heard: Callable[[int], None] | None = None) -> Rebuilt:
        return self._rotation.rebuild(self._catalog.store_id, month, state, heard)

    @property
    def records(self) -> CatalogRecords:
        return self._records

    def rewrite(self, month: Month, change: Rewrite, on_writer: OnWriter, heard: Heard | None = None) -> Rewritten:
        dictionary = Dictionary(self._users, self._registries.stored_source_key, on_writer)
        return self._rotation.rewrite(self._catalog.store_id, month, change, dictionary, heard)

    def forget_names(self, on_writer: OnWriter) -> int:
        return forget_names(self._layout, self._catalog, self._users, self.months(), on_writer)

    def drop(self, month: Month, lost: Losses, deed: Deed) -> MonthInfo:
        dropped = self._rotation.drop(month, lost, deed, self._last_positions.get(month, 0))
        self._last_positions.pop(month, None)
        return dropped

    def adopt(self, made: Rebuilt | Rewritten, deed: Deed | None = None) -> MonthInfo:
        adopted = self._rotation.adopt(made, deed)
        if isinstance(made, Rewritten) and made.anonymous:
            self._records.clear_log()
        return adopted

    def _set(
        self,
        info: MonthInfo,
        lost: Losses | None = None,
        deed: Deed | None = None,
        last_position: int = 0,
        claimed: Claimed | None = None,
    ) -> MonthInfo:
        """The catalog's commit is what changes a month, for everybody and over restarts."""
        sources = self._registries.stored_sources if info.state is MonthState.DROPPED else ()
        self._records.become(info, lost, deed, last_position=last_position, sources=sources, claimed=claimed)
        self._months = {**self._months, info.month: info}
        return info

    # Upkeep

    @property
    def tail_events(self) -> int:
        return len(self._derived.tail)

    @property
    def months_unindexed(self) -> int:
        return len(self._derived.tail.view.gaps)

    @property
    def months_unmerged(self) -> int:
        return self._derived.merging

    @property
    def retired(self) -> int:
        """Generations that were replaced and are still there."""
        return self._rotation.retired

    def settle(self, timeout_s: float = 60.0) -> bool:
        """Waits until derived data covers everything; False if that takes longer. For tests and benchmarks."""
        return self._derived.settle(timeout_s)

    def maintain(self, *, idle: bool) -> None:
        for month, generation in self._derived.applied_removals().items():
            self._open.get(month).purge(generation)
        self._rotation.maintain()
        self._open.maintain(idle=idle)

    def check(self) -> Sequence[Finding]:
        self._users.flush()
        return check_directory(self._layout)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._derived.close()
        self._open.end_background_work()
        self._rotation.close()
        try:
            if not self._failed:
                self._tidy_up()
        except TrackdError:
            self._failed = True
            raise
        finally:
            self._let_go()

    def _tidy_up(self) -> None:
        """Leaves nothing for the next start to recover."""
        self._open.close_all()
        self._users.close()
        self._positions.give_back()
        self._catalog.checkpoint()

    def _let_go(self) -> None:
        """Closes what is open, without writing: after a failed fsync the disk may lack what a checkpoint builds on."""
        self._open.let_go()
        with suppress(TrackdError):
            self._catalog.close(checkpoint=not self._failed)
        self._lock.release()
