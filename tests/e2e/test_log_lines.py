"""What senders and askers say never gets into the log, whatever they send to whichever method."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from trackd.channel import open_channel
from trackd.v1 import event_pb2, ingest_pb2, query_pb2

from server.model import Role
from server.security.roles import ALLOWED
from tests.e2e.conftest import DaemonProcess
from tests.support.access import Keyring, make_keyring, outcome, with_token
from tests.support.serving import serving
from tests.support.wire import APPEND, event, field, unary_frame

SECRET = "hush-5d41"  # noqa: S105  # what must not be seen again
WORD = SECRET.encode()
NOT_TEXT = WORD + b"\xff\xfe"
AGGREGATE = "/trackd.v1.QueryService/Aggregate"
LIST = "/trackd.v1.QueryService/ListEvents"


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    """A token for each role."""
    return make_keyring(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def served(keyring: Keyring, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon that logs all it can. In the end every line of it is JSON, and nothing of what was sent is in one."""
    directory = tmp_path_factory.mktemp("log")
    with serving(directory, *keyring.options(), settings='[log]\nlevel = "debug"\n') as daemon:
        yield daemon
    lines = daemon.log.read_text("utf-8", "replace").splitlines()
    assert {"store_open", "serving", "call_denied", "stopped"} <= {json.loads(line)["event"] for line in lines}
    assert [line for line in lines if SECRET in line or WORD.hex() in line] == []
    assert [text for text in keyring.texts.values() if text.split("_")[2] in "".join(lines)] == []


def anything() -> Iterator[bytes]:
    """Messages that are none: noise, and the word as a field of every number and kind, also inside of each other."""
    yield WORD
    yield NOT_TEXT * 100
    for content in (WORD, NOT_TEXT, b'{"a": "' + WORD + b'"}'):
        yield b"".join(field(number, content) for number in range(1, 16))
        for number in range(1, 8):
            yield field(number, field(1, content) + field(2, content) + field(3, content))
            yield field(number, field(number, field(1, content)))


@pytest.mark.parametrize("method", ALLOWED)
def test_no_message_is_quoted_by_any_method(method: str, served: DaemonProcess, keyring: Keyring) -> None:
    """With a token that may do everything, with one that is made up, and with none."""
    with open_channel(served.target) as channel:
        for message in anything():
            outcome(channel, method, message=message, metadata=with_token(keyring.texts[Role.OPERATE]))
        for metadata in (with_token(SECRET), with_token(f"trackd_{'0' * 12}_{SECRET}"), ()):
            outcome(channel, method, message=WORD, metadata=metadata)
        outcome(channel, method + SECRET, metadata=with_token(keyring.texts[Role.OPERATE]))


def hostile_events() -> Iterator[event_pb2.Event]:
    """Events that are rejected, each for something that has the word in it."""
    change = event_pb2.Change(table_name=SECRET, row_id=SECRET, old_values=SECRET, new_values=f"[{SECRET}]")
    for part in (
        {"type": f"no spaces, {SECRET}"},
        {"user_id": SECRET + "\0"},
        {"user_id": SECRET * 10_000},
        {"metadata": SECRET},
        {"metadata": f'{{"{SECRET}": ' + "[" * 1_000},
        {"client_ip": SECRET},
        {"tags": [f"no spaces, {SECRET}"]},
        {"session_id": SECRET * 10_000},
        {"id": WORD},
        {"change": change},
        {"timestamp_ms": 1, "description": SECRET},
    ):
        yield event(**part)
    yield event(id=b"5" * 16, user_id=SECRET)
    yield event(id=b"5" * 16, user_id=SECRET + "2")


def test_rejected_events_and_wrong_questions_are_not_quoted(served: DaemonProcess, keyring: Keyring) -> None:
    """Neither one by one nor together, neither their values nor their names."""
    token = with_token(keyring.texts[Role.OPERATE])
    events = list(hostile_events())
    questions = (
        (LIST, query_pb2.ListEventsRequest(page_token=SECRET)),
        (AGGREGATE, query_pb2.AggregateRequest(metrics=[f"sum({SECRET})", SECRET], dimensions=[SECRET])),
        (AGGREGATE, query_pb2.AggregateRequest(metrics=["events"], time_zone=SECRET)),
    )
    with open_channel(served.target) as channel:
        for batch in ([one] for one in events), [events]:
            for some in batch:
                outcome(channel, APPEND, message=unary_frame("tests", *some), metadata=token)
                outcome(channel, APPEND, message=unary_frame("tests", *some, atomic=True), metadata=token)
        outcome(channel, APPEND, message=unary_frame(f"no spaces, {SECRET}", event()), metadata=token)
        for method, question in questions:
            assert outcome(channel, method, message=question.SerializeToString(), metadata=token).reason
        good = ingest_pb2.AppendRequest(source="tests", events=[event(user_id=SECRET, metadata=f'{{"a":"{SECRET}"}}')])
        assert not outcome(channel, APPEND, message=good.SerializeToString(), metadata=token).reason


def test_the_daemon_that_was_spoken_to_like_this_is_well(served: DaemonProcess, tmp_path: Path) -> None:
    """It still answers; what it logged is looked at when it has stopped."""
    with open_channel(served.target) as channel:
        assert outcome(channel, "/grpc.health.v1.Health/Check").reason == ""
