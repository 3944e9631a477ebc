"""Apache Kafka, held to the catalogue, on a real broker.

Law: a group is the cluster's, not the topic's: its members on other topics take part in each rebalance. So each test
has a group of its own, as each service should.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable

import pytest

from unimsg.testing.conformance import Catalogue, World


class KafkaWorld(World):
    """Topics and a group that nobody else uses, on the broker that all tests share."""

    def __init__(self, url: str) -> None:
        super().__init__(f"{url}?session=6s", environment="Apache Kafka 4.4, one broker", tick=0.3)
        self._group = f"g-{os.urandom(4).hex()}"

    @property
    def group(self) -> str:
        """The group of this test."""
        return self._group


class TestKafka(Catalogue):
    """Everything that the capabilities of Kafka select."""

    @pytest.fixture
    async def world(self, broker_url: Callable[..., str]) -> AsyncIterator[World]:
        async with KafkaWorld(broker_url("kafka")) as world:
            yield world
