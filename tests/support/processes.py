"""The command `trackd` in processes of its own, forked from one that has imported what they need.

Starting an interpreter and importing takes ten times as long as what most tests then do with it. The rest is as ever: a
process with a number of its own, that can be killed, and whose main() gets arguments, environment and files. The real
command line from the start is what tests/e2e/test_deployments.py, test_cli.py and the README's tests run.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

IMPORTED = ("server.daemon", "server.exporter", "typer.main", "rich.progress", "rich.table", "pydantic", "trackd")
"""By the process that is forked. No module of the command: they look at the environment when they are imported."""
_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(list(IMPORTED))


class Trackd:
    """A process that runs `trackd` with these arguments; what it says is added to a file. As subprocess.Popen."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        out: Path,
        err: Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """`err`: where complaints go, if not to `out`. Environment and directory are the test's, if not given."""
        given = (list(arguments), str(out), str(err or out), dict(env or os.environ), str(cwd or Path.cwd()))
        self._arguments = arguments
        self._process = _forking.Process(target=_main, args=given)
        self._process.start()
        self.pid = self._process.pid or 0

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout_s: float | None = None) -> int:
        """The exit code, once it has ended. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout_s)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(list(self._arguments), timeout_s or 0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Sends it, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)


def run(
    arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """`trackd` with these arguments to its end. Raises subprocess.TimeoutExpired."""
    with tempfile.TemporaryDirectory(prefix="trackd-test-") as directory:
        out, err = Path(directory) / "out", Path(directory) / "err"
        process = Trackd(arguments, out=out, err=err, env=env, cwd=cwd)
        try:
            code = process.wait(timeout_s)
        finally:
            process.kill()
        return subprocess.CompletedProcess(list(arguments), code, out.read_text("utf-8"), err.read_text("utf-8"))


def _main(arguments: list[str], out: str, err: str, environment: dict[str, str], directory: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for number, path in enumerate((os.devnull, out, err)):
        opened = os.open(path, flags if number else os.O_RDONLY, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    # As Python makes them at its start.
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), "utf-8")
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)), "utf-8", "backslashreplace", line_buffering=True
    )
    sys.argv = ["trackd", *arguments]
    from server.cli.main import main

    main()
