"""The processes that are measured: the daemon, and a gRPC server that does nothing."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from trackd.v1 import ingest_pb2

from server.errors import Internal, Precondition

START_S = 30.0
STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class Peer:
    """A running server process."""

    process: subprocess.Popen[bytes]
    target: str
    metrics: str

    def peak_rss_bytes(self) -> int:
        """The most memory that the process ever had resident."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0

    def cpu_s(self) -> float:
        """The processor time that the process has used (user and system), in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def samples(self) -> dict[str, float]:
        """The samples of /metrics by name and labels, as the text format writes them."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as reply:
            lines = reply.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


@contextmanager
def daemon(data: Path, *options: str) -> Iterator[Peer]:
    """A daemon on a directory and free ports; stopped, gracefully, at the end."""
    command = [sys.executable, "-m", "server.cli.main", "serve", "--data", str(data)]
    command += ["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--log-level", "warning", *options]
    with _process(command) as peer:
        yield peer


@contextmanager
def unmeasured(data: Path) -> Iterator[Peer]:
    """A daemon like `daemon` whose metrics nobody counts."""
    with _process([sys.executable, "-m", "server.bench.unmeasured", str(data)]) as peer:
        yield peer


@contextmanager
def noop() -> Iterator[Peer]:
    """A bare grpc.aio server with the same methods that answers at once and keeps nothing."""
    with _process([sys.executable, "-m", "server.bench.peers"]) as peer:
        yield peer


@contextmanager
def _process(command: Sequence[str]) -> Iterator[Peer]:
    with tempfile.TemporaryDirectory() as directory:
        ready = Path(directory) / "ready.json"
        process = subprocess.Popen([*command, "--ready-file", str(ready)])
        try:
            deadline = time.monotonic() + START_S
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Internal("BENCH_PEER_FAILED", f"{command[2]} did not start")
                time.sleep(0.01)
            words = json.loads(ready.read_text("utf-8"))
            yield Peer(process, words["grpc"], words["metrics"])
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def refuse_tmpfs(directory: Path) -> None:
    """Raises Precondition if a directory is in memory: an fsync there costs nothing and measures nothing."""
    best, kind = "", ""
    for line in Path("/proc/self/mounts").read_text("utf-8").splitlines():
        _device, mount, fs_type, *_rest = line.split()
        if str(directory.resolve()).startswith(mount) and len(mount) >= len(best):
            best, kind = mount, fs_type
    if kind in ("tmpfs", "ramfs"):
        raise Precondition(
            "BENCH_ON_TMPFS", f"{directory} is in memory ({kind})", hint="choose a directory on a disk with --directory"
        )


def fdatasync_p50_ms(directory: Path) -> float:
    """The median time of an fdatasync after appending one page, of 100."""
    times = []
    descriptor = os.open(directory / "fdatasync-probe", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(100):
            os.write(descriptor, bytes(4096))
            start = time.perf_counter()
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - start)
    finally:
        os.close(descriptor)
        (directory / "fdatasync-probe").unlink()
    return sorted(times)[50] * 1000


async def _serve_noop(ready: Path) -> None:
    unary_reply = ingest_pb2.AppendResponse(result=ingest_pb2.AppendResult(accepted=1)).SerializeToString()
    opened = ingest_pb2.AppendStreamResponse(opened=ingest_pb2.AppendStreamOpened()).SerializeToString()
    answer = ingest_pb2.AppendBatchAnswer(result=ingest_pb2.AppendResult(accepted=1))
    stream_reply = ingest_pb2.AppendStreamResponse(answer=answer).SerializeToString()

    async def append(_raw: bytes, _context: Any) -> bytes:
        return unary_reply

    async def append_stream(_requests: Any, context: Any) -> None:
        await context.read()
        await context.write(opened)
        while await context.read() is not grpc.aio.EOF:
            await context.write(stream_reply)

    server = grpc.aio.server(options=(("grpc.max_receive_message_length", 8 << 20),))
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Append": grpc.unary_unary_rpc_method_handler(append),
        "AppendStream": grpc.stream_stream_rpc_method_handler(append_stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("trackd.v1.IngestService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    partial = ready.with_suffix(".partial")
    partial.write_text(json.dumps({"grpc": f"127.0.0.1:{port}", "metrics": ""}), "utf-8")
    partial.replace(ready)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve_noop(Path(sys.argv[2])))
