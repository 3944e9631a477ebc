"""Copies: the copy of a message that waits for its retry is written once, however late its server confirms it.

Law: knows no protocol and no server. One that is short of disk or memory answers late, and a copy that was written
again meanwhile would come twice. So a call that writes goes on when nobody waits for it any more, and whoever asks for
a copy of the same original again waits for the same call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence

from unimsg.errors import Error, TimedOutError
from unimsg.spi import Settlement


class Copies:
    """The copies under way of what one connection delivered.

    Args:
        write: writes copies and returns one result each, in order, when the server has answered, or cannot any more.
        backend: what it is called in errors.
    """

    def __init__(
        self, write: Callable[[Sequence[Settlement]], Awaitable[Sequence[Error | None]]], backend: str
    ) -> None:
        self._write = write
        self._backend = backend
        self._calls: dict[Hashable, tuple[asyncio.Task[Sequence[Error | None]], int]] = {}
        self._running: set[asyncio.Task[Sequence[Error | None]]] = set()

    async def write(
        self, wanted: Mapping[Hashable, Settlement], within: float
    ) -> Mapping[Hashable, Error | None]:
        """Return what became of each copy, or that it is not confirmed yet; what is cancelled here goes on there.

        Args:
            wanted: what asks for a copy, by the name of the original.
            within: seconds to wait.
        """
        fresh = [name for name in wanted if name not in self._calls]
        if fresh:
            call = asyncio.create_task(self._carry([wanted[name] for name in fresh]), name="unimsg.copies")
            self._running.add(call)
            call.add_done_callback(self._running.discard)
            self._calls.update((name, (call, at)) for at, name in enumerate(fresh))
        await asyncio.wait({self._calls[name][0] for name in wanted}, timeout=within)
        return {name: self._taken(name) for name in wanted}

    async def _carry(self, settlements: Sequence[Settlement]) -> Sequence[Error | None]:
        try:
            return await self._write(settlements)
        except Error as error:
            return [error] * len(settlements)

    def _taken(self, name: Hashable) -> Error | None:
        call, at = self._calls.get(name, (None, 0))
        if call is None or not call.done():
            return TimedOutError("the copy for its retry is not confirmed yet", backend=self._backend)
        del self._calls[name]
        return call.result()[at]

    def drop(self) -> None:
        """The originals are another's: what is not written need not be."""
        self._calls.clear()
        for call in self._running:
            call.cancel()

    async def aclose(self) -> None:
        """Drop all, and return when that has ended."""
        self.drop()
        await asyncio.gather(*self._running, return_exceptions=True)
