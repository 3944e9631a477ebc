"""What the tests on a real Kafka share: topics of their own, and where each listener of the broker is.

Law: one broker for all; nothing here is known to another test.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

import unimsg
from unimsg.spi import Topology

MakeTopic: TypeAlias = Callable[..., Awaitable[str]]


@pytest.fixture
def url(broker_url: Callable[..., str]) -> str:
    """The broker in plain text."""
    return broker_url("kafka")


@pytest.fixture
def group() -> str:
    """A group of this test alone: those of one group take part in each rebalance, whatever they read."""
    return f"g-{os.urandom(4).hex()}"


@pytest.fixture
def listener(broker_url: Callable[..., str]) -> Callable[[str], str]:
    """Give the servers of another listener."""
    return lambda name: broker_url("kafka", what=name)


@pytest.fixture
def certificates(listener: Callable[[str], str]) -> Path:
    """The folder with the certificates of the test's own authority."""
    return Path(listener("CERTIFICATES"))


@pytest.fixture
async def topic(url: str) -> AsyncIterator[MakeTopic]:
    """Make topics that nobody else uses."""
    async with unimsg.connect(url) as client:

        async def make(**settings: str) -> str:
            name = f"t-{os.urandom(6).hex()}"
            shape = {"partitions": "4", "replication": "1"} | settings
            await client.provision(Topology(destination=name, settings=shape))
            return name

        yield make
