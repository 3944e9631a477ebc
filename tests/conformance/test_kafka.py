"""Apache Kafka, held to the catalogue, on a real broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from unimsg.testing.conformance import Catalogue, World


class TestKafka(Catalogue):
    """Topics that nobody else uses, on the broker that all tests share."""

    @pytest.fixture
    async def world(self, broker_url: Callable[..., str]) -> AsyncIterator[World]:
        url = f"{broker_url('kafka')}?session=6s"
        async with World(url, environment="Apache Kafka 4.4, one broker", tick=0.3) as world:
            yield world
