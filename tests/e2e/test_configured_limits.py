"""What the operator's settings refuse or allow: closed registries, bounded names and months, level ACCEPTED."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path

import grpc
import pytest
from trackd.channel import open_channel
from trackd.client import Client
from trackd.errors import TrackdError
from trackd.v1.ingest_pb2 import DURABILITY_ACCEPTED, DURABILITY_DURABLE, AppendRequest
from trackd.v1.query_pb2 import EventFilter

from tests.support.serving import serving
from tests.support.wire import Refusal, Stream, append_raw, batch_frame, event, field, now_ms, refusal, refused
from tests.support.wire import unary_frame as unary

INVALID = grpc.StatusCode.INVALID_ARGUMENT
MONTH_MS = 31 * 86_400_000


def precondition(reason: str) -> Refusal:
    """FAILED_PRECONDITION with its details."""
    return Refusal(grpc.StatusCode.FAILED_PRECONDITION, reason, "trackd", unmet=reason)


def test_a_closed_registry_takes_registered_types_only(tmp_path: Path) -> None:
    """TYPE_UNKNOWN for each event of another type, until somebody registers it; it is then taken on the same stream."""
    with (
        serving(tmp_path, "--closed-registry") as daemon,
        open_channel(daemon.target) as channel,
        Client(daemon.target) as client,
    ):
        client.register_event_type("known")
        with Stream(channel) as stream:
            result = stream.ask(event(type="known"), event(type="new"), event(type="known")).result
            assert [(item.index, item.reason, item.field) for item in result.items] == [(1, "TYPE_UNKNOWN", "type")]
            assert result.accepted == 2
            result = stream.ask(event(type="known"), event(type="new"), atomic=True).result
            assert [item.reason for item in result.items] == ["ATOMIC_ABORTED", "TYPE_UNKNOWN"]
            client.register_event_type("new")
            stream.takes(event(type="new"))
        assert not client.list_event_types_page().open_registry
        assert client.count_events().events == 3


def test_types_are_bounded(tmp_path: Path) -> None:
    """TYPE_LIMIT for events and registrations beyond; known types go on."""
    with serving(tmp_path, settings="[limits]\ntypes_max = 2\n") as daemon, open_channel(daemon.target) as channel:
        with Stream(channel) as stream:
            result = stream.ask(*(event(type=name) for name in ("a", "b", "c", "a", "d"))).result
            assert [(item.index, item.reason, item.field) for item in result.items] == [
                (2, "TYPE_LIMIT", "type"),
                (4, "TYPE_LIMIT", "type"),
            ]
            stream.takes(event(type="a"), event(type="b"))
        with Client(daemon.target) as client:
            with pytest.raises(TrackdError) as caught:
                client.register_event_type("c")
            assert (caught.value.code, caught.value.reason) == ("FAILED_PRECONDITION", "TYPE_LIMIT")
            assert client.register_event_type("a", "still possible").description == "still possible"
            assert [entry.name for entry in client.list_event_types()] == ["a", "b"]
            assert client.count_events().events == 5


def test_sources_are_bounded(tmp_path: Path) -> None:
    """SOURCE_LIMIT for new names, also after a restart; known names go on."""
    with serving(tmp_path, settings="[limits]\nsources_max = 2\n") as daemon:
        for _turn in range(2):
            with open_channel(daemon.target) as channel:
                for name in ("one", "two"):
                    assert append_raw(channel, unary(name, event())).accepted == 1
                assert refused(lambda: append_raw(channel, unary("three", event()))) == precondition("SOURCE_LIMIT")
                stream = Stream(channel, source="four")
                assert refused(stream.receive) == precondition("SOURCE_LIMIT")
                stream.cancel()
                with Stream(channel, source="two") as known:
                    known.takes()
            assert daemon.stop() == 0
            daemon.start("--config", str(tmp_path / "trackd.toml"))
        with Client(daemon.target) as client:
            assert [row.source for row in client.count_events(by=["source"]).rows] == ["one", "two"]
            assert client.count_events().events == 6


def test_months_are_bounded(tmp_path: Path) -> None:
    """Wild timestamps cannot make files without end: MONTH_LIMIT for events of further months, the others stored."""
    with serving(tmp_path, settings="[limits]\nmonths_max = 3\n") as daemon, open_channel(daemon.target) as channel:
        with Stream(channel) as stream:
            wild = [event(timestamp_ms=now_ms() - back * MONTH_MS) for back in range(50)]
            result = stream.ask(*wild).result
            assert (result.accepted, result.rejected) == (3, 47)
            assert {(item.reason, item.field) for item in result.items} == {("MONTH_LIMIT", "timestamp_ms")}
            stream.takes()
        assert len(list((daemon.data / "months").iterdir())) == 3
        with Client(daemon.target) as client:
            assert client.count_events().events == 4


def test_the_handshake_tells_the_limits_and_they_hold(tmp_path: Path) -> None:
    """Small limits of the operator: told when a stream opens, refused beyond by name, taken up to there."""
    settings = """
        [limits]
        batch_events_max = 3
        batch_bytes_max = 2000
        metadata_bytes_max = 100
        user_id_bytes_max = 4
        tags_max = 1
        in_flight_batches_max = 2
        future_skew_max_ms = 0
        oldest_month = "2020-01"
    """
    with serving(tmp_path, settings=settings) as daemon, open_channel(daemon.target) as channel:
        with Stream(channel) as stream:
            told = stream.opened.limits
            assert (told.max_batch_events, told.max_batch_bytes, told.max_metadata_bytes) == (3, 2_000, 100)
            assert (told.max_in_flight_batches, told.oldest_timestamp_ms) == (2, 1_577_836_800_000)
            assert told.max_future_skew_ms == 0
            too_large = Refusal(INVALID, "BATCH_TOO_LARGE", "trackd", "events")
            assert refusal(stream.ask(*[event()] * 4).error) == too_large
            assert refusal(stream.ask(event(description="x" * 2_000)).error) == too_large
            long = event(metadata='{"a":"' + "x" * 99 + '"}')
            faulty = stream.ask(event(user_id="12345"), event(tags=["a", "b"]), long)
            reasons = [item.reason for item in faulty.result.items]
            assert reasons == ["FIELD_TOO_LONG", "TAG_INVALID", "METADATA_TOO_LARGE"]
            late = stream.ask(event(timestamp_ms=1_577_836_799_999), event(timestamp_ms=now_ms() + 60_000))
            assert [item.reason for item in late.result.items] == ["TIMESTAMP_TOO_OLD", "TIMESTAMP_IN_FUTURE"]
            stream.takes(event(user_id="1234"), event(tags=["a"]), event(timestamp_ms=1_577_836_800_000))
            for number in range(100, 150):  # more than may be in flight: they are read later, and all answered
                stream.send(batch_frame(number, event()))
            assert [stream.receive().answer.batch_id for _ in range(50)] == list(range(100, 150))
        with Client(daemon.target) as client:
            assert client.count_events().events == 53


def test_level_accepted_is_given_where_it_is_allowed(tmp_path: Path) -> None:
    """`queued` and nothing else, over both methods; what was queued is stored, what could not be is counted as lost."""
    with serving(tmp_path, "--allow-accepted") as daemon, open_channel(daemon.target) as channel:
        with Stream(channel, durability=DURABILITY_ACCEPTED) as stream:
            assert stream.opened.durability == DURABILITY_ACCEPTED
            result = stream.ask(event(session_id="s"), event(session_id="s")).result
            assert (result.accepted, result.queued, result.durability) == (0, 2, DURABILITY_ACCEPTED)
            assert not result.HasField("first_position")
            assert not result.HasField("last_position")
            repeated = event(session_id="s")
            other = event(id=repeated.id, timestamp_ms=repeated.timestamp_ms, user_id="other")
            assert stream.ask(repeated).result.queued == 1
            assert stream.ask(other).result.queued == 1  # a conflict, which nobody waits for
            assert refusal(stream.ask(*[event()] * 10_001).error).reason == "BATCH_TOO_LARGE"
            stream.send(field(99, b""))
            assert refusal(stream.receive().answer.error).reason == "BATCH_EXPECTED"
        request = AppendRequest(source="tests", durability=DURABILITY_ACCEPTED, events=[event(session_id="s")])
        assert append_raw(channel, request.SerializeToString()).queued == 1
        request.durability = DURABILITY_DURABLE
        durable = append_raw(channel, request.SerializeToString())
        assert (durable.duplicate, durable.durability) == (1, DURABILITY_DURABLE)
        with Client(daemon.target) as client:
            assert client.count_events(EventFilter(session_ids=["s"])).events == 4
        assert metric(daemon.metrics, "trackd_events_accepted_lost_total") == 1


def metric(address: str, name: str) -> float:
    """The value of a counter without labels, once it is not zero any more (or after a second)."""
    until_s = time.monotonic() + 1
    while True:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as page:
            lines = page.read().decode().splitlines()
        (value,) = [float(line.split()[1]) for line in lines if line.startswith(name + " ")]
        if value or time.monotonic() > until_s:
            return value
        time.sleep(0.01)
