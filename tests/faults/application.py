"""An application that tracks and can be killed: `python -m tests.faults.application HOST:PORT DIRECTORY RUN`.

It tracks events RUN-0, RUN-1 ... (their user_id) without end and says, a line each time, how many were spilled. RUN
"drain" tracks nothing, and ends when everything that was left in DIRECTORY has its answer.
"""

from __future__ import annotations

import sys
import time
from itertools import count

import trackd

BUFFER_EVENTS = 200


def tracker(target: str, directory: str) -> trackd.Tracker:
    """One that spills soon."""
    return trackd.Tracker(
        target,
        source="application",
        when_full="spill",
        spill_directory=directory,
        buffer_events=BUFFER_EVENTS,
        batch_events=20,
        max_delay_s=0.005,
        backoff=trackd.Backoff(first_s=0.02, max_s=0.1),
    )


def run(target: str, directory: str, name: str) -> None:
    """Until it is killed."""
    tracking = tracker(target, directory)
    for number in count():
        while tracking.stats().buffered > BUFFER_EVENTS * 3 // 4:
            time.sleep(0.001)
        assert tracking.track("t", user_id=f"{name}-{number}", metadata={"number": number})
        if number % 20 == 0:
            print(tracking.stats().spilled, flush=True)


def drain(target: str, directory: str) -> None:
    """Until nothing is left."""
    tracking = tracker(target, directory)
    tracking.track("drained", user_id="drain")
    while (stats := tracking.stats()).unanswered or not stats.stored + stats.duplicate:
        print(stats.recovered - stats.unanswered, flush=True)
        time.sleep(0.005)
    print("done", stats.damaged, flush=True)


if __name__ == "__main__":
    if sys.argv[3] == "drain":
        drain(*sys.argv[1:3])
    else:
        run(*sys.argv[1:4])
