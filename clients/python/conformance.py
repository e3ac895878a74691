"""Drives the Python client for the conformance suite: one JSON command a line on standard input, one answer a line.

    python clients/python/conformance.py HOST:PORT

The commands and their answers are described in clients/conformance/README.md.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import trackd
from trackd.outcomes import BatchResult
from trackd.v1.ingest_pb2 import APPEND_OUTCOME_DUPLICATE

PAUSE_EVENTS = 100
"""`pause_us` of send_made is the sleep after so many events."""


class Driver:
    """One client, and at most one Appender at a time."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._client = trackd.Client(target)
        self._appender: trackd.Appender | None = None
        self._rejections: list[dict[str, Any]] = []

    def do(self, command: dict[str, Any]) -> dict[str, Any]:
        """Carries out one command; what fails is an answer, too."""
        actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "append": self._append,
            "open": self._open,
            "send": self._send,
            "send_made": self._send_made,
            "flush": self._flush,
            "close": self._close,
            "stats": self._stats,
        }
        try:
            return actions[command["cmd"]](command)
        except trackd.TrackdError as error:
            return {"error": told(error)}

    def end(self) -> None:
        """Leaves nothing behind."""
        if self._appender:
            self._appender.abort()
        self._client.close()

    def _append(self, command: dict[str, Any]) -> dict[str, Any]:
        result = self._client.append(
            [event(one) for one in command["events"]],
            source=command["source"],
            durability=command.get("durability", "durable"),
            atomic=command.get("atomic", False),
        )
        items = [
            {
                "index": item.index,
                "outcome": "duplicate" if item.outcome == APPEND_OUTCOME_DUPLICATE else "rejected",
                "reason": item.reason,
                "field": item.field,
                "retryable": item.retryable,
            }
            for item in result.items
        ]
        counts = {name: getattr(result, name) for name in ("accepted", "duplicate", "rejected", "queued")}
        return {"result": {**counts, "items": items}}

    def _open(self, command: dict[str, Any]) -> dict[str, Any]:
        self._rejections = []
        self._appender = trackd.Appender(
            self._target,
            source=command["source"],
            batch_events=command["batch_events"],
            window_batches=command["window_batches"],
            on_result=self._note,
        )
        return {"opened": True}

    def _note(self, result: BatchResult) -> None:
        self._rejections += [{"sequence": one.sequence, "reason": one.reason} for one in result.rejections]

    @property
    def _opened(self) -> trackd.Appender:
        if self._appender is None:
            raise trackd.Invalid("nothing is open", code="FAILED_PRECONDITION", reason="NOT_OPEN")
        return self._appender

    def _send(self, command: dict[str, Any]) -> dict[str, Any]:
        self._opened.send(event(one) for one in command["events"])
        return {"sent": len(command["events"])}

    def _send_made(self, command: dict[str, Any]) -> dict[str, Any]:
        self._opened.send(made(command))
        return {"sent": command["to"] - command["from"]}

    def _flush(self, _command: dict[str, Any]) -> dict[str, Any]:
        return self._answered(self._opened.flush())

    def _close(self, _command: dict[str, Any]) -> dict[str, Any]:
        appender, self._appender = self._opened, None
        return self._answered(appender.close())

    def _answered(self, totals: trackd.Totals) -> dict[str, Any]:
        counts = {"accepted": totals.accepted, "duplicate": totals.duplicate, "rejected": totals.rejected}
        return {"totals": counts, "rejections": sorted(self._rejections, key=lambda one: one["sequence"])}

    def _stats(self, _command: dict[str, Any]) -> dict[str, Any]:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        open_events = self._appender.unacknowledged if self._appender else 0
        return {"rss_bytes": pages * os.sysconf("SC_PAGE_SIZE"), "unacknowledged": open_events}


def told(error: trackd.TrackdError) -> dict[str, Any]:
    """An error as the answer states it."""
    return {
        "code": error.code,
        "reason": error.reason,
        "retryable": error.retryable,
        "retry_after_ms": error.retry_after_ms,
    }


def event(given: dict[str, Any]) -> trackd.Event:
    """An event of the command; what it does not say is not set, so that the client has to fill it in."""
    parts: dict[str, Any] = dict(given)
    if "id" in parts:
        parts["id"] = bytes.fromhex(parts["id"])
    if "change" in parts:
        change = dict(parts["change"])
        for name, prefix in (("action", "CHANGE_ACTION"), ("status", "CHANGE_STATUS")):
            if name in change:
                change[name] = f"{prefix}_{change[name].upper()}"
        parts["change"] = trackd.Change(**change)
    return trackd.Event(**parts)


def made(command: dict[str, Any]) -> Iterator[trackd.Event]:
    """The events numbered from `from` up to, not including, `to`."""
    padding, pause_s = "x" * command.get("padding", 0), command.get("pause_us", 0) / 1_000_000
    for count, number in enumerate(range(command["from"], command["to"]), 1):
        timestamp_ms = command["base_ms"] + number
        yield trackd.new_event(
            command["type"],
            id=timestamp_ms.to_bytes(6, "big") + b"\x70\x00\x80\x00\x00\x00" + number.to_bytes(4, "big"),
            user_id=f"user-{number % 7}",
            timestamp_ms=timestamp_ms,
            metadata={"n": number, "pad": padding} if padding else {"n": number},
        )
        if pause_s and count % PAUSE_EVENTS == 0:
            time.sleep(pause_s)


def main() -> None:
    """Reads commands until the end of input."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    driver = Driver(sys.argv[1])
    for line in sys.stdin:
        sys.stdout.write(json.dumps(driver.do(json.loads(line))) + "\n")
        sys.stdout.flush()
    driver.end()


if __name__ == "__main__":
    main()
