"""Matrix: what the runs of the catalogue say, as a page and as a line.

Law: pure: outcomes in, text out. It counts and quotes; it judges nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from unimsg.capabilities import FIELDS

Entry: TypeAlias = dict[str, Any]

OUTCOMES = ("held", "refused", "cannot", "failed")
SECTIONS: Mapping[str, str] = {
    "A": "lifecycle",
    "B": "data",
    "C": "publish",
    "D": "delivery",
    "E": "settlement",
    "F": "ordering",
    "G": "deduplication",
    "H": "policy",
    "I": "faults",
    "J": "stop",
    "K": "cancellation",
    "L": "observability",
}
HEAD = """<!-- Written by `unimsg conformance report`. Changes made here are lost. -->

# Conformance

What each backend was seen to do, by the tests of `unimsg.testing.conformance`, in which environment and when.

- **held**: the test ran and passed.
- **refused**: the backend does not declare what the test needs; asking for it was refused, before any I/O.
- **cannot**: this environment cannot show it; the reasons stand below.
- **failed**: it does not hold.
"""


@dataclass(frozen=True)
class Run:
    """One run of the catalogue.

    Attributes:
        backend: its scheme.
        environment: what ran there.
        date: when, as YYYY-MM-DD.
        capabilities: what was declared, by name.
        tests: name, section, gate, outcome and reason of each.
    """

    backend: str
    environment: str
    date: str
    capabilities: Mapping[str, Any]
    tests: list[Entry]

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Run:
        """Undo `as_json`."""
        return cls(**raw)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)

    @property
    def place(self) -> tuple[str, str]:
        """Where it ran: a later run there takes its place."""
        return self.backend, self.environment

    def count(self, outcome: str) -> int:
        """How many tests ended so."""
        return sum(test["outcome"] == outcome for test in self.tests)


def summary(run: Run) -> str:
    """Return one line."""
    return f"{run.backend} ({run.environment}): {_counts(run.tests)}"


def page(runs: Sequence[Run]) -> str:
    """Return the page of all runs."""
    parts = [
        HEAD,
        "## Runs\n",
        _table(["backend", "environment", "date", "tests"], [_row(run) for run in runs]),
        "\n## Capabilities\n",
        "What is declared, and the tests that need it.\n",
        _by("capability", FIELDS, _capability, runs),
        "\n## Sections\n",
        _by("section", [f"{letter}: {word}" for letter, word in SECTIONS.items()], _section, runs),
        *(_exceptions(run) for run in runs),
    ]
    return "\n".join(part for part in parts if part).rstrip() + "\n"


def _row(run: Run) -> list[str]:
    return [f"`{run.backend}`", run.environment, run.date, _counts(run.tests)]


def _by(what: str, names: Sequence[str], cell: Callable[[str, Run], str], runs: Sequence[Run]) -> str:
    """A table with a row for each name and a column for each run."""
    head = [what, *(f"`{run.backend}`, {run.environment}" for run in runs)]
    return _table(head, [[name, *(cell(name, run) for run in runs)] for name in names])


def _capability(name: str, run: Run) -> str:
    tests = [test for test in run.tests if name in test["gate"]]
    return f"{_shown(run.capabilities.get(name))}{': ' if tests else ''}{_counts(tests)}"


def _section(name: str, run: Run) -> str:
    return _counts([test for test in run.tests if test["section"] == name[0]])


def _exceptions(run: Run) -> str:
    """What did not hold or could not be shown, with the reason."""
    rows = [
        [outcome, test["test"].removeprefix("test_").replace("_", " "), test["reason"].replace("|", "\\|")]
        for outcome in ("failed", "cannot")
        for test in run.tests
        if test["outcome"] == outcome
    ]
    if not rows:
        return ""
    head = ["outcome", "test", "reason"]
    return f"\n## Not shown by `{run.backend}`, {run.environment}\n\n{_table(head, rows)}"


def _counts(tests: Sequence[Entry]) -> str:
    counts = Counter(test["outcome"] for test in tests)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome])


def _shown(value: Any) -> str:
    """A capability as a word; a lease by its seconds, since the shortest is what is tested."""
    if isinstance(value, Mapping):
        return f"{value['seconds']:g} s"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
