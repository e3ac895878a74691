"""Rows of a sealed month leave the store in columns, whole and unchanged, with a digest to hold them against."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence

import pytest

from retention.facts import RAW
from retention.month import Month
from server.errors import NotFound, Precondition, TrackdError
from server.model import Event
from server.rewriting import Selection
from server.storage.contract import SealedRows, Store
from server.storage.digest import BUCKETS, bucket_of, digest_of, root_of
from server.storage.exported import Exported, exported_of
from tests.support.archives import OCTOBER, TYPES, fill, varied
from tests.support.events import append, make_event
from tests.support.retaining import KEEP, events_of, profile, rewrite, sealed_rows, stocks

ALL = Selection(TYPES, (RAW,))


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with a sealed month and an open one."""
    append(store, *(make_event(9_000 + number, "2025-11", number) for number in range(5)))
    fill(store, varied())
    return store


def exported(store: Store, rows: Selection, generation: int | None = None) -> list[Exported]:
    """All batches."""
    with sealed_rows(store, OCTOBER, generation) as stored:
        return list(stored.export(rows))


def told(batches: Sequence[Exported]) -> Iterator[tuple[object, ...]]:
    """The rows of batches, one by one, with all that is in them."""
    for rows in batches:
        changes = rows.changes
        changed = dict(
            zip(
                changes.rows.tolist(),
                zip(
                    changes.table_names.listed(), changes.row_ids.listed(), changes.actions.tolist(),
                    changes.old_values.listed(), changes.new_values.listed(), changes.statuses.tolist(),
                    changes.rows_affected.tolist(), strict=True,
                ),
                strict=True,
            )
        )  # fmt: skip
        ids = [rows.ids[start : start + 16] for start in range(0, len(rows.ids), 16)]
        numbers = (rows.positions, rows.timestamps_ms, rows.received_ms, rows.buckets)
        texts = (
            rows.types, rows.user_ids, rows.sources, rows.forms, rows.session_ids, rows.client_ips, rows.descriptions,
            rows.tags, rows.metadata,
        )  # fmt: skip
        columns = [*(column.tolist() for column in numbers), *(column.listed() for column in texts)]
        for row, values in enumerate(zip(*columns, ids, strict=True)):
            yield (*values, changed.get(row))


def chosen(store: Store, types: Sequence[str]) -> list[Event]:
    """The events of October of these types."""
    return [event for event in events_of(store, OCTOBER) if event.type in types]


@pytest.mark.parametrize("types", [TYPES, TYPES[:1], (*TYPES, "unheard-of"), ()])
def test_rows_of_the_chosen_types_come_in_the_order_of_positions(filled: Store, types: tuple[str, ...]) -> None:
    """With everything that is in them, whatever it is, and with the digest that events have by definition."""
    rows = Selection(types, (RAW,))
    events = chosen(filled, types)
    batches = exported(filled, rows)
    assert all(len(batch) for batch in batches)
    assert list(told(batches)) == list(told([exported_of(events)]))
    with sealed_rows(filled, OCTOBER) as stored:
        digest = stored.content_digest(rows)
    assert (digest.rows, digest.hexdigest()) == (len(events), digest_of(events))
    assert root_of(digest.buckets()) == digest_of(events)


def test_a_bucket_has_the_digest_of_its_users_alone(filled: Store) -> None:
    """So that erasing one person changes one of them."""
    with sealed_rows(filled, OCTOBER) as stored:
        buckets = stored.content_digest(ALL).buckets()
    events = events_of(filled, OCTOBER)
    for bucket in range(BUCKETS):
        of_bucket = [event for event in events if bucket_of(event.user_id) == bucket]
        with_others_gone = root_of([one if place == bucket else EMPTY for place, one in enumerate(buckets)])
        assert with_others_gone == digest_of(of_bucket)


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""SHA-256 of nothing."""


def test_progress_is_told_and_can_end_the_work(filled: Store) -> None:
    """Whoever hears of rows that are done may raise."""
    heard: list[int] = []
    with sealed_rows(filled, OCTOBER) as stored:
        stored.content_digest(ALL, heard.append)
        with pytest.raises(ZeroDivisionError):
            stored.content_digest(ALL, lambda rows: print(rows // 0))
    assert heard[-1] == len(varied())


def test_rows_that_went_through_a_profile_are_told_apart(filled: Store) -> None:
    """By its digest, which is also how they are asked for."""
    how = profile(user_id=KEEP)
    rewrite(filled, OCTOBER, how, TYPES[:1])
    assert set(stocks(filled, OCTOBER)) == {(TYPES[0], how.digest), (TYPES[1], RAW), (TYPES[2], RAW)}
    for forms, types in (((RAW,), TYPES[1:]), ((how.digest,), TYPES[:1]), ((how.digest, RAW), TYPES), ((), ())):
        batches = exported(filled, Selection(TYPES, forms))
        names = [name for batch in batches for name in batch.types.listed()]
        found = [form for batch in batches for form in batch.forms.listed()]
        assert names == [event.type for event in chosen(filled, types)]
        assert found == [how.digest if name == TYPES[0] else RAW for name in names]
        with sealed_rows(filled, OCTOBER) as stored:
            digest = stored.content_digest(Selection(TYPES, forms))
        assert digest.hexdigest() == digest_of(chosen(filled, types))


def refusal(store: Store, month: Month, generation: int | None = None) -> TrackdError:
    """Why the rows of a month cannot be had."""
    with pytest.raises(TrackdError) as refused, sealed_rows(store, month, generation):
        pass
    return refused.value


def test_only_the_generation_that_is_meant_of_a_sealed_month_is_given(filled: Store) -> None:
    """Anything else is refused by name."""
    now = next(info.generation for info in filled.months() if info.month == OCTOBER)
    assert exported(filled, ALL, generation=now)
    refused = refusal(filled, OCTOBER, generation=now - 1)
    assert (type(refused), refused.reason) == (Precondition, "MONTH_CHANGED")
    assert refusal(filled, Month(2025, 11)).reason == "MONTH_STATE"
    unknown = refusal(filled, Month(1999, 1))
    assert (type(unknown), unknown.reason) == (NotFound, "MONTH_UNKNOWN")


def test_rows_of_any_size_come(store: Store) -> None:
    """Large rows side by side are taken a few at a time: no text in between grows without bound."""
    large = f'{{"blob":"{"x" * 60_000}"}}'
    events = [make_event(number, "2025-10", number, metadata=large if number % 3 else "") for number in range(900)]
    fill(store, events)
    rows = Selection(("pr_opened",), (RAW,))
    expected = events_of(store, OCTOBER)
    assert list(told(exported(store, rows))) == list(told([exported_of(expected)]))
    with sealed_rows(store, OCTOBER) as stored:
        assert stored.content_digest(rows).hexdigest() == digest_of(expected)
        elsewhere: SealedRows = pickle.loads(pickle.dumps(stored))  # noqa: S301  # our own
        assert elsewhere.content_digest(rows).hexdigest() == digest_of(expected)
