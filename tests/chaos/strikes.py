"""Strikes: what a drill does to brokers and to the network, when a part of the messages had its effect.

Law: knows no broker; how one is killed and started again is handed in. Each strike is noted before it falls.
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
        progress.note(what)
        await asyncio.to_thread(begin)
        try:
            await asyncio.sleep(seconds)
        finally:
            await asyncio.to_thread(end)


async def cut(progress: Progress, proxy: Proxy, seconds: float, *, at: Sequence[float] = THIRDS) -> None:
    """Cut the network for so long each time a part is reached.

    What was under way arrives late the first time, and is gone with its connections the next, and so on.
    """
    for part, reset in zip(at, itertools.cycle((False, True)), strict=False):
        await progress.reach(part)
        progress.note(f"network cut for {seconds:g} s{', then reset' if reset else ''}")
        proxy.cut()
        try:
            await asyncio.sleep(seconds)
        finally:
            proxy.mend(reset=reset)
