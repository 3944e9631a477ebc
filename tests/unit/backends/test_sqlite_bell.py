"""The bell of sqlite: nobody who is about to wait sleeps through a ring."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from unimsg.backends.sqlite.bell import Bell
from unimsg.errors import ClosedError

PLACE = (1, 1)


class _NoFile:
    """Stands in for the writer: no other process is to be heard of here."""

    def peek(self, work: Any) -> Any:
        raise ClosedError("there is no file")


async def _bell() -> Bell:
    writer: Any = _NoFile()
    return Bell(writer)


async def test_a_ring_between_looking_and_waiting_is_heard() -> None:
    """A look takes two turns of the loop longer than a settlement: what was returned meanwhile must not be missed."""
    bell = await _bell()
    rings: tuple[Callable[[], None], ...] = (
        lambda: bell.ring(PLACE, everyone=True),
        lambda: bell.ring_all(PLACE[0]),
    )
    for ring in rings:
        rung = bell.rung(PLACE)
        ring()
        async with asyncio.timeout(5):
            await bell.wait(PLACE, asyncio.get_running_loop().time() + 3600, rung)


async def test_a_ring_before_the_look_wakes_nobody() -> None:
    """What rang before was seen by the look: one waits for the next."""
    bell = await _bell()
    bell.ring(PLACE)
    waiting = asyncio.create_task(
        bell.wait(PLACE, asyncio.get_running_loop().time() + 3600, bell.rung(PLACE))
    )
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    bell.ring(PLACE)
    async with asyncio.timeout(5):
        await waiting
    bell.close()
