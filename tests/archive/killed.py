"""A process that archives October and kills itself at a step: run with arguments.

python -m tests.archive.killed DATA TARGET STEP
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from server.archive import columns, steps
from server.archive.folders import LocalFolder
from tests.support.archives import made, stored_in, wanted


def main(data: str, target: str, step: str) -> None:
    """Does it."""

    def reached(_step: str) -> None:
        if _step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    steps.reached = reached
    columns.BUCKET_ROWS = 30
    with stored_in(Path(data)) as store:
        made(LocalFolder(Path(target)), store, wanted(store))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
