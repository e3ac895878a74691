"""Tidiness is a test: what a reader of this repository may rely on is true of every file in it."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATED = ("clients/python/trackd/v1/", "clients/python/trackd/cloudevents/")
DOCUMENTED = ("server/", "retention/", "clients/python/trackd/")
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70

# Written so that this file does not find itself.
MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:wo" + r"rk|ro" + r"ot|tmp/v|home/\w+|Users/\w+)(?![\w-])")
REGISTRY = re.compile("py" + r"pi\.org|python" + r"hosted\.org")
LEFT_OVER = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
EMPTY_WORDS = {"util", "utils", "helper", "helpers", "common", "manager", "managers", "misc", "base2"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documentable = ast.ClassDef | Function


def tracked() -> dict[str, str]:
    """Path -> text of every file under version control that is text and not generated."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    texts = {}
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        # A file can be deleted and not yet committed so.
        if not name.startswith(GENERATED) and path.is_file():
            try:
                texts[name] = path.read_text("utf-8")
            except UnicodeDecodeError:
                continue
    return texts


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    """All files that the rules are about."""
    found = tracked()
    assert "server/model.py" in found
    return found


# Rules: each takes one file and names what is wrong in it


def long_modules(name: str, text: str) -> Iterator[str]:
    """Modules of a few hundred lines can be held in mind."""
    lines = text.count("\n")
    if name.endswith(".py") and lines > MODULE_LINES_MAX:
        yield f"{name}: {lines} lines"


def long_functions(name: str, text: str) -> Iterator[str]:
    """A function can be seen whole."""
    for node in nodes(name, text):
        if isinstance(node, Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{name}:{node.lineno}: {node.name} has {lines} lines"


def empty_names(name: str, text: str) -> Iterator[str]:
    """A module is named after what it holds."""
    if name.endswith(".py") and EMPTY_WORDS & {word for part in Path(name).parts for word in part[:-3].split("_")}:
        yield name
    if EMPTY_WORDS & set(Path(name).parts[:-1]):
        yield name


def undocumented_tests(name: str, text: str) -> Iterator[str]:
    """A test says in a sentence which behaviour it is about."""
    if name.startswith("tests/"):
        for node in nodes(name, text):
            if isinstance(node, Function) and node.name.startswith("test_") and not ast.get_docstring(node):
                yield f"{name}:{node.lineno}: {node.name}"


def machine_paths(name: str, text: str) -> Iterator[str]:
    """Nothing depends on one machine."""
    yield from matches(MACHINE_PATH, name, text)


def registries(name: str, text: str) -> Iterator[str]:
    """Where packages come from is the business of whoever installs them."""
    yield from matches(REGISTRY, name, text)


def left_overs(name: str, text: str) -> Iterator[str]:
    """What is not done is an issue, not a comment."""
    yield from matches(LEFT_OVER, name, text)


RULES = (long_modules, long_functions, empty_names, undocumented_tests, machine_paths, registries, left_overs)


def nodes(name: str, text: str) -> Iterator[ast.AST]:
    """The syntax tree of a Python file, nothing of others."""
    if name.endswith(".py"):
        yield from ast.walk(ast.parse(text, name))


def matches(pattern: re.Pattern[str], name: str, text: str) -> Iterator[str]:
    """Every line that the pattern is found in."""
    for number, line in enumerate(text.splitlines(), 1):
        if pattern.search(line):
            yield f"{name}:{number}: {line.strip()[:80]}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_is_tidy(rule: Callable[[str, str], Iterator[str]], files: dict[str, str]) -> None:
    """No file breaks the rule."""
    assert [problem for name, text in files.items() for problem in rule(name, text)] == []


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        (long_modules, "server/a.py", "\n" * 401),
        (long_functions, "server/a.py", "async def f():\n" + "    pass\n" * 70),
        (empty_names, "server/string_utils.py", ""),
        (empty_names, "server/common/words.py", ""),
        (undocumented_tests, "tests/unit/test_a.py", "class TestA:\n    def test_b(self): ..."),
        (machine_paths, "README.md", "see " + "/wo" + "rk/main"),
        (machine_paths, "deploy/a.toml", 'data = "' + "/ro" + 'ot"'),
        (registries, "README.md", "https://py" + "pi.org/x"),
        (left_overs, "server/a.py", "# TO" + "DO: all of it"),
    ],
)
def test_a_rule_finds_what_it_is_for(rule: Callable[[str, str], Iterator[str]], name: str, text: str) -> None:
    """None of them passes because it looks at nothing."""
    assert len(list(rule(name, text))) == 1


@pytest.mark.parametrize("text", ["https://example.org/wo" + "rk/x", "a/ro" + "ot", "./wo" + "rk", "/ro" + "ots"])
def test_other_paths_are_fine(text: str) -> None:
    """Addresses, relative paths and other names are nobody's machine."""
    assert list(machine_paths("README.md", text)) == []


def test_everything_public_is_documented(files: dict[str, str]) -> None:
    """Every module, class and function that others may use says what it promises; a method may leave it to its base."""
    assert undocumented({name: text for name, text in files.items() if name.startswith(DOCUMENTED)}) == []


def test_what_is_public_and_says_nothing_is_found() -> None:
    """Classes, functions, methods and modules; not what is private, nested or documented at the base."""
    text = '''
class Base:
    """Documented."""
    def known(self):
        """Documented."""

class Public(Base):
    def known(self): ...
    def news(self):
        def nested(): ...
    def _private(self): ...
    def __len__(self): ...

class _Private:
    def anything(self): ...

async def function(): ...
'''
    assert undocumented({"server/a.py": text}) == [
        "server/a.py: module",
        "server/a.py:7: Public",
        "server/a.py:9: news",
        "server/a.py:17: function",
    ]


def undocumented(texts: dict[str, str]) -> list[str]:
    """What is public in these modules and has no docstring, neither itself nor, for a method, in a base class."""
    trees = {name: ast.parse(text, name) for name, text in texts.items() if name.endswith(".py")}
    classes = {node.name: node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    problems = []
    for name, tree in trees.items():
        if not ast.get_docstring(tree):
            problems.append(f"{name}: module")
        for node in public(tree.body):
            if not ast.get_docstring(node):
                problems.append(f"{name}:{node.lineno}: {node.name}")
            if isinstance(node, ast.ClassDef):
                problems += [
                    f"{name}:{method.lineno}: {method.name}"
                    for method in public(node.body)
                    if not says(node, method.name, classes)
                ]
    return problems


def public(body: list[ast.stmt]) -> list[Documentable]:
    """The classes and functions of a body that do not begin with an underscore."""
    return [node for node in body if isinstance(node, Documentable) and not node.name.startswith("_")]


def says(owner: ast.ClassDef, method: str, classes: dict[str, ast.ClassDef]) -> bool:
    """Whether the class or one of its bases in this repository documents the method."""
    own = [node for node in owner.body if isinstance(node, Documentable) and node.name == method]
    bases = [classes[base.id] for base in owner.bases if isinstance(base, ast.Name) and base.id in classes]
    return any(ast.get_docstring(node) for node in own) or any(says(base, method, classes) for base in bases)
