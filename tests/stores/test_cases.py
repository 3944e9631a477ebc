"""None of the 50 corner cases is missing: the number of each stands in the docstring of a test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from unimsg.testing.conformance.stores import CASES

ROOT = Path(__file__).parents[2]
WHERE = (
    "unimsg/testing/conformance/stores",
    "tests/stores",
    "tests/unit/idempotency",
    "tests/unit/consuming",
)
SAID = re.compile(r"\bcases? (\d+(?:(?:, | and | to )\d+)*)", re.IGNORECASE)


def said(docstring: str) -> set[int]:
    """The cases that a docstring says it shows."""
    found: set[int] = set()
    for numbers in SAID.findall(docstring):
        for part in re.split(r", | and ", numbers):
            first, _, last = part.partition(" to ")
            found.update(range(int(first), int(last or first) + 1))
    return found


def test_every_case_has_a_test() -> None:
    shown: set[int] = set()
    for folder in WHERE:
        for path in (ROOT / folder).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and node.name.startswith("test_"):
                    shown |= said(ast.get_docstring(node) or "")
    assert set(CASES) - shown == set()


def test_what_is_said_is_read() -> None:
    assert said("Cases 3, 4 and 23 to 25; promise 9.") == {3, 4, 23, 24, 25}
    assert said("Case 50, promise 8") == {50}
