"""Apache Kafka, held to the catalogue, on a real broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from unimsg.testing.conformance import Catalogue, World


class TestKafka(Catalogue):
    """Topics that nobody else uses, on the broker that all tests share."""

    @pytest.fixture
    async def world(self, broker_url: Callable[..., str]) -> AsyncIterator[World]:
        async with World(
            f"{broker_url('kafka')}?session=2s", environment="Apache Kafka 4.4, one broker"
        ) as world:
            yield world
