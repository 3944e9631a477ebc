"""Measuring and showing: contenders take turns, the median of their rounds counts, and a bar is held within one run.

Law: knows no contender. CPU time of this process is what a service pays for and what a noisy machine spoils least.
"""

from __future__ import annotations

import asyncio
import gc
import json
import platform
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

RESULTS = Path(__file__).parent / "results"


@dataclass
class Row:
    """One contender on one path, so many messages a round."""

    path: str
    contender: str
    messages: int
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    unit: str = "µs/msg"

    @property
    def cost(self) -> float:
        """CPU microseconds a message, median."""
        return statistics.median(self.cpu) / self.messages * 1e6

    @property
    def rate(self) -> float:
        """Messages a second, median."""
        return self.messages / statistics.median(self.wall)

    def seen(self) -> dict[str, Any]:
        """What is kept of it."""
        return asdict(self) | {"cpu_us": round(self.cost, 3), "per_second": round(self.rate)}


@dataclass
class Figure:
    """One contender on one path where nothing is counted by message: a figure of each round, in `unit`."""

    path: str
    contender: str
    unit: str
    values: list[float] = field(default_factory=list)

    @property
    def cost(self) -> float:
        """The median."""
        return statistics.median(self.values)

    def seen(self) -> dict[str, Any]:
        """What is kept of it."""
        return asdict(self) | {"median": round(self.cost, 3)}


Measured: TypeAlias = Row | Figure


@dataclass(frozen=True)
class Bar:
    """What must hold of ours on a path.

    Attributes:
        path: which one.
        against: the other contender; empty: none, the bar is a figure of its own.
        most: `times`: ours is at most so many times the other; `above`: at most so much more than the other, or in all;
            `faster`: ours is at least so many times as many messages a second.
        contender: which of ours.
    """

    path: str
    against: str
    most: float
    kind: Literal["times", "above", "faster"] = "times"
    contender: str = "unimsg"


def compare(
    path: str, contenders: dict[str, tuple[int, Callable[[], Awaitable[None]]]], rounds: int
) -> list[Row]:
    """Run every contender `rounds` times, in turns; each handles its own number of messages."""
    rows = {name: Row(path, name, messages) for name, (messages, _) in contenders.items()}
    for _ in range(rounds):
        for name, (_, run) in contenders.items():
            gc.collect()
            gc.freeze()  # else each looks again and again through what the others have imported
            cpu, wall = time.process_time(), time.perf_counter()
            asyncio.run(_awaited(run))
            rows[name].cpu.append(time.process_time() - cpu)
            rows[name].wall.append(time.perf_counter() - wall)
            gc.unfreeze()
    return list(rows.values())


async def _awaited(run: Callable[[], Awaitable[None]]) -> None:
    await run()


def show(rows: list[Measured], bars: list[Bar]) -> bool:
    """Print the table and whether each bar holds; return whether all do."""
    print(f"{'path':44} {'contender':24} {'cost':>10} {'unit':8} {'msg/s':>11}")
    for row in rows:
        rate = f"{row.rate:11,.0f}" if isinstance(row, Row) else ""
        print(f"{row.path:44} {row.contender:24} {row.cost:10.2f} {row.unit:8} {rate}".rstrip())
    print()
    verdicts = [judged(bar, rows) for bar in bars]
    for _, sentence in verdicts:
        print(f"  {sentence}")
    return all(held for held, _ in verdicts)


def judged(bar: Bar, rows: list[Measured]) -> tuple[bool, str]:
    """Return whether a bar holds, and how that is said; one whose peer was not run is not broken."""
    ours, theirs = _find(rows, bar.path, bar.contender), _find(rows, bar.path, bar.against)
    if ours is None or (bar.against and theirs is None):
        return True, f"?    {bar.path}: {bar.against or bar.contender} was not run"
    if bar.kind == "faster" and isinstance(ours, Row) and isinstance(theirs, Row):
        times = ours.rate / theirs.rate
        held = times >= bar.most
        said = f"{bar.contender} {times:.2f} times the rate of {bar.against}"
        return held, f"{'ok  ' if held else 'OVER'} {bar.path}: {said}, bar {bar.most:g}"
    if bar.kind == "times" and theirs is not None:
        reached, said = ours.cost / theirs.cost, f"{ours.cost / theirs.cost:.2f} of {bar.against}"
    else:
        reached = ours.cost - (theirs.cost if theirs is not None else 0.0)
        above = f" above {bar.against}" if bar.against else ""
        said = f"{bar.contender} {reached:.2f} {ours.unit}{above}"
    held = reached <= bar.most
    return held, f"{'ok  ' if held else 'OVER'} {bar.path}: {said}, bar {bar.most:g}"


def _find(rows: list[Measured], path: str, contender: str) -> Measured | None:
    return next((row for row in rows if row.path == path and row.contender == contender), None)


def save(name: str, rows: list[Measured], bars: list[Bar]) -> None:
    """Keep what was seen, and how it stands to its bars."""
    RESULTS.mkdir(exist_ok=True)
    seen = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "rows": [row.seen() for row in rows],
        "bars": [judged(bar, rows)[1] for bar in bars],
    }
    text = json.dumps(seen, indent=1, ensure_ascii=False)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
