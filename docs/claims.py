"""Writes `docs/explanation/how-claims-are-proved.md`: each promise, the tests that cite it, the mutants they kill.

Law: reads docstrings and the list of mutants; the sentences of the promises stand here and nowhere else in the code.
A test cites a promise by its number in its docstring.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from unimsg.testing.mutants import ALL, Mutant

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "explanation" / "how-claims-are-proved.md"
CATALOGUE = "unimsg/testing/conformance/"

PROMISES: Mapping[int, str] = {
    1: "Delivery is at least once; exactly-once delivery is never claimed.",
    2: "A publish ends confirmed, not published, or unknown; unknown is never called failed.",
    3: "The id is given once, by the publisher, and is the same on every resend, dead letter and redrive.",
    4: "One publisher's messages of one key arrive in order where order is declared, also across partial failures.",
    5: "Ack after success: effect, then the idempotency row, then the ack; a dead letter is confirmed before it.",
    6: "Two messages of one key never overlap in one process, retries included.",
    7: "Positions move only as a contiguous prefix of each assignment; what a crash replays is bounded.",
    8: "What is in hand keeps its lease; who loses it is told and cancelled, and nothing is acked.",
    9: "`fail` counts as an attempt, `defer` does not, `dead_letter` ends it; on every backend.",
    10: "`attempt` counts executions that are known, plus one; a stop or a crash of the broker adds none.",
    11: "Delays are never shortened beyond the stated jitter; `retry_after` is honoured.",
    12: "Retries beyond the budget become `defer`; an open breaker means no new receives.",
    13: "What cannot be decoded is dead-lettered as it came, and its neighbours are untouched.",
    14: "A dead letter keeps body, headers and id, plus one header that says why.",
    15: "If a dead letter cannot be written, the original stays.",
    16: "A key waits while its head is retried; exhausted without a dead letter destination it waits for ever, in red.",
    17: "Stop: drain, settle, release after the last poll, flush, publishers last; it never looks like a failure.",
    18: "Prefetch is bounded in messages and bytes; full means pause.",
    19: "Limits are checked before the wire, on the encoded form; batches are split by bytes too.",
    20: "The plain client of a service reads what we publish, and we read what it publishes.",
    21: "Every outcome increments exactly one counter, and they add up.",
    22: "The row of the idempotent consumer is (scope, key); the scope is destination, group and handler.",
    23: "At most one live token for each key, strictly increasing; a rejected token is a lost lease.",
    24: "The lock is shorter than the lease; store is renewed first, then the broker.",
    25: "A duplicate of what is done is acked; a redriven message runs again.",
    26: "The same key with another payload is permanent, and never returns the stored outcome.",
    27: "Store down before the handler: deferred, uncounted. Down after it: retried, then acked and counted.",
    28: "A release keeps the row and its attempts until the ttl.",
    29: "One store round trip for a batch of claims, one for its completions.",
    30: "In transactional mode effects commit exactly once.",
}

CITED = re.compile(r"[Pp]romises? (\d+(?:(?:, | and |, and )\d+)*)")

INTRODUCTION = """<!-- Written by `make docs` from the tests and mutants. Changes made here are lost. -->
# How claims are proved

Each promise has tests that cite it by its number, and those that the conformance catalogue claims have *mutants*:
backends and parts of the core that break it on purpose (`unimsg/testing/mutants/`). `tests/conformance/test_mutants.py`
runs the test that is named for a mutant twice: it passes on what is not broken, and fails on the mutant. So a test that
could not fail is found out, and a promise whose tests were weakened turns red.

The catalogue (`unimsg/testing/conformance/`) runs on every backend; a backend's own file is a fixture.
"""


class Citation(NamedTuple):
    """A test that cites a promise."""

    path: str
    test: str


@cache
def citations() -> Mapping[int, list[Citation]]:
    """The tests of each promise."""
    found: dict[int, list[Citation]] = defaultdict(list)
    for folder in ("unimsg/testing/conformance", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for test, docstring in _tests(path):
                for match in CITED.finditer(docstring):
                    for number in re.findall(r"\d+", match[1]):
                        found[int(number)].append(Citation(path.relative_to(ROOT).as_posix(), test))
    return found


def _tests(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name, ast.get_docstring(node) or ""


def mutants() -> Mapping[int, list[Mutant]]:
    """The mutants of each promise."""
    found: dict[int, list[Mutant]] = defaultdict(list)
    for mutant in ALL:
        for number in mutant.promises:
            found[number].append(mutant)
    return found


def page() -> str:
    """The whole page."""
    tests, broken = citations(), mutants()
    parts = [INTRODUCTION]
    for number, sentence in PROMISES.items():
        parts.append(f"## {number}. {sentence}\n")
        catalogue = [c.test for c in tests[number] if c.path.startswith(CATALOGUE)]
        others = sorted({c.path for c in tests[number] if not c.path.startswith(CATALOGUE)})
        if catalogue:
            parts.append("Catalogue: " + ", ".join(f"`{name}`" for name in sorted(set(catalogue))) + "\n")
        if others:
            parts.append("Also: " + ", ".join(f"`{path}`" for path in others) + "\n")
        if broken[number]:
            parts.append(table(broken[number]))
    beyond = [mutant for mutant in ALL if not mutant.promises]
    parts += ["## Beyond the numbered promises\n", table(beyond)]
    return "\n".join(parts)


def table(broken: Sequence[Mutant]) -> str:
    """Mutants, one a row."""
    rows = [f"| {m.name} | {m.breaks} | {m.scheme} | `{m.killed_by}` |" for m in broken]
    return "| mutant | what it does | shown on | killed by |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def main() -> None:
    """Write it."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
