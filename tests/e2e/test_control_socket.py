"""The daemon's own socket, where the path of the data leaves room for one and where not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from trackd import Client
from trackd.v1 import retention_pb2 as pb
from trackd.v1 import retention_pb2_grpc

from tests.e2e.conftest import DaemonProcess, run
from tests.support.serving import serving
from tests.support.wire import event


def jobs(target: str) -> Any:
    """A question that only the daemon's user may ask."""
    with grpc.insecure_channel(target) as channel:
        stub: Any = retention_pb2_grpc.RetentionServiceStub(channel)  # type: ignore[no-untyped-call]
        return stub.ListJobs(pb.ListJobsRequest(), timeout=20)


def test_a_long_path_has_no_socket_and_harms_nothing(tmp_path: Path) -> None:
    """The daemon says so and serves; what needs the socket is refused with what to do."""
    directory = tmp_path / ("long-" * 20)
    directory.mkdir()
    with serving(directory) as daemon, Client(daemon.target) as client:
        assert client.append([event()], source="t").accepted == 1
        assert "no_control_socket" in daemon.log.read_text("utf-8")
        with pytest.raises(grpc.RpcError) as caught:
            jobs(daemon.target)
        refused: Any = caught.value
        assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "listen.control" in refused.details()


def test_another_place_for_it(tmp_path: Path) -> None:
    """Chosen by the operator, it has to be possible; it is the daemon's user's alone, and gone at the end."""
    directory = tmp_path / ("long-" * 20)
    directory.mkdir()
    socket = tmp_path / "s" / "trackd.sock"
    socket.parent.mkdir()
    with serving(directory, settings=f'[listen]\ncontrol = "{socket}"\n'):
        assert list(jobs(f"unix:{socket}").jobs) == []
        assert socket.stat().st_mode & 0o077 == 0
    assert not socket.exists()


def test_a_chosen_path_that_is_too_long_ends_the_start(tmp_path: Path) -> None:
    """With a reason, before anything is served."""
    daemon = DaemonProcess(tmp_path)
    settings = tmp_path / "trackd.toml"
    settings.write_text(f'[listen]\ncontrol = "{tmp_path / ("x" * 120)}"\n', "utf-8")
    done = run("serve", "--data", str(daemon.data), "--config", str(settings), "--listen", "127.0.0.1:0")
    assert done.returncode == 2
    assert "ADDRESS_UNUSABLE" in done.stderr
