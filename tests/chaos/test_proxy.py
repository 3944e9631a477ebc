"""The proxy of the drills does what a drill relies on: it holds, delivers late, and resets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.chaos.proxy import Proxy

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[Proxy], Awaitable[Ends]]


class Echo:
    """A server that answers with what it got."""

    def __init__(self) -> None:
        self.got = b""
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the other side ends."""
        try:
            while data := await reader.read(65536):
                self.got += data
                writer.write(data)
        except ConnectionResetError:
            pass
        self.ended.set()
        writer.close()


@pytest.fixture
async def echo() -> Echo:
    """See there."""
    return Echo()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    """A way to it."""
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as made:
        yield made


@pytest.fixture
async def connected() -> AsyncIterator[Connect]:
    """Give connections on which something has passed already, and close them."""
    made: list[asyncio.StreamWriter] = []

    async def connect(proxy: Proxy) -> Ends:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        made.append(writer)
        await asked(reader, writer, b"hello")
        return reader, writer

    yield connect
    for writer in made:
        writer.close()


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, what: bytes) -> None:
    """It comes back as it was."""
    writer.write(what)
    assert await reader.readexactly(len(what)) == what


async def nothing_from(reader: asyncio.StreamReader) -> None:
    """It is not closed, and nothing comes: as sure as one can be of what does not happen."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.2)


async def test_it_passes_what_it_gets_and_tells_of_the_end(
    proxy: Proxy, echo: Echo, connected: Connect
) -> None:
    """In both directions; more than a buffer holds."""
    reader, writer = await connected(proxy)
    much = bytes(range(256)) * 4096
    writer.write(much)

    assert await reader.readexactly(len(much)) == much
    writer.close()
    await echo.ended.wait()
    assert await reader.read() == b""


async def test_cut_it_holds_everything_and_mended_it_delivers_late(
    proxy: Proxy, echo: Echo, connected: Connect
) -> None:
    """Old connections and new ones, and the end of one too."""
    reader, writer = await connected(proxy)
    _, ending = await connected(proxy)
    proxy.cut()
    writer.write(b"late")
    ending.close()
    newer, also = await asyncio.open_connection("127.0.0.1", proxy.port)
    also.write(b"new")
    await nothing_from(reader)
    await nothing_from(newer)
    assert b"late" not in echo.got
    assert b"new" not in echo.got
    assert not echo.ended.is_set()

    proxy.mend()
    assert await reader.readexactly(4) == b"late"
    assert await newer.readexactly(3) == b"new"
    await echo.ended.wait()
    also.close()


async def test_mended_with_a_reset_what_was_under_way_is_gone(
    proxy: Proxy, echo: Echo, connected: Connect
) -> None:
    """Both sides are told, by a reset; new connections are served."""
    reader, writer = await connected(proxy)
    proxy.cut()
    writer.write(b"gone")
    await nothing_from(reader)
    proxy.mend(reset=True)

    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    await echo.ended.wait()
    assert b"gone" not in echo.got
    await asked(*await connected(proxy), b"again")


async def test_a_reset_alone_cuts_nothing(proxy: Proxy, connected: Connect) -> None:
    """The next connection works at once."""
    reader, _ = await connected(proxy)
    proxy.reset()

    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    await asked(*await connected(proxy), b"again")
    assert proxy.taken == 2


async def test_closed_it_leaves_nothing_behind(echo: Echo, connected: Connect) -> None:
    """Nor does it wait for anybody."""
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with server:
        async with Proxy(server.sockets[0].getsockname()[1]) as proxy:
            await connected(proxy)
            proxy.cut()
            assert proxy.connections == 1
        assert proxy.connections == 0


async def test_a_broker_that_is_down_is_a_connection_that_ends(echo: Echo) -> None:
    """As it would be without the proxy, but for the moment."""
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with Proxy(port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await reader.read(1) == b""
        writer.close()
