"""What the tests on SQS share: an emulator, and a proxy before it that does what no emulator does.

Law: one emulator for all; queues have names that nobody else uses.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import pytest

import unimsg
from tests.sqs.aws_faults import FaultProxy
from tests.sqs.worlds import url_of
from unimsg.spi import Topology

MakeQueue: TypeAlias = Callable[[], Awaitable[str]]


@pytest.fixture
def endpoint(broker_url: Callable[..., str]) -> str:
    """MiniStack."""
    return broker_url("ministack")


@pytest.fixture
async def proxy(endpoint: str) -> AsyncIterator[FaultProxy]:
    """A proxy that verifies signatures and, until told otherwise, passes everything on."""
    async with FaultProxy(endpoint, keys={"test": "test"}) as proxy:
        yield proxy


@pytest.fixture(params=["lean", pytest.param("botocore", marks=pytest.mark.drill)])
def transport(request: pytest.FixtureRequest) -> str:
    """Both ways to make calls; the one that is no default in the drills."""
    return str(request.param)


@pytest.fixture(params=["sqs", "sqs+fifo"])
def scheme(request: pytest.FixtureRequest) -> str:
    """Both kinds of queues."""
    return str(request.param)


@pytest.fixture
def url(proxy: FaultProxy, scheme: str, transport: str) -> str:
    """The way through the proxy."""
    return url_of(proxy.url, scheme, f"&transport={transport}&request_timeout=2s&lease=5s")


@pytest.fixture
def make_queue(endpoint: str, scheme: str) -> MakeQueue:
    """Make queues that nobody else uses, past the proxy."""

    async def make() -> str:
        name = f"q-{os.urandom(6).hex()}"
        async with unimsg.connect(url_of(endpoint, scheme)) as client:
            await client.provision(Topology(destination=name))
        return name

    return make


@pytest.fixture
async def queue(make_queue: MakeQueue) -> str:
    """A queue that nobody else uses."""
    return await make_queue()
