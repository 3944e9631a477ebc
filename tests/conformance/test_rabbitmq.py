"""RabbitMQ, held to the catalogue, on a real broker: quorum and classic queues, shared and with one active consumer.

Law: each test has exchanges and queues that nobody else uses; the retry ladder is the virtual host's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

import pika
import pytest
from pika.spec import BasicProperties

from tests.chaos.proxy import Proxy
from tests.conformance.frail import Frail, hurts, marked
from tools.brokers.process import free_ports
from tools.brokers.rabbitmq import AGED, PASSWORD, USER, Broker
from unimsg.testing.conformance import Catalogue, World
from unimsg.testing.conformance.world import Foreign

GROUP = "frail-rabbitmq"


class Plain:
    """pika's blocking connection, without us."""

    def __init__(self, url: str) -> None:
        self._parameters = pika.URLParameters(f"{url}/%2F")

    async def publish(self, destination: str, message: Foreign, /) -> None:
        """Publish one message."""
        await asyncio.to_thread(self._publish, destination, message)

    def _publish(self, destination: str, message: Foreign) -> None:
        with pika.BlockingConnection(self._parameters) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            properties = BasicProperties(headers=dict(message.headers or {}))
            channel.basic_publish(destination, message.key or "", message.body, properties)

    async def receive(self, destination: str, group: str | None, count: int, /) -> Sequence[Foreign]:
        """Consume and ack."""
        return await asyncio.to_thread(self._receive, f"{destination}.{group}", count)

    def _receive(self, queue: str, count: int) -> Sequence[Foreign]:
        found: list[Foreign] = []
        with pika.BlockingConnection(self._parameters) as connection:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=count)
            for method, properties, body in channel.consume(queue):
                headers = {name: str(value) for name, value in (properties.headers or {}).items()}
                found.append(Foreign(body, method.routing_key or None, headers))
                channel.basic_ack(method.delivery_tag)
                if len(found) == count:
                    break
        return found


class RabbitWorld(World):
    """Exchanges and queues that nobody else uses, on the broker that all tests share."""

    def __init__(self, url: str, options: str, kind: str) -> None:
        super().__init__(
            f"{url}?{options}",
            environment=f"RabbitMQ 4.0, one node, {kind}",
            tick=0.3,
            interop=Plain(url),
            nowhere="amqp://127.0.0.1:1",
        )


class FrailRabbit(Frail, RabbitWorld):
    """The same on a broker that may be hurt."""

    long_cut = 8.0
    """Longer than two heartbeats of two seconds; the drills cut for longer."""

    def __init__(self, broker: Broker, options: str, kind: str) -> None:
        self._broker = broker
        self.proxy = Proxy(broker.port, *free_ports(1))
        url = f"amqp://{USER}:{PASSWORD}@127.0.0.1:{self.proxy.port}"
        super().__init__(url, f"{options}&heartbeat=2s", kind)

    def kill(self) -> None:
        self._broker.kill()

    def rise(self) -> None:
        self._broker.start()

    async def restart(self) -> None:
        await asyncio.sleep(AGED)  # nothing that can be asked tells of it
        await super().restart()


@asynccontextmanager
async def made(request: pytest.FixtureRequest, options: str, kind: str) -> AsyncIterator[World]:
    """Give the world of a test."""
    if hurts(request):
        chosen: World = FrailRabbit(request.getfixturevalue("frail_rabbitmq"), options, kind)
    else:
        chosen = RabbitWorld(request.getfixturevalue("broker_url")("rabbitmq"), options, kind)
    async with chosen as world:
        yield world


class TestQuorum(Catalogue):
    """Everything that the capabilities of shared quorum queues select; what hurts a broker is a drill here."""

    MARKED: ClassVar = marked(GROUP, pytest.mark.drill)

    @pytest.fixture
    async def world(self, request: pytest.FixtureRequest) -> AsyncIterator[World]:
        async with made(request, "wait=2s", "quorum queues") as world:
            yield world


class TestQuorumInOrder(Catalogue):
    """Everything that the capabilities of quorum queues with one active consumer select."""

    MARKED: ClassVar = marked(GROUP)

    @pytest.fixture
    async def world(self, request: pytest.FixtureRequest) -> AsyncIterator[World]:
        async with made(request, "wait=2s&ordering=key", "quorum queues in order") as world:
            yield world


class TestClassic(Catalogue):
    """The same of classic queues with one active consumer; what hurts a broker is a drill here."""

    MARKED: ClassVar = marked(GROUP, pytest.mark.drill)

    @pytest.fixture
    async def world(self, request: pytest.FixtureRequest) -> AsyncIterator[World]:
        options = "wait=2s&ordering=key&queues=classic"
        async with made(request, options, "classic queues in order") as world:
            yield world
