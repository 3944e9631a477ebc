"""A TCP proxy that stands between a drill and a broker, and can be a network that fails.

    async with Proxy(target=9092) as proxy:
        url = f"kafka://127.0.0.1:{proxy.port}"
        proxy.cut()                # nothing passes in either direction, nobody is told
        proxy.mend()               # what was under way arrives late, or with reset=True never: connections are reset
        proxy.reset()              # connections end at once, new ones are served

Law: knows bytes, no protocol; loopback only. While it is cut, connections stay open and new ones are taken and hear
nothing, as behind a router that drops what it gets; that one side closed is told to the other when it is mended.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Self

CHUNK = 64 * 1024
LINGER = struct.pack("ii", 1, 0)
"""Closing with this sends a reset instead of an orderly end."""


class Proxy:
    """One port of ours that leads to one port of a broker.

    Args:
        target: where it leads, on loopback.
        port: where it listens; 0: anywhere that is free.
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self.port = port
        self.taken = 0
        """Connections so far."""
        self._target = target
        self._server: asyncio.Server | None = None
        self._passing = asyncio.Event()
        self._passing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self.reset()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many lead through it now."""
        return len(self._tasks)

    def cut(self) -> None:
        """Let nothing pass any more."""
        self._passing.clear()

    def mend(self, *, reset: bool = False) -> None:
        """Let everything pass again: also what was sent meanwhile, as a network does that delivers late.

        Args:
            reset: end the connections of before instead, with all that was under way on them.
        """
        if reset:
            self.reset()
        self._passing.set()

    def reset(self) -> None:
        """End all connections with a reset; what is under way on them is gone."""
        for writer in self._writers:
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.taken += 1
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._lead(reader, writer)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Open the way to the broker, as soon as there is one, and pass on in both directions."""
        await self._passing.wait()
        there, back = await asyncio.open_connection("127.0.0.1", self._target, limit=CHUNK)
        self._writers.add(back)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, back))
                both.create_task(self._pass(there, writer))
        except* OSError:  # one side is gone, and so is the other
            writer.transport.abort()
        finally:
            back.transport.abort()
            self._writers.discard(back)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await self._passing.wait()
            writer.write(data)
            await writer.drain()
        await self._passing.wait()
        writer.close()
