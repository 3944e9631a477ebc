"""RabbitMQ, held to the catalogue, on a real broker: quorum and classic queues, shared and with one active consumer.

Law: each test has exchanges and queues that nobody else uses; the retry ladder is the virtual host's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import pika
import pytest
from pika.spec import BasicProperties

from unimsg.testing.conformance import Catalogue, World
from unimsg.testing.conformance.world import Foreign


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

    def __init__(
        self, url: str, options: str, kind: str, deviations: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(
            f"{url}?{options}",
            environment=f"RabbitMQ 4.0, one node, {kind}",
            tick=0.3,
            deviations=deviations,
            interop=Plain(url),
            nowhere="amqp://127.0.0.1:1",
        )


class TestQuorum(Catalogue):
    """Everything that the capabilities of shared quorum queues select."""

    @pytest.fixture
    async def world(self, broker_url: Callable[..., str]) -> AsyncIterator[World]:
        async with RabbitWorld(broker_url("rabbitmq"), "wait=2s", "quorum queues") as world:
            yield world


class TestQuorumInOrder(Catalogue):
    """Everything that the capabilities of quorum queues with one active consumer select."""

    @pytest.fixture
    async def world(self, broker_url: Callable[..., str]) -> AsyncIterator[World]:
        url = broker_url("rabbitmq")
        async with RabbitWorld(url, "wait=2s&ordering=key", "quorum queues in order") as world:
            yield world


class TestClassic(Catalogue):
    """Everything that the capabilities of classic queues with one active consumer select."""

    @pytest.fixture
    async def world(self, broker_url: Callable[..., str]) -> AsyncIterator[World]:
        url = broker_url("rabbitmq")
        options = "wait=2s&ordering=key&queues=classic"
        async with RabbitWorld(url, options, "classic queues in order") as world:
            yield world
