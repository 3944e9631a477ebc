"""Measuring and showing: contenders take turns, the median of their rounds counts, as CPU time and as a ratio.

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

RESULTS = Path(__file__).parent / "results"


@dataclass
class Row:
    """One contender on one path."""

    path: str
    contender: str
    messages: int
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    @property
    def cost(self) -> float:
        """CPU microseconds a message, median."""
        return statistics.median(self.cpu) / self.messages * 1e6

    @property
    def rate(self) -> float:
        """Messages a second, median."""
        return self.messages / statistics.median(self.wall)


@dataclass(frozen=True)
class Bar:
    """What must hold between two contenders on a path: ours at most so many times the other."""

    path: str
    against: str
    most: float


def compare(
    path: str, contenders: dict[str, tuple[int, Callable[[], Awaitable[None]]]], rounds: int
) -> list[Row]:
    """Run every contender `rounds` times, in turns; each handles its own number of messages."""
    rows = {name: Row(path, name, messages) for name, (messages, _) in contenders.items()}
    for _ in range(rounds):
        for name, (_, run) in contenders.items():
            gc.collect()
            cpu, wall = time.process_time(), time.perf_counter()
            asyncio.run(_awaited(run))
            rows[name].cpu.append(time.process_time() - cpu)
            rows[name].wall.append(time.perf_counter() - wall)
    return list(rows.values())


async def _awaited(run: Callable[[], Awaitable[None]]) -> None:
    await run()


def show(rows: list[Row], bars: list[Bar]) -> bool:
    """Print the table and whether each bar holds; return whether all do."""
    print(f"{'path':44} {'contender':16} {'CPU µs/msg':>10} {'msg/s':>11}")
    for row in rows:
        print(f"{row.path:44} {row.contender:16} {row.cost:10.2f} {row.rate:11,.0f}")
    print()
    held = True
    for bar in bars:
        ours = _find(rows, bar.path, "unimsg")
        theirs = _find(rows, bar.path, bar.against)
        if ours is None or theirs is None:
            print(f"  ?   {bar.path}: {bar.against} was not run")
            continue
        ratio = ours.cost / theirs.cost
        held &= ratio <= bar.most
        mark = "ok " if ratio <= bar.most else "OVER"
        print(f"  {mark} {bar.path}: {ratio:.2f} of {bar.against}, bar {bar.most:g}")
    return held


def _find(rows: list[Row], path: str, contender: str) -> Row | None:
    return next((row for row in rows if row.path == path and row.contender == contender), None)


def save(name: str, rows: list[Row]) -> None:
    """Keep what was seen."""
    RESULTS.mkdir(exist_ok=True)
    seen = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "rows": [asdict(row) | {"cpu_us": round(row.cost, 3), "per_second": round(row.rate)} for row in rows],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(seen, indent=1) + "\n")
