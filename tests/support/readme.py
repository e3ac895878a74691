"""README.md as tests see it: its blocks, its tables, and a reader who does what it says.

`python -m tests.support.readme` writes the table of metrics anew.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import itertools
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prometheus_client.core import Metric

from server.metrics.observer import PrometheusObserver
from server.objectives import DEFAULTS
from server.rpc.status import CODES
from tests.support.gauges import make_gauges

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
GRPC, METRICS = "127.0.0.1:7077", "127.0.0.1:9077"
"""The addresses that the README speaks of: the defaults of `trackd serve`."""
OUTPUTS = ("text", "json")
"""What a block shows that stands right behind another one and in one of these languages: the output of that one."""
START_S = 30.0
COMMAND_S = 60.0
STOP_S = 30.0

_FENCED = re.compile(r"^```(\w+)[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_REASON = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
_PER_EVENT = "rejected"
"""Stands for a status where one event of a batch is rejected and the call as such succeeds."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. `line` is where its text begins; `output` is what it shows, as (language, text)."""

    language: str
    text: str
    line: int
    output: tuple[str, str] | None = None

    def __str__(self) -> str:
        return f"README.md:{self.line} ({self.language})"


def blocks(readme: str) -> list[Block]:
    """All blocks that can be run, in order, each with the output that is shown right behind it."""
    found = list(_FENCED.finditer(readme))
    behind = [*found[1:], None]
    result = []
    for block, following in zip(found, behind, strict=True):
        if block[1] in OUTPUTS:
            continue
        line = readme.count("\n", 0, block.start(2)) + 1
        shown = following and following[1] in OUTPUTS and not readme[block.end() : following.start()].strip()
        output = (following[1], following[2]) if following and shown else None
        result.append(Block(block[1], block[2], line, output))
    return result


def tables(section: str) -> list[list[str]]:
    """The cells of all rows of all tables in a section, without their headings."""
    rows: list[list[str]] = []
    for line in section.splitlines():
        if re.fullmatch(r"\|(\s*:?-+:?\s*\|)+", line):
            rows.pop()  # the line before was the heading
        elif line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def code_spans(text: str) -> list[str]:
    """What stands in `backticks`."""
    return re.findall(r"`([^`]+)`", text)


def search_path() -> str:
    """The PATH of a reader whose .venv/bin comes first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def differences(block: Block, got: str) -> str:
    """What the README shows that did not come out; "" if all is as shown. "..." stands for anything."""
    if block.output is None:
        return ""
    language, wanted = block.output
    if language == "json":
        same = _json_fits(json.loads(wanted), json.loads(got))
    else:
        wanted, got = (re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE) for text in (wanted, got))
        same = doctest.OutputChecker().check_output(wanted, got, doctest.ELLIPSIS)
    return "" if same else f"{block} shows\n{wanted}\nand this came out\n{got}"


def _json_fits(wanted: Any, got: Any) -> bool:
    if wanted == "...":
        return True
    if isinstance(wanted, dict) and isinstance(got, dict):
        return wanted.keys() == got.keys() and all(_json_fits(wanted[key], got[key]) for key in wanted)
    if isinstance(wanted, list) and isinstance(got, list):
        return len(wanted) == len(got) and all(map(_json_fits, wanted, got))
    return bool(wanted == got)


class Follower:
    """Does what the README says, block after block, in a directory of its own; a context manager.

    Each `trackd serve` goes on in the background, as in a terminal of its own; if the ports that the README names are
    taken it gets others, and every later block is told those instead. At the end they are stopped and must be well.
    """

    def __init__(self, directory: Path, addresses: Mapping[str, str] | None = None) -> None:
        """`addresses`: others that the README names -> where they are in truth."""
        self.directory = directory
        self._addresses = {GRPC: GRPC, METRICS: METRICS, **(addresses or {})}
        self._namespace: dict[str, Any] = {"__name__": "readme"}
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        codes = [_stop(process) for process in self._processes]
        if error is None and any(codes):
            raise AssertionError(f"`trackd serve` ended with codes {codes}: {self.log.read_text()[-2_000:]}")

    @property
    def log(self) -> Path:
        """What the daemon that was started last says."""
        return self.directory / f"serve-{len(self._processes)}.log"

    @property
    def metrics(self) -> str:
        """Where the daemon's metrics are."""
        return self._addresses[METRICS]

    def follow(self, block: Block) -> None:
        """Runs one block; AssertionError if it fails or shows something else than the README does."""
        text = block.text
        for written, actual in self._addresses.items():
            text = text.replace(written, actual)
        if block.language == "python":
            got = self._python(text, block)
        elif block.language == "sh" and text.startswith("trackd serve"):
            got = self._serve(shlex.split(text.replace("\\\n", " "), comments=True))
        elif block.language == "sh":
            got = self._sh(text, block)
        else:
            raise AssertionError(f"{block}: nobody knows how to run this")
        if problem := differences(block, got):
            raise AssertionError(problem)

    def _python(self, text: str, block: Block) -> str:
        # Lines of tracebacks are those of the README.
        code = compile("\n" * (block.line - 1) + text, str(README), "exec", dont_inherit=True)
        said = io.StringIO()
        with contextlib.chdir(self.directory), contextlib.redirect_stdout(said):
            exec(code, self._namespace)  # noqa: S102  # our own README
        return said.getvalue()

    def _sh(self, text: str, block: Block) -> str:
        done = subprocess.run(
            ["sh", "-euc", text],
            cwd=self.directory,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        assert done.returncode == 0, f"{block} ended with code {done.returncode}: {done.stderr}"
        return done.stdout

    def _environment(self) -> dict[str, str]:
        """That of a reader who has .venv/bin on the PATH and a terminal of 80 columns."""
        told = {"PATH": search_path(), "HOME": str(self.directory), "COLUMNS": "80", "NO_COLOR": "1"}
        return os.environ | told | {"TRACKD_TARGET": self._addresses[GRPC]}

    # The daemon

    def _serve(self, command: list[str]) -> str:
        named = {"--listen": GRPC, "--metrics": METRICS}
        named |= {option: value for option, value in itertools.pairwise(command) if option in named}
        if not self._start(command, named):
            free = ["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
            assert self._start([*command, *free], named), self.log.read_text()
        return ""

    def _start(self, command: list[str], named: Mapping[str, str]) -> bool:
        """Whether it serves; False if an address is taken. `named`: where it should, which is then where it does."""
        log = self.directory / f"serve-{len(self._processes) + 1}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, cwd=self.directory, env=self._environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        self._processes.append(process)
        until_s = time.monotonic() + START_S
        while time.monotonic() < until_s:
            ended = process.poll() is not None
            said = log.read_text()
            for line in filter(lambda line: line.startswith("{") and line.endswith("}"), said.splitlines()):
                told = json.loads(line)
                if told["event"] == "serving":
                    self._addresses |= {named["--listen"]: told["grpc"], named["--metrics"]: told["metrics"]}
                    return True
            if ended:
                self._processes.pop()
                assert "ADDRESS_IN_USE" in said, said
                return False
            time.sleep(0.02)
        raise AssertionError(f"no daemon within {START_S:g} s: {log.read_text()}")


def _stop(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    try:
        return process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


@contextlib.contextmanager
def ports_taken() -> Iterator[None]:
    """Meanwhile somebody else has the ports that the README names."""
    with contextlib.ExitStack() as stack:
        for address in (GRPC, METRICS):
            host, _, port = address.rpartition(":")
            other = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):  # then they are taken already
                other.bind((host, int(port)))
                other.listen()
        yield


# Metrics


def metrics_table(families: Iterable[Metric]) -> list[str]:
    """One row a family, by name: as it is scraped, type, labels and what it means."""
    rows = []
    for family in families:
        # Of a counter and of an info the samples have a longer name than the family.
        ending = {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
        shown = ", ".join(f"`{label}`" for label in labels)
        rows.append(f"| `{family.name}{ending}` | {family.type} | {shown} | {family.documentation} |")
    return sorted(rows)


def registered_metrics() -> list[str]:
    """The table of what the daemon's observer exports."""
    observer = PrometheusObserver(make_gauges(), objectives=DEFAULTS)
    return metrics_table(observer.registry.collect())


# Reasons


def reasons(source: str) -> dict[str, set[str]]:
    """The reasons that a module gives -> the gRPC statuses they are given with; `rejected` for those of single events.

    A reason is the first argument of an error or a Fault, the third of an Item, whatever is called `reason`, and the
    first part of a tuple that is returned or assigned together with its message.
    """
    statuses = {kind.__name__: CODES[kind].name for kind in CODES}
    places = {**dict.fromkeys(statuses, 0), "Fault": 0, "Item": 2}
    found: dict[str, set[str]] = {}

    def note(node: ast.expr, *status: str) -> None:
        for inner in (node.body, node.orelse) if isinstance(node, ast.IfExp) else (node,):
            if isinstance(inner, ast.Constant) and _REASON.fullmatch(str(inner.value)):
                found.setdefault(str(inner.value), set()).update(status)

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            status = statuses.get(name)
            place = places.get(name, len(node.args))
            for argument in node.args[place : place + 1]:
                note(argument, status or _PER_EVENT)
            for word in node.keywords:
                if word.arg == "reason":
                    note(word.value, *filter(None, [status or (_PER_EVENT if name in places else "")]))
        elif isinstance(node, ast.Return | ast.Assign) and isinstance(node.value, ast.Tuple) and node.value.elts:
            first, *rest = node.value.elts
            text = rest[0] if rest else None
            if isinstance(text, ast.JoinedStr) or (isinstance(text, ast.Constant) and " " in str(text.value)):
                note(first, _PER_EVENT)
    return found


def reasons_of_the_daemon() -> dict[str, set[str]]:
    """All reasons in server/."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "server").rglob("*.py")):
        for reason, statuses in reasons(path.read_text("utf-8")).items():
            found.setdefault(reason, set()).update(statuses)
    return found


def main() -> None:
    """Puts the rows of the metrics into the README, between its heading row and the next empty line."""
    text = README.read_text("utf-8")
    rows = "\n".join(registered_metrics())
    heading = re.compile(r"(^\| metric \|.*\n\|[-| ]+\|\n)(?:\|.*\n)*", re.MULTILINE)
    text, count = heading.subn(lambda found: f"{found[1]}{rows}\n", text)
    assert count == 1, f"{count} tables of metrics in README.md"
    README.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
