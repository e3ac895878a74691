"""systemd, hadolint and the schemas of Kubernetes and of Compose find nothing wrong with what is shipped."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "systemd" / "trackd.service"
EXPOSURE_MAX = 12
"""Tenths, of 100: what is left is the network, the host's files read-only, and retention that gives way."""
COMPOSE = "github.com/compose-spec/compose-go/v2@v2.16.2"
"""The module of the reference implementation, which has the schema."""
FOREIGN = {"ServiceMonitor"}
"""Kinds that are not Kubernetes' own; tests/unit/test_deployments.py looks at them."""
TOOL_S = 60.0


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """A tool, to its end."""
    program = shutil.which(str(command[0])) or shutil.which(str(command[0]), path=str(Path(sys.executable).parent))
    assert program, f"{command[0]} is not installed"
    arguments = [program, *map(str, command[1:])]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=TOOL_S, check=False)


# systemd


def verify(root: Path, unit: str) -> str:
    """What `systemd-analyze verify` says of a unit in a machine that has the daemon, and systemd's own units."""
    (root / "etc/systemd/system").mkdir(parents=True)
    (root / "etc/systemd/system/trackd.service").write_text(unit, "utf-8")
    for program in ("opt/trackd/bin/trackd", "bin/sh"):
        (root / program).parent.mkdir(parents=True)
        (root / program).write_text("#!/bin/sh\n", "ascii")
        (root / program).chmod(0o755)
    shutil.copytree("/usr/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True)
    done = run("systemd-analyze", "verify", f"--root={root}", "trackd.service")
    return done.stdout + done.stderr


def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    """It ignores what it does not know, with a warning and without an error: there must be none."""
    assert verify(tmp_path / "as-shipped", UNIT.read_text("utf-8")) == ""
    for line, other in (("ProtectHome=yes", "ProtectHoome=yes"), ("/opt/trackd/bin/trackd", "/opt/trackd/trackd")):
        changed = UNIT.read_text("utf-8").replace(line, other)
        assert other in verify(tmp_path / other.replace("/", "-"), changed)


def test_the_unit_is_hardened() -> None:
    """By systemd's own measure."""
    done = run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager", UNIT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "exposure level for trackd.service" in done.stdout


def test_the_account_of_the_unit_is_made(tmp_path: Path) -> None:
    """By systemd-sysusers, from the file beside it."""
    (tmp_path / "etc").mkdir()
    done = run("systemd-sysusers", f"--root={tmp_path}", DEPLOY / "systemd" / "sysusers.conf")
    assert done.returncode == 0, done.stderr
    assert "trackd:" in (tmp_path / "etc" / "passwd").read_text("utf-8")


# Containers


def test_hadolint_has_no_complaint() -> None:
    """Not even advice."""
    done = run("hadolint", "--failure-threshold", "style", DEPLOY / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


@cache
def compose_schema() -> Any:
    """That of the Compose Specification."""
    done = run("go", "mod", "download", "-json", COMPOSE)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((Path(json.loads(done.stdout)["Dir"]) / "schema" / "compose-spec.json").read_text("utf-8"))


def test_the_compose_file_is_one() -> None:
    """As the specification has it; a key that it does not have is found."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    jsonschema.validate(compose, compose_schema())
    compose["services"]["trackd"]["prots"] = []
    with pytest.raises(jsonschema.ValidationError, match="prots"):
        jsonschema.validate(compose, compose_schema())


# Kubernetes


def manifests() -> list[Path]:
    """Those of Kubernetes' own kinds."""
    files = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    return [file for file in files if yaml.safe_load(file.read_text("utf-8"))["kind"] not in FOREIGN]


def test_kubernetes_takes_every_manifest(tmp_path: Path) -> None:
    """By its own schemas, of the newest version and of an old one; a key that it does not have is found."""
    assert len(manifests()) >= 4
    for version in ("", "1.29"):
        chosen = ["-k", version] if version else []
        done = run("kubernetes-validate", "--strict", *chosen, *manifests())
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("passed") + done.stderr.count("passed") == len(manifests())
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((DEPLOY / "kubernetes" / "service.yaml").read_text("utf-8").replace("clusterIP:", "custerIP:"))
    assert run("kubernetes-validate", "--strict", wrong).returncode != 0
