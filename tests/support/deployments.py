"""What deploy/ says, read."""

from __future__ import annotations

import json
import re
import shlex
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"


@cache
def compose() -> dict[str, Any]:
    """The compose file."""
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8")))


def manifest(kind: str) -> dict[str, Any]:
    """The one of this kind."""
    found = [yaml.safe_load(file.read_text("utf-8")) for file in sorted((DEPLOY / "kubernetes").glob("*.yaml"))]
    (one,) = [each for each in found if each["kind"] == kind]
    return dict(one)


@cache
def dockerfile() -> dict[str, list[str]]:
    """Instruction -> its arguments, each time."""
    lines = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    found = defaultdict(list)
    for line in filter(None, re.sub(r"\\\n\s*", "", lines).splitlines()):
        instruction, _space, arguments = line.partition(" ")
        found[instruction].append(arguments)
    return found


@cache
def unit_file() -> dict[str, dict[str, list[str]]]:
    """Section -> key -> its values, of the unit of systemd."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in (DEPLOY / "systemd" / "trackd.service").read_text("utf-8").splitlines():
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            section = found.setdefault(heading[1], defaultdict(list))
        elif line and not line.startswith("#"):
            key, _equals, value = line.partition("=")
            section[key].append(value)
    return found


def commands() -> dict[str, list[str]]:
    """How each of them starts the daemon: the words after `trackd`."""
    (container,) = manifest("StatefulSet")["spec"]["template"]["spec"]["containers"]
    return {
        "image": json.loads(dockerfile()["CMD"][0]),
        "compose": compose()["services"]["trackd"]["command"],
        "kubernetes": container["args"],
        "systemd": shlex.split(unit_file()["Service"]["ExecStart"][0])[1:],
    }
