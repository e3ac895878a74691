"""Prints the one command that README.md gives under a heading, so that CI runs what the reader is told to run.

    python3 .ci/readme.py "Run the tests"

Exits with 1 and says why if the heading is not there exactly once or does not have exactly one command.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SET_UP = ("Try it", "Run the tests")
"""The headings whose commands set something up: there are no others."""

SH_BLOCK = re.compile(r"^```sh[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
ANY_BLOCK = re.compile(r"^```\w*[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)


def section(readme: str, heading: str) -> str:
    """What stands below `## heading`, up to the next heading as high; ValueError unless it is there once."""
    # Fenced blocks are taken out of the way first: "# ..." in them is a comment and no heading.
    masked = re.sub(r"^```.*?^```[ \t]*$", lambda block: "`" * len(block[0]), readme, flags=re.MULTILINE | re.DOTALL)
    found = [place.end() for place in re.finditer(rf"^## {re.escape(heading)}[ \t]*$", masked, re.MULTILINE)]
    if len(found) != 1:
        message = f"README.md: {len(found)} headings '## {heading}', there must be one"
        raise ValueError(message)
    following = re.compile(r"^#{1,2} ", re.MULTILINE).search(masked, found[0])
    return readme[found[0] : following.start() if following else len(readme)]


def commands(text: str, blocks: re.Pattern[str] = SH_BLOCK) -> list[str]:
    """The commands of all such blocks: one a line, a backslash at its end joins the next, comments left out."""
    lines = [line for block in blocks.findall(text) for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def command(readme: str, heading: str) -> str:
    """The one command below a heading; ValueError unless there is exactly one."""
    found = commands(section(readme, heading))
    if len(found) != 1:
        message = f"README.md: {len(found)} commands in ```sh blocks under '## {heading}', there must be one"
        raise ValueError(message)
    return found[0]


def set_up_commands(readme: str) -> list[str]:
    """All commands of the README that install something, in blocks of any kind: those of SET_UP, and any other."""
    return [
        line
        for line in commands(readme, ANY_BLOCK)
        if re.search(r"\bpip3? install\b|-m venv\b|\bapt(-get)? install\b", line)
    ]


def main() -> int:
    """Prints the command for the heading given as the only argument."""
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    try:
        print(command(readme, sys.argv[1]))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
