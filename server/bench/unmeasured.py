"""A daemon that measures nothing, to compare with: `python -m server.bench.unmeasured DATA --ready-file FILE`.

Everything is announced as ever, and nobody listens. Gauges, which cost nothing between scrapes, are still there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from server import config, daemon, logs
from server.observe import Observer


def main(data: str, _option: str, ready_file: str) -> int:
    """Serves until it is told to stop."""
    logs.configure(json_lines=True, level="warning")
    free = {"data": data, "listen.grpc": "127.0.0.1:0", "listen.metrics": "127.0.0.1:0"}
    return daemon.serve(config.load(None, free), ready_file=Path(ready_file), observer=Observer())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
