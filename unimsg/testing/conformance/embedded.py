"""Worlds whose broker lives in this process or in a file: what can be broken there is the line to it.

Law: knows the contract and the fault injection, no backend. A restart closes what a client holds and builds it anew on
what the broker kept; a cut is silence: calls hang, and when it is over their answers are lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from unimsg import registry
from unimsg.client import Client
from unimsg.errors import ConnectionLostError
from unimsg.testing.conformance.world import Victim, World
from unimsg.testing.faults import Faults, around

R = TypeVar("R")


class Line(Faults):
    """The way between one client and its broker.

    While it is whole only a receive costs a task, so that what publishes inline still does.
    """

    def __init__(self) -> None:
        super().__init__()
        self._whole = asyncio.Event()
        self._whole.set()
        self._breaks = 0

    def break_(self) -> None:
        """Nothing passes until `mend`, and what is under way gets no answer any more."""
        self._breaks += 1
        self._whole.clear()
        self.cut()

    def mend(self) -> None:
        """It works again, for new calls."""
        self._whole.set()

    async def meet(self, operation: str, call: Callable[[], Awaitable[R]]) -> R:
        """Make a call, if the line allows it."""
        breaks = self._breaks
        await self._whole.wait()
        try:
            answer = await (self._or_cut(call()) if operation == "receive" else call())
        except ConnectionLostError:
            await self._whole.wait()
            raise
        if self._breaks == breaks:
            return answer
        await self._whole.wait()
        raise ConnectionLostError("the line broke before the answer came")

    async def meet_batch(
        self,
        operation: str,
        entries: Sequence[Any],
        call: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]],
    ) -> Sequence[Any]:
        """Make a call about several entries, if the line allows it."""
        return await self.meet(operation, lambda: call(entries))


class EmbeddedWorld(World):
    """A world without a broker process."""

    long_cut = 1.0

    def __init__(self, url: str, **settings: Any) -> None:
        super().__init__(url, **settings)
        self._lines: list[tuple[Client, Line]] = []

    def connect(self, **options: Any) -> Client:
        """Return one more client, on a line that can be broken."""
        client = super().connect(**options)
        line = Line()
        client._session.backend = around(client.backend, line)  # noqa: SLF001 - this is the one who goes between
        self._lines.append((client, line))
        return client

    async def restart(self) -> None:
        """Break all lines and connect each client anew to what the broker kept."""
        lines = [(client, line) for client, line in self._lines if not client._session.closed]  # noqa: SLF001 - as above
        for _, line in lines:
            line.break_()
        for client, _ in lines:
            await _reconnected(client)
        for _, line in lines:
            line.mend()

    @asynccontextmanager
    async def cut(self) -> AsyncIterator[None]:
        """Break all lines while the block runs."""
        for _, line in self._lines:
            line.break_()
        try:
            yield
        finally:
            for _, line in self._lines:
                line.mend()

    async def victim(self, destination: str, **settings: Any) -> Victim:
        """Start a consumer in a process of its own, where one can reach the broker."""
        if self.capabilities.durability == "memory":
            self.cannot("no other process can reach this broker")
        return await super().victim(destination, **settings)


async def _reconnected(client: Client) -> None:
    """Put a new backend where the old one was, under whatever scripts lie above it."""
    above: Any = client.backend
    while isinstance(above._inner.__dict__.get("_faults"), Faults):  # noqa: SLF001 - as above
        above = above._inner  # noqa: SLF001 - as above
    await above._inner.aclose()  # noqa: SLF001 - as above
    above._inner = registry.plugin(client.options.scheme).build(client.options)  # noqa: SLF001 - as above
    if client._session.opened:  # noqa: SLF001 - as above
        await above._inner.open()  # noqa: SLF001 - as above
