"""What the documents say is true: blocks run, names exist, links resolve, the generated part is not stale.

Law: a page is one program: its Python blocks run in order, in one process of their own. Marks above a block:
`<!-- prints -->` what the program printed, `<!-- run until: text -->` it runs for ever: Ctrl-C when that was printed,
`<!-- not run: reason -->` it cannot run here, and says why.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
GENERATED = ("api.md", "errors.md", "options.md", "capabilities.md", "cli.md", "refusals.md")
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
)
PATIENCE = 60
"""Seconds that a page may take."""

DRIVER = """
import ast, asyncio, inspect, sys
source = open(sys.argv[1], encoding="utf-8").read()
code = compile(source, sys.argv[1], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
space = sys.modules["__main__"].__dict__
if code.co_flags & inspect.CO_COROUTINE:
    async def page():
        await eval(code, space)
    asyncio.run(page())
else:
    exec(code, space)
"""
"""Runs a page as `python -m asyncio` would: `await` may stand at the top."""


class Block(NamedTuple):
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    mark: str
    text: str


FENCE = re.compile(
    r"^(?:<!-- (?P<mark>(?:prints|run until: |not run: ).*?) ?-->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@cache
def text_of(page: str) -> str:
    """A page as it stands."""
    return (ROOT / page).read_text(encoding="utf-8")


@cache
def blocks(page: str) -> Sequence[Block]:
    """The fenced blocks of a page."""
    text = text_of(page)
    return [
        Block(
            page, text[: found.start()].count("\n") + 1, found["language"], found["mark"] or "", found["text"]
        )
        for found in FENCE.finditer(text)
    ]


def python_blocks(page: str) -> list[Block]:
    """Those that run."""
    return [
        block
        for block in blocks(page)
        if block.language == "python" and not block.mark.startswith("not run: ")
    ]


RUNNING = [page for page in PAGES if python_blocks(page)]


def run_page(page: str, folder: Path) -> str:
    """Run a page as one program and return what it printed."""
    program = folder / "page.py"
    parts = python_blocks(page)
    program.write_text("\n".join(block.text for block in parts), encoding="utf-8")
    until = next(
        (b.mark.removeprefix("run until: ") for b in parts if b.mark.startswith("run until: ")), None
    )
    with (folder / "stderr").open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, program],
            cwd=folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )
    assert process.stdout is not None
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    printed: list[str] = []
    with process.stdout:
        for line in process.stdout:
            printed.append(line)
            if until is not None and until in line:
                process.send_signal(signal.SIGINT)
    process.wait()
    timer.cancel()
    said = (folder / "stderr").read_text(encoding="utf-8")
    assert process.returncode == 0, f"{page} ended with {process.returncode}:\n{''.join(printed)}\n{said}"
    assert until is None or any(until in line for line in printed)
    return "".join(printed)


@pytest.mark.parametrize("page", RUNNING)
def test_every_python_block_runs(page: str, tmp_path: Path) -> None:
    """A reader may copy what a page shows, and gets what it says it prints."""
    printed = run_page(page, tmp_path)
    promised = "".join(block.text for block in blocks(page) if block.mark == "prints")

    assert not promised or printed == promised


def test_the_pages_have_blocks() -> None:
    """A wrong pattern would make the test above pass."""
    assert {"README.md", "docs/tutorial/README.md"} <= set(RUNNING)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_accounted_for(page: str) -> None:
    """A block runs, is parsed, is plain text, or says why it is not run; each fence has a language."""
    known = {"python", "sh", "text", "toml", "json"}

    assert [block for block in blocks(page) if block.language not in known] == []
    assert len(re.findall(r"^```", text_of(page), re.MULTILINE)) == 2 * len(blocks(page))
    for block in blocks(page):
        reason = block.mark.removeprefix("not run: ")
        assert reason == block.mark or len(reason.split()) >= 3, f"{page}:{block.line}: give a reason"


@pytest.mark.parametrize("page", PAGES)
def test_data_blocks_parse(page: str) -> None:
    """TOML and JSON are what they say."""
    for block in blocks(page):
        if block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "json":
            json.loads(block.text)


def shell_blocks() -> list[Block]:
    """Those of all pages."""
    return [block for page in PAGES for block in blocks(page) if block.language == "sh"]


def test_make_targets_exist() -> None:
    """`make …` in a page is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    asked = {
        word for block in shell_blocks() for word in re.findall(r"^make ([a-z]+)", block.text, re.MULTILINE)
    }

    assert asked
    assert asked <= targets


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=f"{block.page}:{block.line}")
        for block in shell_blocks()
        if not block.mark.startswith("not run: ") and not re.match(r"make |\.venv/", block.text)
    ],
)
def test_shell_blocks_run(block: Block, tmp_path: Path) -> None:
    """A pipe of a page works in a shell that has this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
    )

    assert done.returncode == 0, done.stdout + done.stderr
    following = blocks(block.page)[blocks(block.page).index(block) + 1 :]
    if following and following[0].mark == "prints":
        assert done.stdout == following[0].text


# ---------------------------------------------------------------- names and links


def anchors(page: str) -> set[str]:
    """What a heading of a page can be linked by, as GitHub makes it."""
    bare = FENCE.sub("", text_of(page))
    headings = re.findall(r"^#+ (.+)$", bare, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page: str) -> None:
    """A link within the repository leads to a file that is there, and to a heading in it."""
    bare = FENCE.sub("", text_of(page))
    broken = []
    for link in re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)\)", bare):
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        if not target.exists() or (
            anchor and anchor not in anchors(target.resolve().relative_to(ROOT).as_posix())
        ):
            broken.append(link)

    assert broken == []


def resolves(dotted: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            if not hasattr(value, part) and part not in getattr(value, "__slots__", ()):
                return False
            value = getattr(value, part, None)
        return True
    return False


@pytest.mark.parametrize(
    ("dotted", "there"),
    [("unimsg.spi.Sender.send_batch", True), ("unimsg.spi.Sender.sent", False), ("unimsg.nothing", False)],
)
def test_a_name_is_found(dotted: str, there: bool) -> None:
    """The next test rests on this table."""
    assert resolves(dotted) is there


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_every_name_exists(page: str) -> None:
    """A dotted name in a page, as in "the way of a message", is something in the code."""
    bare = FENCE.sub("", text_of(page))
    names = set(re.findall(r"`(unimsg(?:\.\w+)+)(?:\(\))?`", bare)) - set(NOT_YET)

    assert [name for name in sorted(names) if not resolves(name)] == []


NOT_YET = ("unimsg.backends",)
"""Names of groups and folders that look like names of the code."""


@pytest.mark.parametrize("page", PAGES)
def test_every_named_test_exists(page: str) -> None:
    """A promise names the test that holds it: `tests/file.py::test_name`, or a whole file."""
    missing = []
    for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text_of(page)):
        file = ROOT / path
        if not file.exists() or (name and name not in functions(file)):
            missing.append(f"{path}::{name}")

    assert missing == []


@cache
def functions(path: Path) -> set[str]:
    """The functions and classes of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_named_file_exists(page: str) -> None:
    """A path in a page is there."""
    bare = FENCE.sub("", text_of(page))
    paths = re.findall(r"`((?:unimsg|tests|examples|docs|benchmarks)/[\w/.\-]+)`", bare)

    assert [path for path in paths if not (ROOT / path).exists()] == []


# ---------------------------------------------------------------- the generated part


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="signatures are spelled by Python 3.11")
@pytest.mark.parametrize("name", GENERATED)
def test_the_reference_is_not_stale(name: str) -> None:
    """`make docs` was run after the last change of what it reads."""
    generate = importlib.import_module("docs.generate")

    assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == generate.pages()[name], (
        "run `make docs`"
    )
    assert set(generate.pages()) == set(GENERATED)


def test_the_page_of_benchmarks_is_not_stale() -> None:
    """It was written from the results that are kept; the plot, which needs matplotlib, stands beside it."""
    page = importlib.import_module("benchmarks.page")

    assert page.PAGE.read_text(encoding="utf-8") == page.text(), "run `make bench`"
    assert page.PAGE.with_suffix(".svg").exists()


def test_every_public_name_is_in_the_reference() -> None:
    """What a user can import is described."""
    facade = importlib.import_module("unimsg")
    text = text_of("docs/reference/api.md")

    assert [name for name in facade.__all__ if f"### `{name}`" not in text] == []
