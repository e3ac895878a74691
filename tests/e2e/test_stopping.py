"""A graceful stop under load: everything in flight is answered, refused or left open; nothing acknowledged is lost."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import grpc
from trackd.channel import open_channel
from trackd.client import Client
from trackd.v1.event_pb2 import Event

from tests.support.serving import serving
from tests.support.wire import Refusal, Stream, append_raw, batch_frame, ended, event, refusal, unary_frame

IN_FLIGHT = 8
DRAINING = Refusal(grpc.StatusCode.UNAVAILABLE, "DRAINING", "trackd", retry_after_ms=1_000)


class Sender(threading.Thread):
    """Streams batches until the daemon ends its stream, and keeps what each was answered."""

    def __init__(self, target: str, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._target = target
        self.sent: list[list[Event]] = []
        self.acknowledged = 0
        """Batches answered as stored, from the first on."""
        self.refusals: list[Refusal] = []
        self.end: Refusal | None = None

    def run(self) -> None:
        """Keeps some batches in flight."""
        with open_channel(self._target) as channel:
            stream = Stream(channel, source=self.name)
            stream.receive()
            try:
                while True:
                    batch = [event(user_id=self.name) for _ in range(50)]
                    self.sent.append(batch)
                    stream.send(batch_frame(len(self.sent), *batch))
                    if len(self.sent) > IN_FLIGHT:
                        self._receive(stream)
            except (grpc.RpcError, StopIteration):
                self.end = ended(stream.call)
                stream.cancel()

    def _receive(self, stream: Stream) -> None:
        answer = stream.receive().answer
        assert answer.batch_id == self.acknowledged + len(self.refusals) + 1, "answers out of order"
        if answer.WhichOneof("outcome") == "error":
            self.refusals.append(refusal(answer.error))
        else:
            assert not self.refusals, "taken after the stop had begun"
            assert answer.result.accepted == 50
            self.acknowledged += 1


class Caller(threading.Thread):
    """Appends one event a call until the daemon is gone."""

    def __init__(self, target: str) -> None:
        super().__init__(daemon=True)
        self._target = target
        self.acknowledged: list[bytes] = []
        self.open: Event | None = None
        self.end: Refusal | None = None

    def run(self) -> None:
        """One call after the other."""
        with open_channel(self._target) as channel:
            while self.end is None:
                self.open = event(user_id="caller")
                frame = unary_frame("caller", self.open)
                try:
                    append_raw(channel, frame)
                    self.acknowledged.append(self.open.id)
                except grpc.RpcError as error:
                    if not isinstance(error, grpc.Call):
                        raise
                    self.end = ended(error)


def test_a_stop_under_load_loses_nothing(tmp_path: Path) -> None:
    """SIGTERM while three streams and a caller send: exit code 0, typed ends, and everything sent is stored once."""
    with serving(tmp_path) as daemon:
        senders = [Sender(daemon.target, f"sender{number}") for number in range(3)]
        caller = Caller(daemon.target)
        for thread in (*senders, caller):
            thread.start()
        while min(sender.acknowledged for sender in senders) < 20 or len(caller.acknowledged) < 5:
            time.sleep(0.01)
        start = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - start < 10
        for thread in (*senders, caller):
            thread.join(20)
            assert not thread.is_alive()
        for sender in senders:
            assert sender.end == DRAINING, sender.end
            assert set(sender.refusals) <= {DRAINING}
        assert caller.end is not None
        assert caller.end.code is grpc.StatusCode.UNAVAILABLE
        daemon.start()
        with Client(daemon.target) as client, open_channel(daemon.target) as channel:
            stored = [bytes(one.event.id) for one in client.list_events()]
            assert len(stored) == len(set(stored))
            promised = {one.id for sender in senders for batch in sender.sent[: sender.acknowledged] for one in batch}
            assert promised | set(caller.acknowledged) <= set(stored)
            for sender in senders:
                with Stream(channel, source=sender.name) as stream:
                    for number, batch in enumerate(sender.sent):
                        result = stream.ask(*batch).result
                        assert result.accepted + result.duplicate == 50
                        assert number >= sender.acknowledged or result.duplicate == 50
            everything = {one.id for sender in senders for batch in sender.sent for one in batch}
            found = [bytes(one.event.id) for one in client.list_events() if one.event.user_id != "caller"]
            assert sorted(found) == sorted(everything)
