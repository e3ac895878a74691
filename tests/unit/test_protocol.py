"""protos/PROTOCOL.md says what the daemon and the Python client do, and buf.gen.yaml generates what it says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from trackd.backoff import Backoff
from trackd.errors import Unavailable, breaks_for_good, from_status
from trackd.v1.ingest_pb2 import AppendRequest, AppendResponse, AppendResult, IngestLimits

from server.errors import TrackdError
from server.errors import Unavailable as NotNow
from server.ingest.service import IngestService
from server.ingest.writer import draining, store_failed
from server.rpc import server as rpc_server
from server.storage.sqlite.connection import disk_full
from tests.support import readme

PROTOS = readme.ROOT / "protos"
PAGE = (PROTOS / "PROTOCOL.md").read_text("utf-8")
GENERATE = (readme.ROOT / "buf.gen.yaml").read_text("utf-8")
BUF = shutil.which("buf", path=readme.search_path())
CODES = {code.name for code in grpc.StatusCode}
NOT_REASONS = {"DURABILITY_DURABLE", "DURABILITY_ACCEPTED"}


def table(heading: str) -> list[list[str]]:
    """The rows of the table whose heading has this first cell."""
    found = re.search(rf"^\| {re.escape(heading)} .*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert found, heading
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in found[1].splitlines()]


def queue_full() -> TrackdError:
    """What a single call is told while the queue is full."""
    busy: Any = SimpleNamespace(_writer=SimpleNamespace(has_room=False))
    with pytest.raises(NotNow) as refused:
        IngestService.refuse_if_full(busy)
    return refused.value


def test_the_delays_are_those_that_the_daemon_asks_for() -> None:
    """Reason by reason."""
    told = {error.reason: error.retry_after_ms for error in (queue_full(), disk_full(), draining(), store_failed())}
    assert {readme.code_spans(row[0])[0]: int(row[1]) for row in table("reason")} == told


def test_every_reason_and_status_exists() -> None:
    """What is written in capitals is a status of gRPC, or a reason that the README explains."""
    errors = readme.README.read_text("utf-8").split("## Errors")[1].split("## ")[0]
    reasons = {span for row in readme.tables(errors) for span in readme.code_spans(row[0])}
    spans = {span for span in readme.code_spans(PAGE) if re.fullmatch(r"[A-Z][A-Z_]+", span)}
    assert spans - CODES - NOT_REASONS - reasons - {"OK"} == set()
    assert len(spans & reasons) >= 8


def test_every_limit_of_the_handshake_is_explained() -> None:
    """All of them and no other."""
    spans = {span for row in table("limit") for span in readme.code_spans(row[0])}
    assert spans == {field.name for field in IngestLimits.DESCRIPTOR.fields}


def status(code: str, *, reason: str = "", retry_after_ms: int | None = None) -> status_pb2.Status:
    """A status with these details."""
    details: list[Any] = []
    if reason:
        details.append(error_details_pb2.ErrorInfo(reason=reason, domain="trackd"))
    if retry_after_ms is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(retry_after_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    made = status_pb2.Status(code=grpc.StatusCode[code].value[0], message="no")
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        made.details.append(packed)
    return made


def test_the_table_of_answers_is_what_the_python_client_does() -> None:
    """Of every row about a status: whether the client sends again, or opens another stream."""
    judged = set()
    for case, again, _after in table("answer"):
        named = [span for span in readme.code_spans(case) if span in CODES]
        delay = 700 if "with `RetryInfo`" in case else None
        for code in named:
            error = from_status(status(code, reason="X", retry_after_ms=delay))
            if "end of a stream" in case:
                assert breaks_for_good(error) is again.startswith("no")
            elif "answer to a batch" in case:
                assert not error.retryable
            else:
                assert error.retryable is again.startswith("yes"), case
            if delay and isinstance(error, Unavailable):
                assert Backoff().next_delay_s(error.retry_after_ms) >= 0.7
            judged.add(code)
    assert judged == CODES - {"OK", "ALREADY_EXISTS", "DATA_LOSS"}


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("grpc.max_receive_message_length", 8 << 20, "Stay below 8 MiB"),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000, "every 30 s"),
        ("grpc.keepalive_permit_without_calls", 1, "without calls"),
        ("grpc.max_connection_idle_ms", 15 * 60_000, "after 15 minutes"),
        ("grpc.max_concurrent_streams", 256, "256 calls at a time"),
        ("grpc.max_metadata_size", 16 * 1024, "16 KiB of metadata"),
    ],
)
def test_the_connection_is_as_the_server_is_set(option: str, value: int, words: str) -> None:
    """What the page says of it is an option of the server."""
    assert dict(rpc_server.OPTIONS)[option] == value
    assert words in PAGE.replace("\n", " ")


class Busy(grpc.GenericRpcHandler):
    """Refuses the first call of each method for now, with a pushback, and takes the next."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float]] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """Handles any method."""
        method = handler_call_details.method

        def answer(_request: object, context: Any) -> bytes:
            self.calls.append((method, time.monotonic()))
            if len(self.calls) == 1:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", "300"),))
                context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            return AppendResponse(result=AppendResult(accepted=1)).SerializeToString()

        def stream(requests: object, context: Any) -> Any:
            yield answer(requests, context)

        if method.endswith("Stream"):
            return grpc.stream_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(answer)


def called(use: Callable[[grpc.Channel], object]) -> Busy:
    """What a busy server saw of a client with the service config of the page."""
    (block,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    busy = Busy()
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((busy,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    options = [("grpc.service_config", json.dumps(json.loads(block))), ("grpc.enable_http_proxy", 0)]
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            use(channel)
    finally:
        server.stop(None).wait()
    return busy


def test_the_service_config_repeats_a_call_after_the_delay_that_was_asked_for() -> None:
    """One UNAVAILABLE, then an answer."""

    def append(channel: grpc.Channel) -> None:
        method: Any = channel.unary_unary(
            "/trackd.v1.IngestService/Append",
            request_serializer=AppendRequest.SerializeToString,
            response_deserializer=AppendResponse.FromString,
        )
        assert method(AppendRequest(source="tests")).result.accepted == 1

    (_first, first_s), (_second, second_s) = called(append).calls
    assert second_s - first_s >= 0.29


def test_the_service_config_leaves_streams_alone() -> None:
    """They are resumed by the client, which knows what was answered."""

    def append_stream(channel: grpc.Channel) -> None:
        method: Any = channel.stream_stream("/trackd.v1.IngestService/AppendStream")
        with pytest.raises(grpc.RpcError) as broken:
            list(method(iter([b""])))
        assert isinstance(broken.value, grpc.Call)
        assert broken.value.code() is grpc.StatusCode.UNAVAILABLE

    assert len(called(append_stream).calls) == 1


def plugins() -> list[dict[str, str]]:
    """The entries of buf.gen.yaml, key by key."""
    entries = re.split(r"^  - (?=remote:)", GENERATE.split("plugins:\n")[1], flags=re.MULTILINE)[1:]
    return [dict(re.findall(r"^\s*(\w+): (.+)$", entry, re.MULTILINE)) for entry in entries]


def test_every_plugin_writes_somewhere_and_its_language_has_what_it_needs() -> None:
    """Five languages, and the options in every file of the contract that three of them ask for."""
    assert {plugin["out"] for plugin in plugins()} == {f"gen/{name}" for name in ("go", "java", "ts", "csharp", "rust")}
    assert all(re.fullmatch(r"buf\.build/[\w/-]+", plugin["remote"]) for plugin in plugins())
    files = list((PROTOS / "trackd" / "v1").rglob("*.proto"))
    assert len(files) == 6
    for file in files:
        options = set(re.findall(r"^option (\w+) = \S", file.read_text("utf-8"), re.MULTILINE))
        assert {"go_package", "java_package", "java_multiple_files", "csharp_namespace"} <= options, file.name


PLUGIN = """
import pathlib, sys
from google.protobuf.compiler import plugin_pb2
request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
answer = plugin_pb2.CodeGeneratorResponse(supported_features=1)
answer.file.add(name=sys.argv[1], content="\\n".join(sorted(request.file_to_generate)))
sys.stdout.buffer.write(answer.SerializeToString())
"""
"""Generates one file: the names of the files it was asked to generate from."""


@pytest.mark.skipif(not BUF, reason="buf (of the extra dev) is not on the PATH")
def test_buf_accepts_the_template_and_gives_each_plugin_the_contract(tmp_path: Path) -> None:
    """With a plugin of ours in place of those at the registry, which no test reaches."""
    (tmp_path / "plugin.py").write_text(PLUGIN, "utf-8")
    shutil.copytree(PROTOS, tmp_path / "protos")
    shutil.copy(readme.ROOT / "buf.yaml", tmp_path)
    local = f'local: ["{sys.executable}", "{tmp_path}/plugin.py", "%s"]\n    strategy: all'
    template = re.sub(r"remote: .*$", lambda found: local % found.start(), GENERATE, flags=re.MULTILINE)
    assert "remote:" not in template
    (tmp_path / "buf.gen.yaml").write_text(template, "utf-8")
    assert BUF
    done = subprocess.run([BUF, "generate"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    contract = {str(file.relative_to(PROTOS)) for file in (PROTOS / "trackd" / "v1").rglob("*.proto")}
    written = [file for file in (tmp_path / "gen").rglob("*") if file.is_file()]
    assert len({file.parent for file in written}) == 5
    for file in written:
        generated = set(file.read_text("utf-8").splitlines())
        assert contract <= generated <= contract | {"google/rpc/status.proto"}
