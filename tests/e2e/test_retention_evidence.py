"""Who may keep events by policy, what is said where one cannot, and evidence that cannot be changed quietly."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
import trackd
from trackd import aio
from trackd.retention import state_of

from tests.e2e.conftest import DaemonProcess
from tests.support.kept import OLD, POLICY, Kept, keeping, months_ago
from tests.support.kept import trackd as command

CALLS: dict[str, Callable[[trackd.retention.Retention], Any]] = {
    "plan": lambda retention: retention.plan(),
    "apply": lambda retention: retention.apply("{}"),
    "watch": lambda retention: list(retention.watch(1)),
    "jobs": lambda retention: retention.jobs(),
    "cancel": lambda retention: retention.cancel(1),
    "agree": lambda retention: retention.agree("0" * 64),
    "status": lambda retention: retention.status(),
    "months": lambda retention: retention.months(),
    "explain": lambda retention: retention.explain("2025-01"),
    "holds": lambda retention: retention.holds(),
    "place_hold": lambda retention: retention.place_hold("A", "B", types=["*"]),
    "release_hold": lambda retention: retention.release_hold("A"),
    "evidence": lambda retention: list(retention.evidence()),
}


def test_over_the_network_nothing_of_it_is_served(daemon: DaemonProcess) -> None:
    """Every call is refused by name, and the command says where to go."""
    assert CALLS.keys() == {name for name in vars(trackd.retention.Retention) if not name.startswith("_")}
    with trackd.Client(daemon.target) as client:
        for name, call in CALLS.items():
            with pytest.raises(trackd.TrackdError) as refused:
                call(client.retention)
            assert (name, refused.value.reason, refused.value.code) == (name, "CONTROL_ONLY", "PERMISSION_DENIED")
    for words in (("retention", "plan"), ("hold", "list")):
        assert "--target unix:" in command(*words, "--target", daemon.target, code=1).stderr


def test_its_own_socket_wants_no_token_whatever_the_environment_says(
    daemon: DaemonProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens and certificates of the environment are for addresses."""
    monkeypatch.setenv("TRACKD_TOKEN", "trackd_x")
    monkeypatch.setenv("TRACKD_TLS", "true")
    command("hold", "list", "--target", f"unix:{daemon.data / 'control.sock'}")


def test_without_a_policy_there_are_holds_and_evidence_only(daemon: DaemonProcess) -> None:
    """All else is refused with what to do."""
    socket = f"unix:{daemon.data / 'control.sock'}"
    for name in ("plan", "status", "months"):
        assert "POLICY_MISSING" in command("retention", name, "--target", socket, code=1).stderr
    command("hold", "add", "--code", "A", "--reason", "TAX", "--type", "*", "--target", socket)
    lines = command("retention", "history", "--json", "--target", socket).stdout.splitlines()
    assert [json.loads(line)["deed"]["action"] for line in lines] == ["place_hold"]


def test_a_policy_that_breaks_stops_retention_and_nothing_else(tmp_path: Path) -> None:
    """Until it is mended; the daemon reads it anew each time and is not started again."""
    with keeping(tmp_path) as kept:
        sound = kept.policy.read_text("utf-8")
        kept.policy.write_text(sound + "\nnonsense = 1\n", "utf-8")
        refused = kept.trackd("retention", "plan", code=1).stderr
        assert "POLICY_UNUSABLE" in refused
        assert f"trackd retention lint {kept.policy}" in refused
        kept.policy.unlink()
        assert "cannot be read" in kept.trackd("retention", "status", code=1).stderr
        kept.send([OLD], each=2)
        kept.policy.write_text(sound, "utf-8")
        assert "drop reviews" in kept.trackd("retention", "plan", code=2).stdout


def test_where_no_daemon_answers_that_is_said_and_has_a_code_of_its_own(tmp_path: Path) -> None:
    """Not the 2 of planned changes; wrong usage neither."""
    missing = command("retention", "plan", "--target", f"unix:{tmp_path}/control.sock", code=69).stderr
    assert "There is no such socket" in missing
    assert "own socket" in command("retention", "status", "--target", "127.0.0.1:1", code=69).stderr
    assert "No such option" in command("retention", "status", "--nonsense", code=64).stderr
    assert "no daemon answers" in command("hold", "list", "--target", "127.0.0.1:1", code=2).stderr


def test_what_is_overdue_is_told_by_exit_code(tmp_path: Path) -> None:
    """Computed from the events, whether or not anything ever ran; the plan says so too."""
    with keeping(tmp_path, policy=POLICY.replace("30 years", "11 years")) as kept:
        kept.send([OLD], each=4)
        assert kept.trackd("retention", "status", code=5).stdout.splitlines()[-1].split()[0] == "reviews"
        (late,) = kept.told("retention", "status", code=5)["overdue"]
        assert (late["class"], late["rows"], late["where"]) == ("reviews", 4, ["live"])
        kept.trackd("retention", "plan", code=5)
        kept.trackd("retention", "apply", "--yes")
        assert kept.told("retention", "status")["overdue"] == []


def test_evidence_is_whole_after_a_restart_and_found_out_when_it_is_changed(tmp_path: Path) -> None:
    """Lines that were kept are checked without a daemon; a record that is changed in the catalog is found by both."""
    lines = tmp_path / "history"
    with keeping(tmp_path) as kept:
        kept.send([OLD], each=3)
        kept.trackd("retention", "apply", "--yes")
        lines.write_text(kept.trackd("retention", "history", "--json").stdout)
        head = kept.told("retention", "status")["evidence"]
    known = f"{head['sequence']}:{head['digest']}"
    assert command("retention", "verify", lines, "--known", known, "--json").exit_code == 0
    _found(lines, known)
    daemon = kept.daemon
    daemon.start("--config", str(tmp_path / "trackd.toml"))
    try:
        kept.trackd("retention", "verify", "--known", known)
        daemon.stop()
        _tamper(daemon.data / "catalog.db")
        daemon.start("--config", str(tmp_path / "trackd.toml"))
        assert "changed" in kept.trackd("retention", "verify", code=1).stdout
        assert kept.trackd("retention", "history").exit_code == 0
    finally:
        daemon.kill()


def _found(lines: Path, known: str) -> None:
    """What is done to a file of evidence is found, and called what it is."""
    whole = lines.read_text().splitlines(keepends=True)
    damages = {
        "changed": [whole[0].replace('"rows_before":0', '"rows_before":1'), *whole[1:]],
        "missing": [whole[0], *whole[2:]],
        "reordered": [whole[1], whole[0], *whole[2:]],
        "truncated": whole[:-1],
    }
    for damage, kept in damages.items():
        lines.write_text("".join(kept))
        done = command("retention", "verify", lines, "--known", known, "--json", code=1)
        assert damage in {one["damage"] for one in json.loads(done.stdout)["findings"]}
    assert "SEQUENCE:DIGEST" in command("retention", "verify", lines, "--known", "x", code=64).stderr
    assert "no receipt" in command("retention", "verify", lines, "--receipt", lines, code=64).stderr


def _tamper(catalog: Path) -> None:
    """Somebody with a SQLite tool makes a record say something else."""
    connection = apsw.Connection(str(catalog))
    line = str(connection.execute("SELECT line FROM evidence WHERE sequence = 2").get)
    changed = line.replace("uid:", "uie:")
    assert changed != line
    connection.execute("UPDATE evidence SET line = ? WHERE sequence = 2", (changed,))
    connection.close()


async def _asynchronous(kept: Kept) -> None:
    async with aio.Client(kept.socket) as client:
        retention = client.retention
        await retention.place_hold("CASE-1", "TAX", users=["nobody"])
        plan = await retention.plan()
        await retention.agree(json.loads(plan.plan)["id"])
        job = await retention.apply(plan.plan)
        watched = [state_of(one) async for one in retention.watch(job.number)]
        assert watched[-1] == "done"
        assert [one.number for one in await retention.jobs()] == [1]
        assert (await retention.explain(str(months_ago(OLD)))).events == 0
        assert len(await retention.months()) == 2
        assert (await retention.release_hold("CASE-1")).HasField("released_ms")
        assert [one.code for one in await retention.holds()] == ["CASE-1"]
        actions = [json.loads(line)["deed"]["action"] async for line in retention.evidence()]
        assert (actions[:2], actions[-1]) == (["place_hold", "agree"], "release_hold")
        assert (await retention.status()).evidence_sequence == len(actions)
        with pytest.raises(trackd.NotFound, match="JOB_UNKNOWN"):
            await retention.cancel(9)


def test_the_same_calls_can_be_awaited(tmp_path: Path) -> None:
    """All of them, over the socket."""
    with keeping(tmp_path) as kept:
        kept.send([OLD], each=2)
        asyncio.run(_asynchronous(kept))


def test_metrics_say_what_is_overdue_and_when_it_went_well(tmp_path: Path) -> None:
    """By class of the policy, and by nothing that a sender wrote."""
    with keeping(tmp_path, policy=POLICY.replace("30 years", "11 years")) as kept:
        kept.send([OLD], each=2)
        kept.trackd("retention", "status", code=5)
        assert _metric(kept, "trackd_retention_overdue_seconds") > 86_400
        before = _metric(kept, "trackd_retention_last_success_timestamp_seconds")
        kept.trackd("retention", "apply", "--yes")
        assert _metric(kept, "trackd_retention_overdue_seconds") == 0
        assert _metric(kept, "trackd_retention_last_success_timestamp_seconds") > before
        assert _metric(kept, "trackd_retention_last_failure_timestamp_seconds") == 0


def _metric(kept: Kept, name: str) -> float:
    with urllib.request.urlopen(f"http://{kept.daemon.metrics}/metrics", timeout=10) as answer:
        found = re.search(rf'^{name}{{class="reviews"}} (\S+)$', answer.read().decode(), re.MULTILINE)
    assert found
    return float(found[1])
