"""Ids made from content: in order of time, the same at every import, different for every repetition."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from server.cli.importing.identity import Ordinals, canonical_json, content_id
from server.content_id import TIME_MS_MAX

CONTENTS = st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abc")), max_size=60)


def ids(contents: list[tuple[int, str]]) -> list[bytes]:
    """The ids of a file with these lines."""
    ordinals = Ordinals()
    return [content_id(time_ms, content, ordinals) for time_ms, content in contents]


@given(time_ms=st.integers(0, TIME_MS_MAX), content=st.text(st.characters(codec="utf-8")))
def test_an_id_is_a_uuid8_that_carries_its_time(time_ms: int, content: str) -> None:
    """48 bits of milliseconds, version 8, RFC 9562's variant."""
    made = content_id(time_ms, content)
    assert int.from_bytes(made[:6], "big") == time_ms
    assert UUID(bytes=made).version == 8
    assert UUID(bytes=made).variant == "specified in RFC 4122"


@given(contents=CONTENTS)
def test_each_line_of_a_file_has_an_id_of_its_own(contents: list[tuple[int, str]]) -> None:
    """Identical lines are different events."""
    made = ids(contents)
    assert len(set(made)) == len(made)
    assert made == ids(contents)


@given(contents=CONTENTS, seed=st.integers())
def test_the_order_of_lines_does_not_matter(contents: list[tuple[int, str]], seed: int) -> None:
    """A file sorted otherwise names the same events: importing it stores nothing new."""
    shuffled = random.Random(seed).sample(contents, len(contents))
    assert set(ids(shuffled)) == set(ids(contents))


@given(contents=CONTENTS)
def test_a_file_that_has_grown_keeps_the_ids_of_its_beginning(contents: list[tuple[int, str]]) -> None:
    """Importing a log again after lines were appended stores only those."""
    half = len(contents) // 2
    assert ids(contents)[:half] == ids(contents[:half])


def test_ids_sort_by_time() -> None:
    """The unique index of a month stays in order."""
    made = [content_id(time_ms, "x") for time_ms in (0, 1, 255, 256, 1_700_000_000_000, TIME_MS_MAX)]
    assert made == sorted(made)


@settings(max_examples=50)
@given(fingerprints=st.lists(st.integers(0, 7) | st.integers(0, (1 << 64) - 1), max_size=300))
def test_ordinals_count_like_a_counter(fingerprints: list[int]) -> None:
    """The compact table gives the same numbers as a plain dictionary, except that 0 and 1 are one fingerprint."""
    ordinals, seen = Ordinals(), Counter[int]()
    for fingerprint in fingerprints:
        key = fingerprint or 1
        assert ordinals.next(fingerprint) == seen[key]
        seen[key] += 1


def test_ordinals_stay_right_while_the_table_grows() -> None:
    """Many distinct and some very frequent fingerprints, in random order."""
    rng = random.Random(3)
    drawn = [rng.getrandbits(64) for _ in range(20_000)]
    stream = rng.sample(drawn * 2 + [drawn[0]] * 500, 40_500)
    ordinals, given_out = Ordinals(), defaultdict(list)
    for fingerprint in stream:
        given_out[fingerprint].append(ordinals.next(fingerprint))
    assert all(numbers == list(range(len(numbers))) for numbers in given_out.values())


def test_canonical_json_ignores_spaces_and_the_order_of_keys() -> None:
    """The same value is the same text; what is not JSON stays as it is."""
    assert canonical_json('{ "b": 1, "a": [1, 2] }') == canonical_json('{"a":[1,2],"b":1}')
    assert canonical_json("{nonsense") == "{nonsense"
