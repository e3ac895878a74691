"""The commands that README.md gives are the ones that CI runs."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".ci" / "readme.py"

README = """# Title

```sh
echo before
```

## Try it

Words.

```sh
# a comment
first --one && \\
  second
```

```python
print("## Run the tests")
```

### Deeper

More words.

## Run the tests

```sh
third
```

# Else

```sh
echo after
```
"""


@pytest.fixture
def script() -> dict[str, Any]:
    """What .ci/readme.py defines."""
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def command(script: dict[str, Any]) -> Callable[[str, str], str]:
    """Its `command`: README, heading -> the one command below it."""
    found: Callable[[str, str], str] = script["command"]
    return found


def test_the_command_below_a_heading_is_found(command: Callable[[str, str], str]) -> None:
    """In one line, without comments, from its own section only; what looks like a heading in a block is none."""
    assert command(README, "Try it") == "first --one && second"
    assert command(README, "Run the tests") == "third"


@pytest.mark.parametrize(
    ("readme", "complaint"),
    [
        ("", "0 headings"),
        (README + "\n## Try it\n", "2 headings"),
        ("# Try it\n\n```sh\na\n```\n", "0 headings"),
        ("## Try it\n\nWords.\n", "0 commands"),
        ("## Try it\n\n```\na\n```\n", "0 commands"),
        ("## Try it\n\n```sh\na\nb\n```\n", "2 commands"),
        ("## Try it\n\n```sh\na\n```\n\n```sh\nb\n```\n", "2 commands"),
        ("## Try it\n\n## Next\n\n```sh\na\n```\n", "0 commands"),
    ],
)
def test_anything_but_one_command_is_an_error(command: Callable[[str, str], str], readme: str, complaint: str) -> None:
    """CI must not run something else, or nothing, when the README changes its shape."""
    with pytest.raises(ValueError, match=complaint):
        command(readme, "Try it")


def test_the_readme_has_exactly_two_commands_that_set_something_up(script: dict[str, Any]) -> None:
    """One that ends with the daemon's job done, one that ends with the tests; a third could only be wrong."""
    readme = (ROOT / "README.md").read_text("utf-8")
    assert script["set_up_commands"](readme) == [script["command"](readme, heading) for heading in script["SET_UP"]]


def test_a_third_command_that_sets_something_up_is_found(script: dict[str, Any]) -> None:
    """Whatever the block it hides in is called."""
    assert script["set_up_commands"](README) == []
    for line in ("apt-get install git", "python3 -m venv x", "$ x/bin/pip install y"):
        assert script["set_up_commands"](f"{README}\n```console\n{line}\n```\n") == [line]


def test_the_script_prints_the_command_or_says_what_is_wrong() -> None:
    """What CI reads from it: the command on standard output, or an exit code that ends the run."""
    tests = subprocess.run([sys.executable, SCRIPT, "Run the tests"], capture_output=True, text=True, check=True)
    assert tests.stdout.count("\n") == 1
    assert "pytest" in tests.stdout
    nothing = subprocess.run([sys.executable, SCRIPT, "Nothing"], capture_output=True, text=True, check=False)
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "0 headings" in nothing.stderr
