"""Network: a way to a broker that can be torn, held up and closed while a drill or a test runs.

Law: bytes only, no protocol. What is torn ends in the middle of what a marker names, as a lost machine ends it: both
sides are reset. In a hole nobody is told anything: connections stay, new ones too, and nothing passes.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal, Self

Direction = Literal["to the broker", "from the broker"]
CHUNK = 1 << 16
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing sends a reset, and throws away what is still to be sent."""


class Network:
    """Stands before one port of this machine.

    Args:
        port: where the broker listens.

    Attributes:
        port: where clients connect instead.
        torn: how many connections were torn.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._passes = asyncio.Event()
        self._passes.set()
        self._tear: tuple[Direction, bytes, asyncio.Future[None]] | None = None
        self._lines: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.torn = 0

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)

    async def open(self) -> None:
        """Let clients connect, again at the same port after `close`."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Refuse new connections and reset those that there are."""
        if self._server is not None:
            self._server.close()
        self.reset()

    def reset(self) -> None:
        """Reset every connection; new ones are let through."""
        for writer in list(self._writers):
            _reset(writer)

    async def tear(self, direction: Direction, marker: bytes) -> None:
        """Reset the next connection in the middle of this marker; returns when that was done."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tear = direction, marker, done
        await done

    @asynccontextmanager
    async def hole(self) -> AsyncIterator[None]:
        """Nothing passes while the block runs, and nobody is told; afterwards it all does."""
        self._passes.clear()
        try:
            yield
        finally:
            self._passes.set()

    # ------------------------------------------------------------ one connection

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = asyncio.current_task()
        assert line is not None
        self._lines.add(line)
        line.add_done_callback(self._lines.discard)
        self._writers.add(writer)
        other: asyncio.StreamWriter | None = None
        try:
            await self._passes.wait()
            there, other = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(other)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, other, "to the broker"))
                both.create_task(self._pass(there, writer, "from the broker"))
        except (OSError, BaseExceptionGroup):
            pass  # one side ended: so does the other
        finally:
            for end in (writer, other):
                if end is not None:
                    self._writers.discard(end)
                    end.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        while chunk := await reader.read(CHUNK):
            await self._passes.wait()
            if self._tear is not None and self._tear[0] == direction and self._tear[1] in chunk:
                _, marker, done = self._tear
                self._tear = None
                writer.write(chunk[: chunk.index(marker) + len(marker) // 2])
                await writer.drain()
                self.torn += 1
                done.set_result(None)
                raise ConnectionResetError
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
