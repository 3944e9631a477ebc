"""The page `docs/reference/benchmarks.md`, from what is kept under `benchmarks/results/`.

Law: the same results give the same page; nothing is measured here, and matplotlib is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.table import RESULTS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "benchmarks.md"
OURS = "unimsg"
INTRODUCTION = """<!-- Written by `make bench` from benchmarks/results. Changes made here are lost. -->
# Benchmarks

`make bench` measures ours beside the peers, in turns and in one run, and writes this page. Compare within a row of the
table: absolute figures differ from machine to machine. The cost is CPU time of the process, median of the rounds;
brokers run beside it, so nothing leaves the machine. Before each round what all have imported is frozen: garbage
collection looks at what a contender makes, not at its neighbours. A bar is what must hold; `make bench` fails when one
does not.

![Cost of ours and of the peers on each path](benchmarks.svg)
"""


def kept() -> Mapping[str, Mapping[str, Any]]:
    """Every result by the name of its benchmark."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))
    }


def cost(row: Mapping[str, Any]) -> float:
    """What a row costs, in its unit."""
    return float(row["median"] if "median" in row else row["cpu_us"])


def unit(row: Mapping[str, Any]) -> str:
    """The unit of a cost."""
    return str(row.get("unit", "µs/msg"))


def by_path(rows: list[Mapping[str, Any]]) -> Mapping[str, list[Mapping[str, Any]]]:
    """The rows of each path, in their order."""
    paths: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        paths.setdefault(row["path"], []).append(row)
    return paths


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The table of one benchmark."""
    yield "| path | contender | cost | times ours | messages a second |"
    yield "|---|---|---:|---:|---:|"
    for path, rows in by_path(result["rows"]).items():
        ours = next((cost(row) for row in rows if row["contender"] == OURS), None)
        for row in rows:
            ratio = f"{cost(row) / ours:.2f}" if ours else ""
            rate = f"{row['per_second']:,}" if "per_second" in row else ""
            yield f"| {path} | {row['contender']} | {cost(row):.2f} {unit(row)} | {ratio} | {rate} |"


def text() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for name, result in kept().items():
        parts.append(f"## {name}\n\nCPython {result['python']}, {result['machine']}.\n")
        parts.append("\n".join(lines(result)) + "\n")
        if result.get("bars"):
            parts.append("```text\n" + "\n".join(result["bars"]) + "\n```\n")
    return "\n".join(parts)


def write() -> None:
    """Write it."""
    PAGE.write_text(text(), encoding="utf-8")
