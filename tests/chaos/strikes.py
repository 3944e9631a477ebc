"""Strikes: what a drill does to brokers and to the network, when a part of the messages had its effect.

Law: knows no broker; how one is killed and started again is handed in. Each strike is noted when it falls.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence

from tests.chaos.drill import Progress
from tests.chaos.proxy import Proxy

THIRDS = (1 / 3, 2 / 3)


async def kill(
    progress: Progress,
    die: Callable[[], None],
    rise: Callable[[], None],
    *,
    at: Sequence[float] = THIRDS,
    pause: float = 0.0,
) -> None:
    """Kill a broker, and start it again after a pause, each time a part is reached.

    Args:
        progress: of the drill.
        die: blocks until it is dead.
        rise: blocks until it answers.
        at: the parts, rising.
        pause: seconds for which others, if there are any, go on without it.
    """
    for part in at:
        await progress.reach(part)
        progress.note("broker killed")
        await asyncio.to_thread(die)
        await asyncio.sleep(pause)
        await asyncio.to_thread(rise)


async def block(
    progress: Progress,
    what: str,
    begin: Callable[[], None],
    end: Callable[[], None],
    seconds: float,
    *,
    at: Sequence[float] = THIRDS,
) -> None:
    """Keep a broker from working for so long each time a part is reached; `begin` and `end` block until it is so."""
    for part in at:
        await progress.reach(part)
        await asyncio.to_thread(begin)
        progress.note(what)
        try:
            await asyncio.sleep(seconds)
        finally:
            await asyncio.to_thread(end)


async def cut(progress: Progress, proxy: Proxy, seconds: float, *, at: Sequence[float] = THIRDS) -> None:
    """Cut the network for so long each time a part is reached.

    What was under way arrives late the first time, and is gone with its connections the next, and so on.
    """
    for part, (what, reset) in zip(at, itertools.cycle(_cuts(seconds)), strict=False):
        await progress.reach(part)
        progress.note(what)
        proxy.cut()
        try:
            await asyncio.sleep(seconds)
        finally:
            proxy.mend(reset=reset)


def cuts(seconds: float) -> dict[str, int]:
    """Return what is noted of two cuts that came in time."""
    return {what: 1 for what, _ in _cuts(seconds)}


def _cuts(seconds: float) -> Sequence[tuple[str, bool]]:
    what = f"network cut for {seconds:g} s"
    return (what, False), (f"{what}, then reset", True)
