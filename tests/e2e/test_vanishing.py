"""Senders that vanish while the daemon has something to say to them: nobody's defect."""

from __future__ import annotations

from pathlib import Path

from trackd.channel import open_channel
from trackd.v1.event_pb2 import Event

from tests.support.serving import serving
from tests.support.wire import Deaf, Stream, batch_frame


def test_a_sender_that_vanishes_before_its_answers_is_no_defect(tmp_path: Path) -> None:
    """Its stream ends as cancelled; no unexpected error is logged (`serving` looks) and others are served."""
    with serving(tmp_path) as daemon:
        with open_channel(daemon.target) as channel:
            deaf = Deaf(channel, batch_frame(1, *[Event(id=b"x")] * 2_000, Event(id=bytes(100_000))))
            deaf.until_stuck()
            deaf.call.cancel()
        with open_channel(daemon.target) as channel, Stream(channel) as stream:
            stream.takes()
