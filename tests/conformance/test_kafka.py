"""Apache Kafka, held to the catalogue, on a real broker.

Law: a group is the cluster's, not the topic's: its members on other topics take part in each rebalance. So each test
has a group of its own, as each service should.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import ClassVar

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.chaos.proxy import Proxy
from tests.conformance.frail import HURT, Frail, hurts, marked
from tools.brokers.kafka import PASSWORD, USER, Cluster
from unimsg.testing.conformance import Catalogue, World
from unimsg.testing.conformance.world import Foreign


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


class FrailKafka(Frail, KafkaWorld):
    """The same on a broker that may be hurt."""

    long_cut = 12.0
    """Longer than a session, and than a request may take; the drills cut for longer."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.proxy = Proxy(cluster.port(1, "SASL_PLAINTEXT"), cluster.advertised(1, "SASL_PLAINTEXT"))
        access = f"auth=plain&user={USER}&password={PASSWORD}&tls=off"
        super().__init__(f"kafka://127.0.0.1:{self.proxy.port}", f"session=6s&{access}")

    def kill(self) -> None:
        self._cluster.kill(1)

    def rise(self) -> None:
        self._cluster.restart(1)


class TestKafka(Catalogue):
    """Everything that the capabilities of Kafka select."""

    MARKED: ClassVar = marked("frail-kafka")

    @pytest.fixture
    async def world(
        self, request: pytest.FixtureRequest, broker_url: Callable[..., str]
    ) -> AsyncIterator[World]:
        hurt = hurts(request)
        async with (
            FrailKafka(request.getfixturevalue("frail_kafka")) if hurt else KafkaWorld(broker_url("kafka"))
        ) as world:
            yield world


def test_what_hurts_a_broker_is_in_the_catalogue() -> None:
    """A renamed test must not fall back to the broker that all share."""
    assert all(hasattr(Catalogue, name) for name in HURT)
