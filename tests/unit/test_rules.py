"""What a single value must be: JSON objects as another parser sees them, depth, U+0000, names, addresses, ids."""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import Iterator
from contextlib import closing

import apsw
import orjson
import pytest
import uuid_utils
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.ingest import rules

NO_LIMIT = 1 << 30

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
FRAGMENTS = (
    "{", "}", "[", "]", '"', "\\", ",", ":", "0", "-", ".", "e", "1", "+", "null", "true", "NaN", "Infinity", "\\u0000",
    "\\u12", "\\ud800", "\\udc00", "\\ud83d\\ude00", "\0", "\x1f", "\x7f", "\t", "\n", "\ufeff", "é", " ", "//", "/**/",
    "'", "1e400", "01", "-0", ".5", "5.", "1E+2", "\\x", "\\/", "{}", "[[", '"":',
)  # fmt: skip


@st.composite
def json_texts(draw: st.DrawFn) -> str:
    """Texts that are JSON objects, nearly are, or are something else."""
    value = draw(st.dictionaries(st.text(max_size=4), JSON_VALUES, max_size=4) | JSON_VALUES)
    text = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, None, 1])))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(FRAGMENTS) | st.just("")) + text[at + draw(st.integers(0, 2)) :]
    return text


def is_object_by_orjson(text: str) -> bool:
    """What the other parser says."""
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


@pytest.fixture(scope="module")
def sqlite() -> Iterator[apsw.Connection]:
    """A database without a file."""
    with closing(apsw.Connection(":memory:")) as connection:
        yield connection


@settings(max_examples=250, deadline=None)
@given(text=json_texts())
@example(text='{"a": "\\ud800"}')
@example(text='{"a": 1e400, "a": 1}')
@example(text='{"a": "\x7f"}')
@example(text=" {}\r\n")
def test_what_is_taken_is_json_to_the_database_too(sqlite: apsw.Connection, text: str) -> None:
    """`trackd check` asks SQLite about every stored text: it must not complain about what was let in."""
    if rules.is_object(text) and not rules.json_object(text, "metadata", bytes_max=NO_LIMIT, depth_max=32):
        assert sqlite.execute("SELECT json_valid(?1) AND json_type(?1) = 'object'", (text,)).get == 1


BEYOND_A_DOUBLE = re.compile(r"\d(?:[eE]|\d{300})")


@settings(max_examples=600, deadline=None)
@given(json_texts())
@example('{"a": "\\ud800"}')
@example('{"a": "\\udc00\\ud800"}')
@example('{"a": "\\ud83d\\ude00"}')
@example('{"a": 1}\0')
@example('{"a": "\x1f"}')
@example('\ufeff{"a": 1}')
@example('{"a": 1, "a": 2}')
@example('{"a": 1,}')
@example('{"a": -}')
@example('{"a": 1.}')
@example('{"a": .1}')
@example('{"a": 1e}')
@example('{"a": 01}')
@example('{"a": +1}')
@example('{"a": tru}')
@example('{"a": nulll}')
@example("{'a': 1}")
@example("{a: 1}")
@example('{"\\q": 1}')
@example("\x0b{}")
@example("\u00a0{}")
@example("")
def test_an_object_is_what_another_parser_takes_for_one(text: str) -> None:
    """As orjson judges, but for numbers beyond a double: they are valid JSON (RFC 8259, 6) and stored as they are."""
    ours, theirs = rules.is_object(text), is_object_by_orjson(text)
    assert ours == theirs or (ours and BEYOND_A_DOUBLE.search(text)), text
    assert rules.are_objects([text]) == (ours or not text)


@given(st.lists(json_texts(), max_size=8))
def test_many_texts_are_judged_as_each_by_itself(texts: list[str]) -> None:
    """Empty ones are fine."""
    assert rules.are_objects(texts) == all(not text or rules.is_object(text) for text in texts)


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 400, "1e-400", "0." + "1" * 400])
def test_numbers_beyond_a_double_are_json(number: str) -> None:
    """The one thing in which parsers may differ."""
    assert rules.is_object(f'{{"a": {number}}}')


def depth_of(value: object) -> int:
    """How deep objects and arrays are nested."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(st.dictionaries(st.text(alphabet='ab{}[]"\\', max_size=4), JSON_VALUES | st.text(alphabet='{}[]"\\')))
def test_depth_is_that_of_the_value(value: dict[str, object]) -> None:
    """Brackets and escapes within texts do not count."""
    text, depth = json.dumps(value), depth_of(value)
    for bound in range(1, depth + 2):
        fault = rules.json_object(text, "metadata", bytes_max=NO_LIMIT, depth_max=bound)
        assert (fault is not None and fault.reason == "METADATA_TOO_DEEP") == (depth > bound), text


@pytest.mark.parametrize("opening", ['{"a":', "[", '{"a":['])
def test_depth_without_end_is_a_fault_and_no_crash(opening: str) -> None:
    """A hundred thousand brackets, closed or not."""
    for text in (opening * 100_000, opening * 100_000 + "]}" * 100_000):
        fault = rules.json_object(text, "metadata", bytes_max=NO_LIMIT, depth_max=32)
        assert fault
        assert fault.reason == "METADATA_TOO_DEEP"
        assert not rules.is_object(text)


@given(json_texts())
def test_what_means_u0000_is_a_fault(text: str) -> None:
    """However it is escaped, in keys too; a backslash before "u0000" is none."""
    fault = rules.json_object(text, "metadata", bytes_max=NO_LIMIT, depth_max=NO_LIMIT)
    if is_object_by_orjson(text):
        holds = "\0" in str(orjson.loads(text)) or "\\x00" in repr(flat(orjson.loads(text)))
        assert (fault.reason if fault else "") == ("TEXT_HAS_NUL" if holds else "")


def flat(value: object) -> list[object]:
    """Every key and value within."""
    if isinstance(value, dict):
        return [part for pair in value.items() for part in flat(list(pair))]
    return [part for inner in value for part in flat(inner)] if isinstance(value, list) else [value]


@given(st.integers(0, 6), st.text(alphabet="0123456789abcdefu\\", max_size=6))
def test_backslashes_decide_whether_u0000_is_meant(backslashes: int, behind: str) -> None:
    """An odd number of them makes an escape."""
    text = '{"a": "' + "\\" * backslashes + "u0000" + '"}'
    fault = rules.json_object(text, "metadata", bytes_max=NO_LIMIT, depth_max=32)
    assert (fault.reason if fault else "") == ("TEXT_HAS_NUL" if backslashes % 2 else "")


@given(st.text(alphabet="aé€😀\0", max_size=12), st.integers(0, 40))
def test_texts_are_measured_in_utf8(text: str, bytes_max: int) -> None:
    """Bytes, not characters; then U+0000."""
    fault = rules.plain_text(text, "user_id", bytes_max=bytes_max)
    expected = "FIELD_TOO_LONG" if len(text.encode()) > bytes_max else "TEXT_HAS_NUL" if "\0" in text else ""
    assert (fault.reason if fault else "") == expected


@given(st.text(max_size=4) | st.from_regex(rules.NAME))
def test_names_are_of_ascii(name: str) -> None:
    """Letters, digits and a few signs; no line end slips through."""
    allowed = 0 < len(name) <= 128 and all(sign.isascii() and (sign.isalnum() or sign in "_.:/-") for sign in name)
    assert (rules.type_name(name) is None) == allowed


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("", True), ("127.0.0.1", True), ("::1", True), ("::ffff:1.2.3.4", True), ("fe80::1%eth0", True),
        ("127.0.0.01", False), ("127.0.0.1 ", False), ("127.0.0.1:80", False), ("[::1]", False), ("0", False),
        ("1.2.3", False), ("::1%" + "x" * 60, False), ("\u0661.1.1.1", False), ("::1\n", False),
    ],
)  # fmt: skip
def test_addresses_are_ipv4_or_ipv6(text: str, fine: bool) -> None:
    """In full, without port, brackets or blanks."""
    assert rules.is_address(text) is fine


@given(st.integers(0, (1 << 48) - 1))
def test_our_ids_are_uuid7_of_their_time(timestamp_ms: int) -> None:
    """Version, variant and time as the standard library and uuid-utils read them (RFC 9562, 5.7)."""
    drawn = rules.new_uuid7(timestamp_ms)
    assert rules.is_uuid7(drawn)
    assert rules.uuid7_time_ms(drawn) == timestamp_ms
    assert uuid.UUID(bytes=drawn).version == 7
    assert uuid.UUID(bytes=drawn).variant == uuid.RFC_4122


def test_only_version_7_tells_a_time() -> None:
    """Ids of all other versions, of other variants and of other lengths."""
    rng = random.Random(3)
    assert rules.is_uuid7(uuid_utils.uuid7().bytes)
    for other in (uuid.uuid1(), uuid.uuid4(), uuid.uuid5(uuid.NAMESPACE_DNS, "x")):
        assert not rules.is_uuid7(other.bytes)
    good = rules.new_uuid7(1)
    assert not rules.is_uuid7(good[:8] + bytes([good[8] & 0x3F]) + good[9:])
    assert not rules.is_uuid7(good + b"\0")
    assert not any(rules.is_uuid7(rng.randbytes(length)) for length in range(16))
