"""ActiveMQ Classic, held to the catalogue, on a real broker.

Law: the plain client is a few STOMP frames written by hand on a socket: nothing of ours reads or writes them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar
from urllib.parse import urlsplit

import pytest

from tests.chaos.proxy import Proxy
from tests.conformance.frail import Frail, hurts, marked
from tools.brokers.activemq import PASSWORD, USER, Broker
from tools.brokers.process import free_ports
from unimsg.testing.conformance import Catalogue, World
from unimsg.testing.conformance.world import Foreign

GROUP = "frail-activemq"


class Plain:
    """STOMP by hand, without us."""

    def __init__(self, url: str) -> None:
        self._place = urlsplit(url)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self._place.hostname, self._place.port)
        who = f"login:{self._place.username}\npasscode:{self._place.password}"
        writer.write(f"CONNECT\naccept-version:1.2\nhost:any\n{who}\n\n\0".encode())
        assert (await reader.readuntil(b"\0")).startswith(b"CONNECTED")
        return reader, writer

    async def publish(self, destination: str, message: Foreign, /) -> None:
        """Send one message with a receipt."""
        reader, writer = await self._connect()
        headers = "".join(f"{name}:{value}\n" for name, value in (message.headers or {}).items())
        if message.key is not None:
            headers += f"JMSXGroupID:{message.key}\nunimsg-key:{message.key}\n"
        head = f"SEND\ndestination:/topic/VirtualTopic.{destination}\nreceipt:1\npersistent:true\n{headers}"
        writer.write(f"{head}content-length:{len(message.body)}\n\n".encode() + message.body + b"\0")
        assert b"RECEIPT" in await reader.readuntil(b"\0")
        writer.close()
        await writer.wait_closed()

    async def receive(self, destination: str, group: str | None, count: int, /) -> Sequence[Foreign]:
        """Read and ack."""
        reader, writer = await self._connect()
        queue = f"/queue/Consumer.{group}.VirtualTopic.{destination}"
        writer.write(f"SUBSCRIBE\nid:1\ndestination:{queue}\nack:client-individual\n\n\0".encode())
        found: list[Foreign] = []
        while len(found) < count:
            head = (await reader.readuntil(b"\n\n")).decode().strip("\0\n")
            headers: dict[str, str] = {}
            for line in head.split("\n")[1:]:
                name, _, value = line.partition(":")
                headers.setdefault(name, value)
            body = await reader.readexactly(int(headers["content-length"]))
            found.append(Foreign(body, headers.get("unimsg-key"), headers))
            writer.write(f"ACK\nid:{headers['ack']}\nreceipt:{len(found)}\n\n\0".encode())
            while not re.search(rb"RECEIPT", await reader.readuntil(b"\0")):
                pass
        writer.close()
        await writer.wait_closed()
        return found


NOT_ASKED = {
    "test_what_nobody_can_receive_is_not_confirmed": (
        "with create=true nobody asks whether a group has a queue; without, it is unroutable: see tests/activemq"
    ),
}


class ActiveMQWorld(World):
    """Virtual topics that nobody else uses, on the broker that all tests share.

    It is asked what it has only where a test is about that: each destination of all tests would be told each time.
    """

    def __init__(self, url: str, options: str, environment: str) -> None:
        super().__init__(
            f"{url}?max_body=500KiB&create=true&{options}",
            environment=environment,
            tick=0.3,
            deviations=NOT_ASKED,
            interop=Plain(url),
            nowhere="activemq://127.0.0.1:1",
        )


class FrailActiveMQ(Frail, ActiveMQWorld):
    """The same on a broker that may be hurt."""

    long_cut = 8.0
    """Longer than a silent broker is given where it is to beat every two seconds; the drills cut for longer."""

    def __init__(self, broker: Broker, options: str, environment: str) -> None:
        self._broker = broker
        self.proxy = Proxy(broker.port, *free_ports(1))
        url = f"activemq://{USER}:{PASSWORD}@127.0.0.1:{self.proxy.port}"
        super().__init__(url, f"{options}&heartbeat=2s", environment)

    def kill(self) -> None:
        self._broker.kill()

    def rise(self) -> None:
        self._broker.start()


@asynccontextmanager
async def made(request: pytest.FixtureRequest, options: str, environment: str) -> AsyncIterator[World]:
    """Give the world of a test."""
    if hurts(request):
        chosen: World = FrailActiveMQ(request.getfixturevalue("frail_activemq"), options, environment)
    else:
        chosen = ActiveMQWorld(request.getfixturevalue("broker_url")("activemq"), options, environment)
    async with chosen as world:
        yield world


class TestActiveMQ(Catalogue):
    """Everything that the capabilities of ActiveMQ select, with order by key."""

    MARKED: ClassVar = marked(GROUP)

    @pytest.fixture
    async def world(self, request: pytest.FixtureRequest) -> AsyncIterator[World]:
        async with made(request, "ordering=key", "ActiveMQ Classic 5.19, order by key") as world:
            yield world


class TestActiveMQShared(Catalogue):
    """The same without order: a retry is a delayed copy."""

    MARKED: ClassVar = marked(GROUP)

    @pytest.fixture
    async def world(self, request: pytest.FixtureRequest) -> AsyncIterator[World]:
        async with made(request, "ordering=none", "ActiveMQ Classic 5.19, shared") as world:
            yield world
