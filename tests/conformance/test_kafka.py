"""Apache Kafka, held to the catalogue, on a real broker.

Law: a group is the cluster's, not the topic's: its members on other topics take part in each rebalance. So each test
has a group of its own, as each service should.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar, Self

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.chaos.proxy import Proxy
from tools.brokers.kafka import PASSWORD, USER, Cluster
from unimsg.testing.conformance import Catalogue, World
from unimsg.testing.conformance.world import Foreign

HURT = (
    "test_a_group_that_is_away_outlives_the_broker",
    "test_a_restart_keeps_each_key_in_order",
    "test_nothing_is_lost_where_a_tenth_fails_and_the_broker_restarts",
    "test_what_is_confirmed_outlives_a_cut_network",
    "test_what_is_confirmed_outlives_the_death_of_the_broker",
    "test_what_nobody_has_received_outlives_the_broker",
)
"""Tests that kill the broker or cut it off: it is one of their own."""


class Plain:
    """aiokafka, without us."""

    def __init__(self, url: str) -> None:
        self._servers = url.removeprefix("kafka://")

    async def publish(self, destination: str, message: Foreign, /) -> None:
        """Send one record."""
        headers = [(name, value.encode()) for name, value in (message.headers or {}).items()]
        key = message.key.encode() if message.key is not None else None
        async with AIOKafkaProducer(bootstrap_servers=self._servers) as producer:
            await producer.send_and_wait(destination, message.body, key, headers=headers)

    async def receive(self, destination: str, group: str | None, count: int, /) -> Sequence[Foreign]:
        """Read and commit."""
        found: list[Foreign] = []
        async with AIOKafkaConsumer(
            destination, bootstrap_servers=self._servers, group_id=group, auto_offset_reset="earliest"
        ) as consumer:
            while len(found) < count:
                record = await consumer.getone()
                headers = {name: value.decode() for name, value in record.headers}
                found.append(Foreign(record.value, record.key.decode() if record.key else None, headers))
            await consumer.commit()
        return found


class KafkaWorld(World):
    """Topics and a group that nobody else uses, on the broker that all tests share."""

    def __init__(self, url: str, options: str = "session=6s") -> None:
        super().__init__(
            f"{url}?{options}",
            environment="Apache Kafka 4.4, one broker",
            tick=0.3,
            interop=Plain(url),
            nowhere="kafka://127.0.0.1:1",
        )
        self._mark = os.urandom(4).hex()

    def group_named(self, word: str) -> str:
        """Return the name of a group of this test alone."""
        return f"{word}-{self._mark}"


class FrailWorld(KafkaWorld):
    """The same on a broker that may be hurt, by way of a proxy."""

    long_cut = 12.0
    """Longer than a session, and than a request may take; the drills cut for longer."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._proxy = Proxy(cluster.port(1, "SASL_PLAINTEXT"), cluster.advertised(1, "SASL_PLAINTEXT"))
        access = f"auth=plain&user={USER}&password={PASSWORD}&tls=off"
        super().__init__(f"kafka://127.0.0.1:{self._proxy.port}", f"session=6s&{access}")

    async def __aenter__(self) -> Self:
        await self._proxy.__aenter__()
        return await super().__aenter__()

    async def __aexit__(self, *raised: object) -> None:
        await super().__aexit__(*raised)
        await self._proxy.__aexit__(*raised)

    async def restart(self) -> None:
        """Kill it as a power cut does."""
        await asyncio.to_thread(self._cluster.kill, 1)
        await asyncio.to_thread(self._cluster.restart, 1)

    @asynccontextmanager
    async def cut(self) -> AsyncIterator[None]:
        """What is sent meanwhile arrives late."""
        self._proxy.cut()
        try:
            yield
        finally:
            self._proxy.mend()


class TestKafka(Catalogue):
    """Everything that the capabilities of Kafka select."""

    MARKED: ClassVar[Mapping[str, Sequence[pytest.MarkDecorator]]] = dict.fromkeys(
        HURT, (pytest.mark.xdist_group("frail-kafka"), pytest.mark.timeout(300))
    )

    @pytest.fixture
    async def world(
        self, request: pytest.FixtureRequest, broker_url: Callable[..., str]
    ) -> AsyncIterator[World]:
        hurt = request.function.__name__ in HURT
        async with (
            FrailWorld(request.getfixturevalue("frail_kafka")) if hurt else KafkaWorld(broker_url("kafka"))
        ) as world:
            yield world


def test_what_hurts_a_broker_is_in_the_catalogue() -> None:
    """A renamed test must not fall back to the broker that all share."""
    assert all(hasattr(Catalogue, name) for name in HURT)
