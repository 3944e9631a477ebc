"""A proxy that tears a connection in the middle of what is under way: half of a frame arrives, and nothing after it.

Law: as `proxy`, bytes and no protocol: what is torn is named by the bytes that stand in its middle.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from tests.chaos.proxy import CHUNK, Proxy

Way = Literal["to the broker", "from the broker"]


class Torn(Proxy):
    """A proxy whose connections can be torn."""

    def __init__(self, target: int, port: int = 0) -> None:
        super().__init__(target, port)
        self._tear: tuple[Way, bytes, asyncio.Future[None]] | None = None

    async def tear(self, way: Way, marker: bytes) -> None:
        """Let the next such marker pass by half and end its connection on both sides; returns when that was done."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tear = way, marker, done
        await done

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_the_broker = writer.get_extra_info("peername")[1] == self._target
        way: Way = "to the broker" if to_the_broker else "from the broker"
        while data := await reader.read(CHUNK):
            await self._passing.wait()
            if self._tear is not None and self._tear[0] == way and self._tear[1] in data:
                _, marker, done = self._tear
                self._tear = None
                writer.write(data[: data.index(marker) + len(marker) // 2])
                await writer.drain()
                done.set_result(None)
                raise ConnectionResetError("torn")
            writer.write(data)
            await writer.drain()
        await self._passing.wait()
        writer.close()
