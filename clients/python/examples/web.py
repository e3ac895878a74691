"""A web service that tells trackd what its users do: an event a request, sent in the background, each stored once.

    TRACKD_TARGET=127.0.0.1:7077 PORT=8080 python clients/python/examples/web.py

Copy it and go on from there; it needs nothing but trackd-client.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import trackd

log = logging.getLogger("web")


def complain(rejection: trackd.Rejection) -> None:
    """Of events that the daemon does not take: a defect of this program, most likely."""
    log.error("rejected: %s %s: %s", rejection.event.type, rejection.reason, rejection.message)


# Of TRACKD_TARGET, or the daemon on this machine. It may be away: what has no room is dropped, and counted.
tracker = trackd.Tracker(source="web", on_rejected=complain)


class Handler(BaseHTTPRequestHandler):
    """Says hello to whatever is asked for."""

    def do_GET(self) -> None:
        """One request, and one event with its `duration_ms` and `outcome`."""
        user = self.headers.get("X-User", "")
        with tracker.tracked("request_served", user_id=user, metadata={"path": self.path}) as span:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello\n")
            span.metadata["status"] = 200


def main() -> None:
    """Serves until it is asked to end."""
    logging.basicConfig(level=logging.INFO)
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Handler)
    server.daemon_threads = False  # what is being answered at the end is tracked, too
    # Python ends at SIGTERM without a word to anybody; this way it ends as at the end of the program.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    print("listening on", server.server_port, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
        print(tracker.close())  # sends what is open


if __name__ == "__main__":
    main()
