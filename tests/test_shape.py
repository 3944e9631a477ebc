"""The shape of the code: what a reader may count on in every file.

Law: looks at text and syntax trees only; nothing of unimsg is imported. Each test gathers all offenders, so
that one run shows the whole list.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("unimsg", "tests", "examples", "benchmarks", "docs", "tools")

FILE_LINES = 400
TEST_LINES = 600
FUNCTION_LINES = 50
PUBLIC_NAMES = 25
LONGER = {"unimsg/spi.py": 330}
"""Files with a ceiling of their own. The design wishes spi.py below 230: read in one sitting."""


@cache
def sources() -> list[Path]:
    """Every Python file of the project."""
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in found if "__pycache__" not in path.parts)


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def name(path: Path) -> str:
    """The path as the project spells it."""
    return path.relative_to(ROOT).as_posix()


def listed(offenders: list[str]) -> str:
    """All offenders, one a line: pytest would cut the list."""
    return "\n" + "\n".join(offenders)


def test_there_is_something_to_look_at() -> None:
    """A wrong folder would make every test below pass."""
    assert "unimsg/spi.py" in {name(path) for path in sources()}


def ceiling(path: str) -> int:
    """How long a file may be."""
    return LONGER.get(path, TEST_LINES if path.startswith("tests/") else FILE_LINES)


def test_files_are_short() -> None:
    """A file holds one concept; 400 lines are enough for it, a table of tests may take more."""
    lines = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    long = [f"{path}: {n} lines" for path, n in lines.items() if n > ceiling(path)]

    assert not long, listed(long)


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function of a file with its lines; its docstring is not counted, it is no flow to follow."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            first = node.body[0]
            if ast.get_docstring(node, clean=False) is not None:
                lines -= (first.end_lineno or first.lineno) - first.lineno + 1
            yield f"{name(path)}:{node.lineno} {node.name}", lines


def test_functions_are_short() -> None:
    """A function is read at one glance."""
    lines = dict(found for path in sources() for found in functions(path))
    long = [f"{function}: {n} lines" for function, n in lines.items() if n > FUNCTION_LINES]

    assert not long, listed(long)


def test_every_file_opens_with_its_law() -> None:
    """The docstring at the top says what lives here and what it may not know."""
    silent = [name(path) for path in sources() if not ast.get_docstring(tree(path))]

    assert not silent, listed(silent)


def test_the_facade_is_small() -> None:
    """At most 25 names at top level, sorted out by hand, not by accident."""
    facade = ROOT / "unimsg" / "__init__.py"
    names = [
        ast.literal_eval(node.value)
        for node in tree(facade).body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]
    ]

    assert len(names) == 1
    assert 0 < len(names[0]) <= PUBLIC_NAMES
    assert sorted(set(names[0])) == sorted(names[0])


SWITCHES_OFF = re.compile(
    r"#?\s*noqa(?::\s*[A-Z]+[0-9]+(?:[, ]+[A-Z]+[0-9]+)*)?"
    r"|#?\s*(?:type|pyright):\s*ignore(?:\[[^\]]*\])?"
    r"|#?\s*pragma:\s*no (?:cover|branch)"
)
REASON = re.compile(r"[A-Za-z]{2,}")


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """Each comment of a file with its line."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def unreasoned(comment: str) -> bool:
    """Whether a comment switches a check off and gives no reason."""
    return SWITCHES_OFF.search(comment) is not None and REASON.search(SWITCHES_OFF.sub("", comment)) is None


@pytest.mark.parametrize(
    ("comment", "bare"),
    [
        ("# noqa", True),
        ("# noqa: S311", True),
        ("# noqa: A002, ANN401", True),
        ("# noqa: A002, ANN401 - the service's word", False),
        ("# type: ignore[arg-type]", True),
        ("# type: ignore[arg-type]  # the checker must refuse it", False),
        ("# type: ignore[arg-type]  # noqa: PGH003", True),
        ("# pyright: ignore[reportArgumentType]", True),
        ("# pragma: no cover", True),
        ("# pragma: no cover - only on Windows", False),
        ("# the noise of it", False),
    ],
)
def test_a_bare_switch_is_recognised(comment: str, bare: bool) -> None:
    """The next test rests on this table."""
    assert unreasoned(comment) is bare


def test_every_switch_gives_its_reason() -> None:
    """Who turns a check off for a line says why, on that line."""
    bare = [
        f"{name(path)}:{line} {text}"
        for path in sources()
        for line, text in comments(path)
        if unreasoned(text)
    ]

    assert not bare, listed(bare)


def test_every_rule_that_is_off_gives_its_reason() -> None:
    """The linter checks everything; each exception in pyproject.toml says why."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    ruff = text[text.index("[tool.ruff.lint]") : text.index("[tool.mypy]")]
    off = [line.strip() for line in ruff.splitlines() if re.match(r'\s+"[A-Z]+[0-9]*",', line)]

    assert off
    assert [line for line in off if "#" not in line] == []
    assert 'select = ["ALL"]' in ruff


def texts() -> Iterator[tuple[Path, str]]:
    """Every text file that would be committed."""
    entries = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if entries.returncode:
        pytest.skip("no git checkout: what is not committed cannot be told from what is")
    for path in sorted(ROOT / entry.decode() for entry in entries.stdout.split(b"\0") if entry):
        if path.is_file():
            try:
                yield path, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


PLACES = re.compile(
    r"(?<![\w.~-])/(?:work|tmp|root|home|Users)/"
    r"|pypi\.org|python[h]osted|registry\.npmjs|proxy\.golang|--(?:extra-)?index-url\s+\S*:"
)


@pytest.mark.parametrize(
    "text", ["see /" + "tmp/x", "sqlite:////" + "home/x.db", "https://pypi" + ".org/simple"]
)
def test_a_place_is_recognised(text: str) -> None:
    """The next test rests on this table."""
    assert PLACES.search(text)


def test_no_file_knows_this_machine() -> None:
    """No path of a machine, no host of a package registry: the repository stands alone."""
    found = [
        f"{name(path)}:{number} {line.strip()[:100]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if PLACES.search(line)
    ]

    assert not found, listed(found)


def requirement_names(entries: list[str]) -> set[str]:
    """The normalised names of requirements, this project left out."""
    names = {re.split(r"[\[<>=~!; ]", entry, maxsplit=1)[0].lower().replace("_", "-") for entry in entries}
    return names - {"unimsg"}


@pytest.mark.parametrize(
    ("lock", "extras"), [("requirements-dev.lock", ["cli", "dev"]), ("requirements-bench.lock", ["bench"])]
)
def test_the_lock_is_complete(lock: str, extras: list[str]) -> None:
    """`make env` installs from the lock alone: what pyproject.toml asks for is in it, each with hashes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / lock).read_text(encoding="utf-8")
    pinned = re.findall(r"^([a-z0-9.-]+)(?:\[[a-z,]+\])?==.* \\$", text, re.MULTILINE)
    asked = [
        *project["dependencies"],
        *(entry for extra in extras for entry in project["optional-dependencies"][extra]),
    ]

    assert requirement_names(asked) <= set(pinned)
    assert len(re.findall(r"==.* \\\n    --hash=sha256:", text)) == len(pinned)
    assert "://" not in text
